"""What is really going to be run for a request: every setting with its value in force."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.families.animatediff.freeinit import ITERATIONS
from airflow_provider_modelslab.local.media.decoder.frames import fitting_size
from airflow_provider_modelslab.local.models.builtin import NO_ADAPTER
from airflow_provider_modelslab.local.models.specs import LoraSpec, ModelSpec, MotionSpec

__all__ = [
    "UNSET_SEED",
    "DenoisingPass",
    "LoraUse",
    "Plan",
    "denoising_steps",
    "frames_of",
    "plan_passes",
    "upscaled_size",
]

log = logging.getLogger(__name__)

UNSET_SEED = -1
"""Stands for a seed that is drawn when the work begins."""

_MULTIPLE = 8


@dataclass(frozen=True, slots=True)
class DenoisingPass:
    """One run over the clip.

    :param steps: the length of the schedule; ``strength`` decides how much of its end is run.
    :param strength: 0 to 1; 0 runs nothing.
    :param guidance_scale: 1 and less turn classifier-free guidance off: the negative prompt is then not used.
    :param scheduler: a name of :data:`~.schedulers.PRESETS`, or ``own`` for the one saved with the model.
    :param all_steps: run all ``steps``, from the noise level that ``strength`` says.
    :param iterations: rounds of FreeInit; 1 is a plain run.
    :param width: the frames' width in pixels; ``height`` likewise.
    """

    prompt: str
    negative_prompt: str
    steps: int
    strength: float
    guidance_scale: float
    seed: int
    width: int
    height: int
    clip_skip: int | None = None
    scheduler: str = "ddim"
    all_steps: bool = False
    iterations: int = 1

    @property
    def steps_run(self) -> int:
        """Steps of one round."""
        if self.all_steps and self.strength > 0:
            return self.steps
        return denoising_steps(self.steps, self.strength)

    @property
    def calls(self) -> int:
        """Steps in all, which is how often the model is called."""
        return self.steps_run * self.iterations


@dataclass(frozen=True, slots=True)
class LoraUse:
    """A LoRA with its strength, and the attribute that asked for it."""

    spec: LoraSpec
    strength: float
    field: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A request as it is run.

    :param motion: the motion module to put in; ``None`` leaves the model's own.
    :param passes: the main one, and the upscaling pass if one was asked for.
    :param frames: frames of the clip.
    """

    model: ModelSpec
    passes: tuple[DenoisingPass, ...]
    frames: int
    fps: int
    motion: MotionSpec | None = None
    loras: tuple[LoraUse, ...] = ()

    @property
    def calls(self) -> int:
        """Denoising steps in all."""
        return sum(job.calls for job in self.passes)

    def with_seed(self, seed: int) -> Plan:
        """The same with ``seed`` where none was given."""
        passes = tuple(replace(job, seed=seed) if job.seed == UNSET_SEED else job for job in self.passes)
        return replace(self, passes=passes)

    def with_size(self, width: int, height: int) -> Plan:
        """The same for frames of another size; what upscales them keeps their aspect ratio within the size it had."""
        main, *others = self.passes
        sizes = [(width, height), *(fitting_size(width, height, (job.width, job.height)) for job in others)]
        passes = tuple(
            replace(job, width=wide, height=high) for job, (wide, high) in zip((main, *others), sizes, strict=True)
        )
        return replace(self, passes=passes)

    def used(self) -> dict[str, Any]:
        """The request's attributes with the values in force, for the result's meta."""
        main, upscale = self.passes[0], self.passes[1] if len(self.passes) > 1 else None
        values: dict[str, Any] = {
            "model_id": self.model.id,
            "num_inference_steps": main.steps,
            "guidance_scale": main.guidance_scale,
            "seed": main.seed,
            "scheduler": main.scheduler,
            "denoising_steps": self.calls,
            "model_family": self.model.family,
            "motion_module": self.motion.id if self.motion else self.model.own_motion,
            "adapter_lora": next((use.spec.id for use in self.loras if use.field == "adapter_lora"), NO_ADAPTER),
            **self._loras_used("lora_models", "lora_strength"),
            **self._loras_used("motion_loras", "motion_lora_strength"),
            "improved_sampling_iterations": main.iterations,
            "upscale_width": upscale.width if upscale else None,
            "upscale_height": upscale.height if upscale else None,
        }
        if upscale:
            values["upscale_num_inference_steps"] = upscale.steps
            values["upscale_guidance_scale"] = upscale.guidance_scale
        return values

    def _loras_used(self, names: str, strengths: str) -> dict[str, Any]:
        uses = [use for use in self.loras if use.field == names]
        if not uses:
            return {names: None}
        return {names: [use.spec.id for use in uses], strengths: [use.strength for use in uses]}


