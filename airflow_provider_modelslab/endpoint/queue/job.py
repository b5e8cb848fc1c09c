"""A job as the queue remembers it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from airflow_provider_modelslab.endpoint.faults.plan import NO_FAULTS, Faults

__all__ = ["JobStatus", "QueuedJob"]

JobStatus = Literal["queued", "running", "stuck", "success", "failed"]
"""``stuck``: told never to end, see :data:`.faults.FAULTS`."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """One row of the queue. Times are seconds since the epoch.

    :param owner: a keyed hash of the API key that submitted it; the key itself is not kept.
    :param body: the request as it came, without the key, with the seed that was drawn.
    :param base_url: the endpoint's address for this caller, without a slash at the end. The queue keeps the one of the
        submit; an answer to a later call is built on the address of that call.
    :param file_prefix: the uuid4 that names the result.
    :param meta: the ``meta`` of the answers: what was asked for, then what was used.
    :param future_links: where the result is going to be.
    :param output: the result's links, when it is in a bucket.
    :param files: the result's files, when it is on the endpoint's own storage: paths relative to the state directory,
        and to the endpoint's address.
    :param seconds: how long the engine worked.
    :param message: why the job failed.
    :param attempts: how often an engine started on it, without the times that it was interrupted in good order.
    :param faults: what is to go wrong with it, see :mod:`.plan`.
    """

    id: int
    owner: str = field(repr=False)
    status: JobStatus
    body: dict[str, Any] = field(repr=False)
    base_url: str
    file_prefix: str
    meta: dict[str, Any] = field(repr=False)
    future_links: tuple[str, ...] = ()
    output: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    seconds: float | None = None
    message: str = ""
    attempts: int = 0
    created_at: float = 0.0
    started_at: float | None = None
    finished_at: float | None = None
    faults: Faults = NO_FAULTS

    @property
    def links(self) -> tuple[str, ...]:
        """Where the result is, once it is."""
        return self.output or tuple(f"{self.base_url}/{place}" for place in self.files)
