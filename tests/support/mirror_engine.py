"""An engine that gives back the frames of its clip, and fails or shortens results where a test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import JobFailedError
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.echo import EchoClip
from tests.support.endpoint_engine import pass_gate
from tests.support.reading_engine import ReadingEngine

__all__ = ["MirrorEngine"]


class MirrorEngine(ReadingEngine):
    """Deterministic: the same clip gives the same bytes, whatever link leads to it.

    :param fails: how often jobs fail whose clip is that of the first job.
    :param short_by: frames that each result has too few.
    :param gate: jobs wait for it.
    """

    def __init__(self, *, fails: int = 0, short_by: int = 0, gate: threading.Event | None = None) -> None:
        super().__init__()
        self.fails = fails
        self.short_by = short_by
        self.gate = gate
        self._first: str | None = None

    def prepare(self, request: Video2VideoRequest, *, should_stop: Callable[[], bool] | None = None) -> Any:
        pass_gate(self.gate, should_stop)
        clip = strip_query(request.init_video)
        self._first = self._first or clip
        if self.fails > 0 and clip == self._first:
            self.fails -= 1
            raise JobFailedError("the engine fails as often as it was told")
        return super().prepare(request, should_stop=should_stop)

    def render(self, prepared: Any, *, should_stop: Callable[[], bool] | None = None) -> Any:
        return replace(prepared, frames=prepared.frames[: len(prepared.frames) - self.short_by])

    def encode(self, rendered: Any, output: Path) -> EchoClip:
        same_link = rendered.request.model_copy(update={"init_video": "https://clips.invalid/same.mp4"})
        return super().encode(replace(rendered, request=same_link), output)
