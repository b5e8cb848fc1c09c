"""The echo engine, which fetches and decodes each clip as the real one does, and remembers what it was asked for."""

from __future__ import annotations

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.echo import FetchingEchoEngine
from airflow_provider_modelslab.local.media.fetch import FetchLimits

__all__ = ["ReadingEngine"]


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