def denoising_steps(steps: int, strength: float) -> int:
    """How many steps of the schedule are run: diffusers' ``int(steps * strength)``, at least 1.

    Two differences to diffusers: floats do not lose a step (50 * 0.58 is 28.999..., here 29), and a tiny strength runs
    one step where diffusers fails. Strength 0 runs none: the clip passes through.
    """
    return max(1, int(steps * strength + 1e-9)) if strength > 0 else 0


def frames_of(request: Video2VideoRequest, spec: ModelSpec) -> int:
    """Frames of the clip: the request's, else the model's."""
    return request.num_frames if "num_frames" in request.model_fields_set else spec.frames


def plan_passes(
    request: Video2VideoRequest, spec: ModelSpec, max_side: int, motion: MotionSpec | None = None
) -> tuple[DenoisingPass, ...]:
    """The passes of a request.

    Steps and guidance that the request does not set are the motion module's, else the model's. Those that it sets hold,
    with a warning where the module was made for others.

    :param max_side: see :func:`upscaled_size`.
    """
    main = DenoisingPass(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt or "",
        steps=_in_force(request, "num_inference_steps", motion.steps if motion else None, spec.steps, motion),
        strength=request.strength,
        guidance_scale=_in_force(
            request, "guidance_scale", motion.guidance_scale if motion else None, spec.guidance_scale, motion
        ),
        seed=UNSET_SEED if request.seed is None else request.seed,
        width=request.width or spec.width,
        height=request.height or spec.height,
        clip_skip=request.clip_skip,
        scheduler=(motion.scheduler if motion else None) or spec.scheduler,
        all_steps=motion.all_steps if motion else False,
        iterations=ITERATIONS if request.use_improved_sampling else 1,
    )
    size = upscaled_size(request, main.width, main.height, max_side)
    if size is None:
        return (main,)
    # FreeInit is for the first pass: the second one starts from a clip that is steady already.
    upscale = replace(
        main,
        steps=_in_force(
            request,
            "upscale_num_inference_steps",
            motion.steps if motion else None,
            request.upscale_num_inference_steps,
            motion,
        ),
        strength=request.upscale_strength,
        guidance_scale=_in_force(
            request,
            "upscale_guidance_scale",
            motion.guidance_scale if motion else None,
            request.upscale_guidance_scale,
            motion,
        ),
        width=size[0],
        height=size[1],
        iterations=1,
    )
    return (main, upscale)


def upscaled_size(request: Video2VideoRequest, width: int, height: int, max_side: int) -> tuple[int, int] | None:
    """Width and height after upscaling, ``None`` without it.

    A side that is not given keeps the aspect ratio, in multiples of 8; when it would be too long the clip is stretched,
    with a warning.

    :param max_side: the longest side in pixels that the model's family can run.
    """
    wide, high = request.upscale_width, request.upscale_height
    if wide is None and high is None:
        return None
    if wide is not None and high is not None:
        return wide, high
    exact = width * high / height if high is not None else height * (wide or 0) / width
    side = max(_MULTIPLE, round(exact / _MULTIPLE) * _MULTIPLE)
    if side > max_side:
        log.warning(
            "Upscaling to %dx%d at this aspect ratio needs a side of %d; it is reduced to %d",
            width,
            height,
            side,
            max_side,
        )
        side = max_side
    return (side, high) if high is not None else (wide or 0, side)


def _in_force(request: Video2VideoRequest, name: str, of_motion: Any, of_model: Any, motion: MotionSpec | None) -> Any:
    if name not in request.model_fields_set:
        return of_model if of_motion is None else of_motion
    value = getattr(request, name)
    if motion is not None and of_motion is not None and value != of_motion and not _file_for(motion, name, value):
        log.warning("%s is made for %s %s, but the request sets %s, which is used", motion.id, name, of_motion, value)
    return value


def _file_for(motion: MotionSpec, name: str, value: Any) -> bool:
    return name == "num_inference_steps" and value in motion.step_files
