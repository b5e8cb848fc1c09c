"""The seam between the engine and the kinds of models: what a family of models has to say and to do.

A family is one subclass of :class:`Family` in its own module, entered in
:mod:`~airflow_provider_modelslab.local.families.registry`. The engine does the rest: reading and writing clips, sizes,
seeds, upscaling, progress, interrupts and errors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.models.specs import ModelSpec

if TYPE_CHECKING:
    from PIL.Image import Image

    from airflow_provider_modelslab.local.models.catalog import Catalog
    from airflow_provider_modelslab.local.plan import DenoisingPass, Plan
    from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

__all__ = ["Family", "LoadedModel", "run_padded"]


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

    honours: ClassVar[frozenset[str]]
    """Which of the attributes of :func:`~.validation.requested_attributes` it can honour; any other is refused by
    name.
    """

    @abstractmethod
    def plan(self, request: Video2VideoRequest, spec: ModelSpec, catalog: Catalog) -> Plan:
        """Decide every setting. Nothing is loaded.

        :raises InvalidRequestError: naming every attribute that cannot be honoured.
        """

    @abstractmethod
    def load(
        self, spec: ModelSpec, catalog: Catalog, device: str, dtype: Any, speed: Optimizations | None = None
    ) -> LoadedModel:
        """Load a model whose files are on this machine (:meth:`~.catalog.Catalog.prepare`).

        :param speed: how to run it; what the family has no use for is left out.
        """


def run_padded(frames: Sequence[Image], multiple: int, run: Callable[[list[Image]], Any]) -> list[Image]:
    """Run a model that wants sides of a multiple: they are widened by their last pixels, and cut again after it.

    :param run: gets the widened frames and gives (frames, height, width, 3), 0 to 1.
    :raises ArithmeticError: when there are values that are no numbers.
    """
    import numpy as np
    from PIL import Image

    width, height = frames[0].size
    right, below = -width % multiple, -height % multiple
    padded = list(frames)
    if right or below:
        edges = ((0, below), (0, right), (0, 0))
        padded = [Image.fromarray(np.pad(np.asarray(frame), edges, mode="edge")) for frame in frames]
    video = run(padded)
    if not np.isfinite(video).all():
        raise ArithmeticError("the model's pictures hold values that are no numbers")
    pixels = np.rint(video[:, :height, :width] * 255).astype(np.uint8)
    return [Image.fromarray(picture) for picture in pixels]
