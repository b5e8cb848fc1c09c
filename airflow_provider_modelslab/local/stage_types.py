"""What goes from one stage of the engine to the next, and the words in which a caller follows and stops the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.plan import Plan

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Generated", "GenerationInterruptedError", "Prepared", "Rendered", "StepProgress", "plan_key"]


class GenerationInterruptedError(Exception):
    """The caller's ``should_stop`` said yes. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A request with everything decided and its clip read: what :meth:`.engine.LocalEngine.render` needs.

    :param plan: every setting in force, the seed drawn.
    :param frames: RGB pictures at the size of the first pass.
    :param source_fps: frames per second of ``init_video``; 0 if unknown.
    :param seconds: how long it took, most of it the download.
    """

    request: Video2VideoRequest
    plan: Plan
    frames: tuple[Image, ...] = field(repr=False)
    source_fps: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Rendered:
    """The finished pictures, in memory: what :meth:`.engine.LocalEngine.encode` writes.

    :param frames: RGB pictures of one size.
    :param notes: how the model was run, for the result's meta.
    :param seconds: how long preparing and rendering took, without the wait for another clip on the same device.
    """

    request: Video2VideoRequest
    plan: Plan
    frames: tuple[Image, ...] = field(repr=False)
    notes: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Generated:
    """A finished clip.

    :param path: the clip.
    :param meta: every attribute of the request with the value that was really used (``width``, ``height`` and ``fps``
        as encoded, the drawn ``seed``, steps and guidance of the motion module where the request had none), links
        without their query; and ``denoising_steps`` run in all, ``improved_sampling_iterations``, ``scheduler``,
        ``model_family``, ``source_fps`` (0 if unknown), ``device``, ``dtype``, and what the model notes of how it was
        run. JSON.
    :param seconds: how long the work took: the stages' own times, from the download to the written file, without
        waits in between.
    """

    path: Path
    meta: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class StepProgress:
    """Counts the steps of all passes together, and asks whether to go on."""

    def __init__(
        self, total: int, on_step: Callable[[int, int], None] | None, should_stop: Callable[[], bool] | None
    ) -> None:
        self.before = 0  # steps of the passes that are done
        self._total = total
        self._on_step = on_step
        self._should_stop = should_stop

    def step(self, done: int) -> None:
        """Tell that so many steps of this pass are done.

        :raises GenerationInterruptedError: when the caller wants no more.
        """
        done += self.before
        if self._on_step is not None and done:
            self._on_step(done, self._total)
        if self._should_stop is not None and self._should_stop():
            raise GenerationInterruptedError(f"stopped after {done} of {self._total} steps")


def plan_key(plan: Plan) -> tuple[Any, ...]:
    """Texts and numbers that are equal where the same weights, shapes and steps are run.

    They sort by what costs most to change: the model, then the motion module, the LoRAs, and the shapes.
    """
    motion = (plan.motion.id, str(plan.motion.source)) if plan.motion else ("", "")
    loras = tuple((use.field, use.spec.id, str(use.spec.source), use.strength) for use in plan.loras)
    passes = tuple(
        (job.width, job.height, job.scheduler, job.steps, job.calls, job.guidance_scale > 1) for job in plan.passes
    )
    return ((plan.model.id, str(plan.model.source)), motion, loras, plan.frames, passes)
