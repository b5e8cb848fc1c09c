"""What goes from one stage of the engine to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.plan import Plan
from airflow_provider_modelslab.local.whole_clip import WholeResult, WholeSource

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Generated", "Prepared", "Rendered", "plan_key"]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with everything decided and its clip read: what :meth:`.engine.LocalEngine.render` needs.

    :param plan: every setting in force, the seed drawn.
    :param frames: RGB pictures at the size of the first pass.
    :param source_fps: frames per second of ``init_video``; 0 if unknown.
    :param seconds: how long it took, most of it the download.
    :param whole: of a whole clip, whose ``frames`` are read when they are needed.
    """

    request: Video2VideoRequest
    plan: Plan
    frames: tuple[Image, ...] = field(repr=False)
    source_fps: float
    seconds: float
    whole: WholeSource | None = None


@dataclass(frozen=True, slots=True)
class Rendered:
    """The finished pictures, in memory: what :meth:`.engine.LocalEngine.encode` writes.

    :param frames: RGB pictures of one size.
    :param notes: how the model was run, for the result's meta.
    :param seconds: how long preparing and rendering took, without the wait for another clip on the same device.
    :param whole: of a whole clip, which is a file already and has no ``frames``.
    """

    request: Video2VideoRequest
    plan: Plan
    frames: tuple[Image, ...] = field(repr=False)
    notes: Mapping[str, Any]
    seconds: float
    whole: WholeResult | None = None


@dataclass(frozen=True, slots=True)
class Generated:
    """A finished clip.

    :param path: the clip.
    :param meta: every attribute of the request with the value that was really used (``width``, ``height`` and ``fps``
        as encoded, the drawn ``seed``, steps and guidance of the motion module where the request had none), links
        without their query; and ``denoising_steps`` run in all, ``improved_sampling_iterations``, ``scheduler``,
        ``model_family``, ``source_fps`` (0 if unknown), ``device``, ``dtype``, and what the model notes of how it was
        run. Of a whole clip also ``clip_mode``, ``window_frames``, ``overlap``, ``audio`` (its codec, if any),
        ``audio_copied``, and ``audio_problem`` where there is one. JSON.
    :param seconds: how long the work took: the stages' own times, from the download to the written file, without
        waits in between.
    """

    path: Path
    meta: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


def plan_key(plan: Plan) -> tuple[Any, ...]:
    """Texts and numbers that are equal where the same weights, shapes and steps are run.

    They sort by what costs most to change: the model, then the motion module, the LoRAs, and the shapes.
    """
    motion = (plan.motion.id, str(plan.motion.source)) if plan.motion else ("", "")
    loras = tuple((use.field, use.spec.id, str(use.spec.source), use.strength) for use in plan.loras)
    passes = tuple(
        (job.width, job.height, job.scheduler, job.steps, job.calls, job.guidance_scale > 1) for job in plan.passes
    )
    return ((plan.model.id, str(plan.model.source)), motion, loras, plan.frames, passes, plan.whole is not None)
