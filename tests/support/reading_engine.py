"""The echo engine, which fetches and decodes each clip as the real one does, and remembers what it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.echo import FetchingEchoEngine
from airflow_provider_modelslab.local.media.fetch import FetchLimits
from tests.support.endpoint_engine import Gate, pass_gate

__all__ = ["GatedReadingEngine", "ReadingEngine"]


class ReadingEngine(FetchingEchoEngine):
    """Reads clips from servers of the test too.

    :ivar submitted: each request that the endpoint took, in order.
    """

    def __init__(self) -> None:
        super().__init__(limits=FetchLimits(allow_private_addresses=True))
        self.submitted: list[Video2VideoRequest] = []

    def check(self, request: Video2VideoRequest) -> None:
        super().check(request)
        self.submitted.append(request)


class GatedReadingEngine(ReadingEngine):
    """Reads no clip until the gate is open: links grow old in the queue."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def prepare(self, request: Video2VideoRequest, *, should_stop: Callable[[], bool] | None = None) -> Any:
        pass_gate(self.gate, should_stop)
        return super().prepare(request, should_stop=should_stop)
