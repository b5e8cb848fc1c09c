"""The seam between the engine and the kinds of models: what a family of models has to say and to do.

A family is one subclass of :class:`Family` in its own module, entered in
:mod:`~airflow_provider_modelslab.local.families.registry`; nothing else names it. It has its own limits and defaults;
the limits of the vendor's page hold at the vendor only. The engine does the rest: reading and writing clips, sizes,
seeds, upscaling, progress, interrupts and errors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.models.inspection import problem
from airflow_provider_modelslab.local.models.specs import TRAIN_STEPS, ModelEntry, ModelSpec
from airflow_provider_modelslab.local.plan import DenoisingPass, Plan, frames_of, plan_passes
from airflow_provider_modelslab.local.validation import Fields, merge, unsupported

if TYPE_CHECKING:
    from PIL.Image import Image

    from airflow_provider_modelslab.local.families.windows import ClipRun, ContextWindows
    from airflow_provider_modelslab.local.models.catalog import Catalog
    from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

__all__ = ["OPTIONAL_SETTINGS", "Family", "LoadedModel", "pad_frame", "pictures_of", "run_padded"]

OPTIONAL_SETTINGS = frozenset({"scheduler", "own_motion", "motion_modules"})
"""Settings of a catalog entry that not every family has."""


class LoadedModel(ABC):
    """A model with its weights in memory. Used by one thread at a time."""

    make_room: Callable[[], bool] | None = None
    """Set by the engine: lets the other models on the device go, and returns whether there were any. For a family to
    ask when memory is short, before it does anything slower."""

    @abstractmethod
    def prepare(self, plan: Plan) -> None:
        """Put in what the plan asks for: motion module, LoRAs.

        :raises InvalidRequestError: naming the attribute whose files do not fit.
        """

    @abstractmethod
    def run(self, frames: Sequence[Image], job: DenoisingPass, *, on_step: Callable[[int], None]) -> list[Image]:
        """One pass: as many RGB pictures as came in, of the same size.

        :param on_step: called with the number of steps done, after each; what it raises ends the run.
        :raises ArithmeticError: when the model's pictures hold values that are no numbers.
        """

    def begin_clip(
        self, job: DenoisingPass, windows: ContextWindows, *, on_step: Callable[[int], None], pause: Callable[[], None]
    ) -> ClipRun:
        """Begin one pass over a clip of any length, whose frames have the size of the pass.

        Only for a family without :attr:`Family.no_windows`.

        :param on_step: as in :meth:`run`.
        :param pause: called between two windows, and between two portions of frames; what it raises ends the run.
        """
        raise NotImplementedError(f"{type(self).__name__} has no context windows")

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Memory that its weights take now, on all devices together; what several parts share counts once.

        Weights in a mapped file count whole, though the system drops their pages when it needs the room.
        """

    def notes(self) -> dict[str, Any]:
        """How the last run was done, for the result's meta: JSON, empty where there is nothing to tell."""
        return {}


