"""A model that diffusers' own video-to-video pipeline runs as it is: a text encoder, a transformer and a VAE."""

from __future__ import annotations

import html
import logging
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_modelslab.local.families.animatediff.prompt_embeddings import PromptMemory
from airflow_provider_modelslab.local.families.base import LoadedModel, run_padded
from airflow_provider_modelslab.local.models.inspection import weights_in
from airflow_provider_modelslab.local.models.specs import ModelSpec
from airflow_provider_modelslab.local.plan import DenoisingPass, Plan
from airflow_provider_modelslab.local.runtime.compile import compile_forward
from airflow_provider_modelslab.local.runtime.devices import storage_bytes
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers, load_transformers
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

if TYPE_CHECKING:
    from PIL.Image import Image

    from airflow_provider_modelslab.local.models.catalog import Catalog

__all__ = ["PipelineModel"]

log = logging.getLogger(__name__)


class PipelineModel(LoadedModel):
    """The pipeline with its weights. A subclass says how its parts are loaded and how it reads a prompt."""

    multiple: ClassVar[int]
    """Sides must be a multiple of this: a pixel of the latents, times the transformer's patch."""

    approximations: ClassVar[frozenset[str]] = frozenset({"guidance_until"})
    """The approximations of :class:`~.optimizations.Optimizations` that it has."""

    tokens: ClassVar[int]
    """The length that a prompt is padded and cut to."""

    def __init__(
        self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations | None = None
    ) -> None:
        speed, exact = speed or Optimizations(), Optimizations()
        left_out = [name for name in speed.approximations() if name not in self.approximations]
        if left_out:
            log.warning("%s: its family does not support %s, which is ignored", spec.id, ", ".join(left_out))
        self._speed = replace(speed, **{name: getattr(exact, name) for name in left_out})
        self._prompts = PromptMemory()
        self._noted: dict[str, Any] = {}
        load_transformers()
        kind, variant = weights_in(spec.folder / "transformer", allow_pickle=catalog.allow_pickle)
        options = {"use_safetensors": kind == "safetensors", "variant": variant, "local_files_only": True}
        self.pipeline = self.load(load_diffusers(), spec, dtype, options).to(device)
        self.pipeline.set_progress_bar_config(disable=True)
        if self._speed.compile:
            compile_forward(self.pipeline.transformer, spec.id)

    @abstractmethod
    def load(self, diffusers: Any, spec: ModelSpec, dtype: Any, options: dict[str, Any]) -> Any:
        """The pipeline from the model's folder, on the CPU.

        :param options: for each ``from_pretrained``.
        """

    @abstractmethod
    def encode(self, encoder: Any, ids: Any, mask: Any) -> Any:
        """The text encoder's states for a padded prompt: (1, tokens, width).

        :param mask: 1 for the prompt's tokens, 0 for the padding.
        """

    @property
    def bytes(self) -> int:
        """See :attr:`~.families.LoadedModel.bytes`."""
        parts = (self.pipeline.transformer, self.pipeline.vae, self.pipeline.text_encoder)
        return storage_bytes(tensor for part in parts for tensor in part.state_dict().values())

    def prepare(self, plan: Plan) -> None:
        """Nothing to put in: such a model has no exchangeable parts."""

    def run(self, frames: Sequence[Image], job: DenoisingPass, *, on_step: Callable[[int], None]) -> list[Image]:
        """See :meth:`~.families.LoadedModel.run`."""
        made = run_padded(frames, self.multiple, lambda padded: self._run(padded, job, on_step))
        self._noted = self._notes(job)
        return made

    def notes(self) -> dict[str, Any]:
        """``approximations``, where there were any; see :class:`~.optimizations.Optimizations`."""
        return dict(self._noted)

    def _notes(self, job: DenoisingPass) -> dict[str, Any]:
        approximations = self._speed.approximations(job)
        return {"approximations": approximations} if approximations else {}

    def _run(self, frames: list[Image], job: DenoisingPass, on_step: Callable[[int], None]) -> Any:
        given = {"video": frames, "width": frames[0].width, "height": frames[0].height, "output_type": "np"}
        return self._call(job, on_step, **given)[0]

    def _strength(self, job: DenoisingPass) -> float:
        """Of which diffusers' ``int(steps * strength)`` is right."""
        return min(1.0, (job.steps_run + 0.5) / job.steps)

    def _call(self, job: DenoisingPass, on_step: Callable[[int], None], **given: Any) -> Any:
        """What the pipeline makes of the clip that is given."""
        import torch

        guided_steps = self._speed.guided_steps(job.steps_run) if job.guidance_scale > 1 else 0
        guided = guided_steps > 0

        def step_end(pipeline: Any, index: int, _timestep: Any, _tensors: dict[str, Any]) -> dict[str, Any]:
            if index + 1 == guided_steps:
                pipeline._guidance_scale = 1.0  # which the pipeline asks for in each step
            on_step(index + 1)
            return {}

        return self.pipeline(
            **given,
            num_inference_steps=job.steps,
            strength=self._strength(job),
            guidance_scale=job.guidance_scale if guided else 1.0,
            prompt_embeds=self._embed(job.prompt),
            negative_prompt_embeds=self._embed(job.negative_prompt) if guided else None,
            generator=torch.Generator("cpu").manual_seed(job.seed),
            callback_on_step_end=step_end,
        ).frames

    def _embed(self, prompt: str) -> Any:
        """What the transformer gets to see of a prompt, remembered.

        As in diffusers, whose own way needs the package ftfy for some models, to repair broken Unicode; that is left to
        the caller.
        """
        import torch

        tokenizer, encoder = self.pipeline.tokenizer, self.pipeline.text_encoder
        text = re.sub(r"\s+", " ", html.unescape(html.unescape(prompt))).strip()
        tokens = tokenizer(text, padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt")
        wanted = len(tokenizer(text).input_ids)
        if wanted > self.tokens:
            log.warning(
                "The prompt has %d tokens; the text encoder reads the first %d and drops the rest", wanted, self.tokens
            )

        def encode() -> Any:
            with torch.no_grad():
                return self.encode(
                    encoder, tokens.input_ids.to(encoder.device), tokens.attention_mask.to(encoder.device)
                )

        return self._prompts.get(tuple(tokens.input_ids[0].tolist()), encode)
