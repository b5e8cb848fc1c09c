"""What the endpoint needs of an engine. :class:`airflow_provider_modelslab.local.engine.LocalEngine` is one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from airflow_provider_modelslab.api.request import Video2VideoRequest

__all__ = ["Engine", "Generated"]


class Generated(Protocol):
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

    An engine may also have ``clear_cache()``, called between two jobs; ``model_count``, the number of models that it
    has loaded; and ``label``, for an engine that is not the real thing: it is told in each ``meta`` and in
    ``system_details`` as ``engine``.
    """

    def check(self, request: Video2VideoRequest) -> None:
        """Refuse a request that this engine cannot do, quickly and without loading anything.

        :raises RequestValidationError: naming each attribute at fault.
        """

    def generate(
        self,
        request: Video2VideoRequest,
        output: Path,
        *,
        should_stop: Callable[[], bool] | None = None,
    ) -> Generated:
        """Do the job and write the clip to ``output``.

        :param should_stop: asked at each step; once it says so, the engine raises instead of finishing.
        """