class Family(ABC):
    """One kind of models."""

    name: ClassVar[str]
    """As in :attr:`~.specs.ModelSpec.family`."""

    pipelines: ClassVar[tuple[str, ...]]
    """The diffusers pipelines whose saved folders it runs: ``_class_name`` in ``model_index.json``."""

    defaults: ClassVar[Mapping[str, Any]]
    """Fields of :class:`~.specs.ModelSpec` where neither the catalog nor the model's files say anything. The sizes,
    frames, steps, guidance and fps among them hold where the request has none."""

    max_side: ClassVar[int]
    """The longest side in pixels, with and without upscaling."""

    frame_step: ClassVar[int] = 1
    """``num_frames`` must be a multiple of this plus 1."""

    settings: ClassVar[frozenset[str]] = frozenset()
    """Which of :data:`OPTIONAL_SETTINGS` a catalog entry may have."""

    honours: ClassVar[frozenset[str]]
    """Which of the attributes of :func:`~.validation.requested_attributes` it can honour; any other is refused by
    name.
    """

    no_windows: ClassVar[str | None] = None
    """Why its models cannot make a whole clip in context windows, as the end of a sentence; ``None`` if they can."""

    models: ClassVar[tuple[ModelEntry, ...]] = ()
    """The models that are built in."""

    def spec(self, entry: ModelEntry) -> ModelSpec:
        """The model of a catalog entry, completed with the family's defaults.

        :raises InvalidRequestError: for ``model_id``, when the catalog gives it a setting that the family has not.
        """
        unknown = sorted(set(entry.settings) & OPTIONAL_SETTINGS - self.settings)
        if unknown:
            raise problem(
                f"the catalog sets {', '.join(unknown)} for {entry.id}, but models of "
                f"{self.name} do not have this; remove it"
            )
        settings: dict[str, Any] = {**self.defaults, **entry.settings}
        return ModelSpec(id=entry.id, source=entry.source, family=self.name, **settings)

    def parts(self, index: Mapping[str, Any]) -> tuple[str, ...]:
        """The folders of a model that must have weights.

        :param index: its ``model_index.json``.
        """
        return ("transformer", "vae", "text_encoder")

    def read(self, spec: ModelSpec, index: Mapping[str, Any]) -> ModelSpec:
        """The same with what the configuration files say of it; weights may not be there yet.

        :param spec: with its folder on this machine.
        :param index: its ``model_index.json``.
        :raises InvalidRequestError: for ``model_id``, when the family cannot run it.
        """
        return spec

    def plan(self, request: Video2VideoRequest, spec: ModelSpec, catalog: Catalog) -> Plan:
        """Decide every setting. Nothing is loaded.

        :raises InvalidRequestError: naming every attribute that cannot be honoured.
        """
        frames, passes = frames_of(request, spec), plan_passes(request, spec, self.max_side)
        fields = merge(unsupported(request, self.name, self.honours), self.beyond_limits(request, spec, frames, passes))
        if fields:
            raise InvalidRequestError.of_fields(fields)
        return Plan(spec, passes, frames, request.fps or spec.fps)

    def beyond_limits(
        self, request: Video2VideoRequest, spec: ModelSpec, frames: int, passes: Sequence[DenoisingPass]
    ) -> Fields:
        """The attributes that are beyond what the family, or the model, can run.

        :param frames: of the clip.
        """
        fields: Fields = {}
        for name in ("width", "height", "upscale_width", "upscale_height"):
            side = getattr(request, name)
            if side is not None and side > self.max_side:
                fields[name] = [f"must be at most {self.max_side} with {spec.id}; got {side}"]
        if frames > spec.max_frames:
            fields["num_frames"] = [f"must be at most {spec.max_frames} with {spec.id}; got {frames}"]
        elif frames % self.frame_step != 1 % self.frame_step:
            below = frames - (frames - 1) % self.frame_step
            near = f"{below} or {below + self.frame_step}"
            rule = f"{self.frame_step}k + 1"
            fields["num_frames"] = [f"must be {rule} with {spec.id}, such as {near}; got {frames}"]
        if request.clip_skip is not None and request.clip_skip > spec.text_layers:
            fields["clip_skip"] = [
                f"must be at most {spec.text_layers}, the layers of {spec.id}'s text encoder; got {request.clip_skip}"
            ]
        for job, name in zip(passes, ("num_inference_steps", "upscale_num_inference_steps"), strict=False):
            if job.steps > (most := self.max_steps(job)):
                fields[name] = [f"must be at most {most} with {spec.id}; got {job.steps}"]
        return fields

    def max_steps(self, job: DenoisingPass) -> int:
        """The most denoising steps that a pass can have."""
        return TRAIN_STEPS

    def fetch(self, plan: Plan, catalog: Catalog, speed: Optimizations) -> Plan:
        """Download whatever a plan needs besides the model; the same plan with the files' paths.

        :raises InvalidRequestError: naming the attribute whose files are not to be had.
        :raises JobFailedError: when the Hub does not answer.
        """
        return plan

    @abstractmethod
    def load(
        self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations | None = None
    ) -> LoadedModel:
        """Load a model whose files are on this machine (:meth:`~.catalog.Catalog.prepare`). Nothing is downloaded.

        :param speed: how to run it; what the family has no use for is left out.
        """


def run_padded(frames: Sequence[Image], multiple: int, run: Callable[[list[Image]], Any]) -> list[Image]:
    """Run a model that wants sides of a multiple: they are widened by their last pixels, and cut again after it.

    :param run: gets the widened frames and gives (frames, height, width, 3), 0 to 1.
    :raises ArithmeticError: when there are values that are no numbers.
    """
    width, height = frames[0].size
    return pictures_of(run([pad_frame(frame, multiple) for frame in frames]), width, height)


def pad_frame(frame: Image, multiple: int) -> Image:
    """A frame whose sides are a multiple, widened by its last pixels to the right and below."""
    import numpy as np
    from PIL import Image

    right, below = -frame.width % multiple, -frame.height % multiple
    if not (right or below):
        return frame
    return Image.fromarray(np.pad(np.asarray(frame), ((0, below), (0, right), (0, 0)), mode="edge"))


def pictures_of(video: Any, width: int, height: int) -> list[Image]:
    """A model's frames as pictures of this size, without what :func:`pad_frame` added.

    :param video: (frames, height, width, 3), 0 to 1.
    :raises ArithmeticError: when there are values that are no numbers.
    """
    import numpy as np
    from PIL import Image

    if not np.isfinite(video).all():
        raise ArithmeticError("the frames from the model contain values that are not numbers (NaN)")
    pixels = np.rint(video[:, :height, :width] * 255).astype(np.uint8)
    return [Image.fromarray(picture) for picture in pixels]
