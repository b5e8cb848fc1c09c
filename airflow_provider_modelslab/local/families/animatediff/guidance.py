"""One step's prediction of the noise: with or without guidance, in one call of the UNet or two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_modelslab.local.families.animatediff.deep_cache import DeepCache
from airflow_provider_modelslab.local.families.animatediff.prompt_attention import rows
from airflow_provider_modelslab.local.families.animatediff.prompt_embeddings import PromptMemory
from airflow_provider_modelslab.local.families.windows import ContextWindows
from airflow_provider_modelslab.local.plan import DenoisingPass
from airflow_provider_modelslab.local.runtime.oom_fallback import Portions
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

__all__ = ["Means", "NoisePredictor"]

_NEGATIVE, _PROMPT = slice(0, 1), slice(1, 2)


@dataclass(slots=True)
class Means:
    """What a run may use beside the pipeline.

    :param speed: the approximations.
    :param prompts: embeddings from earlier runs.
    :param portions: how much to take at a time.
    :param deep: the UNet's deep states of the step before, if ``speed`` reuses them; not with several windows, which
        are others in each step.
    :param windows: what the UNet sees at once; ``None`` for all frames.
    :param pause: called before each window.
    """

    speed: Optimizations = field(default_factory=Optimizations)
    prompts: PromptMemory | None = None
    portions: Portions = field(default_factory=Portions)
    deep: DeepCache | None = None
    windows: ContextWindows | None = None
    pause: Callable[[], None] = lambda: None

    def notes(self, job: DenoisingPass) -> dict[str, Any]:
        """``approximations`` and ``memory_fallback`` of a pass, if any, for the result's meta."""
        noted = {"approximations": self.speed.approximations(job), "memory_fallback": self.portions.notes}
        return {name: value for name, value in noted.items() if value}


class NoisePredictor:
    """Predicts the noise of a clip's latents, step by step.

    :param states: from :func:`~.prompt_attention.prompt_states`, with guidance for the negative prompt and the prompt.
    """

    def __init__(self, pipeline: Any, states: Any, job: DenoisingPass, means: Means) -> None:
        self._unet = pipeline.unet
        self._scheduler = pipeline.scheduler
        self._both = states
        self._scale = job.guidance_scale
        self._means = means
        self._guided = means.speed.guided_steps(job.steps_run) if job.guidance_scale > 1 else 0
        self._prompt = states if job.guidance_scale <= 1 else rows(states, _PROMPT)

    def __call__(self, latents: Any, timestep: Any, index: int) -> Any:
        """The noise in ``latents``, of the same shape.

        :param index: the step's number in its round, from 0.
        """
        latents = self._scheduler.scale_model_input(latents, timestep)
        windows = self._means.windows
        if windows is None:
            return self._predict(latents, timestep, index)

        def predict(window: Any) -> Any:
            self._means.pause()
            return self._predict(window, timestep, index)

        return windows.average(latents, index, predict)

    def _predict(self, latents: Any, timestep: Any, index: int) -> Any:
        import torch

        if index >= self._guided:
            return self._call(latents, timestep, self._prompt, index, _PROMPT)

        def whole() -> Any:
            return self._call(torch.cat([latents] * 2), timestep, self._both, index, None).chunk(2)

        def split() -> Any:
            negative = self._call(latents, timestep, rows(self._both, _NEGATIVE), index, _NEGATIVE)
            return negative, self._call(latents, timestep, self._prompt, index, _PROMPT)

        without, with_prompt = self._means.portions.guided(whole, split)
        return without + self._scale * (with_prompt - without)

    def _call(self, latents: Any, timestep: Any, states: Any, index: int, which: slice | None) -> Any:
        deep = self._means.deep
        if deep is not None:
            deep.begin(str(which), reuse=index % self._means.speed.reuse_deep != 0)
        return self._unet(latents, timestep, encoder_hidden_states=states).sample
