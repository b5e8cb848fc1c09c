"""What the endpoint needs of an engine. :class:`airflow_provider_modelslab.local.engine.LocalEngine` is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from airflow_provider_modelslab.api.request import Video2VideoRequest

__all__ = ["Engine", "EngineResult", "StagedEngine", "device_of", "models_of", "with_flags"]

_FLAGS = {
    "allow_pickle=True": "start the endpoint with --allow-pickle",
    "allow_private_addresses=True": "start the endpoint with --allow-private-addresses",
}
"""Arguments that an engine's messages advise, as they are given here."""


class EngineResult(Protocol):
    """One finished clip."""

    @property
    def path(self) -> Path:
        """The mp4 or gif."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """The attributes as they were used: ``seed``, ``width``, ``height``, ``fps``, ``num_frames``..."""

    @property
    def seconds(self) -> float:
        """How long the work took."""


class Engine(Protocol):
    """Makes clips, one at a time. ``generate`` is called from one thread only; ``check`` from any.

    An engine may also have ``preload(model_id)``, called before the first job in the thread that calls ``generate``;
    ``clear_cache()``, called between two jobs; ``device``, where it works; ``model_count``, the
    number of models that it has loaded, or ``loaded()``, which tells of each ``model_id``, ``bytes`` and ``last_used``
    and may be called from any thread; and ``label``, for an engine that is not the real thing: it is told in each
    ``meta`` and in ``system_details`` as ``engine``.
    """

    def check(self, request: Video2VideoRequest) -> None:
        """Refuse a request that this engine cannot do, quickly and without loading anything.

        :raises InvalidRequestError: naming each attribute at fault.
        :raises JobFailedError: when that cannot be found out now.
        """

    def generate(
        self,
        request: Video2VideoRequest,
        output: Path,
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> EngineResult:
        """Do the job and write the clip to ``output``.

        :param should_stop: asked at each step; once it says so, the engine raises instead of finishing.
        """


@runtime_checkable
class StagedEngine(Protocol):
    """An engine whose work has three stages, so that those of three jobs overlap.

    ``prepare`` and ``encode`` are called from any thread while ``render`` runs. What one engine prepares, another one
    of the same endpoint may render.
    """

    def prepare(self, request: Video2VideoRequest, *, should_stop: Callable[[], bool] | None = None) -> Any:
        """Decide everything and read the clip.

        :param should_stop: asked while the clip is read; once it says so, the engine raises soon.
        """

    def render(self, prepared: Any, *, should_stop: Callable[[], bool] | None = None) -> Any:
        """Use the device; one job at a time.

        :param should_stop: as in :meth:`Engine.generate`.
        """

    def encode(self, rendered: Any, output: Path) -> EngineResult:
        """Write the clip to ``output``."""


def device_of(engine: Engine) -> str:
    """Where an engine works, for people to read."""
    return str(getattr(engine, "device", None) or getattr(engine, "label", None) or type(engine).__name__)


def models_of(engine: Engine) -> list[dict[str, Any]] | None:
    """The models that an engine has loaded; ``None`` when it does not tell."""
    loaded = getattr(engine, "loaded", None)
    return list(loaded()) if callable(loaded) else None


def with_flags(text: str) -> str:
    """An engine's message with the endpoint's flags in place of arguments."""
    for argument, flag in _FLAGS.items():
        text = text.replace(argument, flag)
    return text
