"""The parts of a running endpoint, from the start of the app to its stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from airflow_provider_modelslab.endpoint.engine import Engine
from airflow_provider_modelslab.endpoint.faults.injector import FaultInjector
from airflow_provider_modelslab.endpoint.http.long_poll import LongPolls
from airflow_provider_modelslab.endpoint.queue.billing import Bills
from airflow_provider_modelslab.endpoint.queue.store import QueueStore
from airflow_provider_modelslab.endpoint.results.publish import Publisher
from airflow_provider_modelslab.endpoint.service import EndpointService
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.workers.pool import WorkerPool

__all__ = ["HostLookups", "Runtime", "TooManyLookupsError", "running"]

log = logging.getLogger(__name__)

_STOP_S = 20.0
_LOOKUP_THREADS = 4
_MAX_LOOKUPS = 16

_T = TypeVar("_T")


class TooManyLookupsError(Exception):
    """The key has a call that looks up a host already, or all keys together have 16."""


class HostLookups:
    """Threads for calls that look up a host. A resolver may take half a minute; other calls do not wait for it."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_LOOKUP_THREADS, "modelslab-lookup")
        self._owners: set[str] = set()

    async def run(self, owner: str, function: Callable[[], _T]) -> _T:
        """Call the function in one of the threads.

        :raises TooManyLookupsError: when there are too many such calls, of this owner or in all.
        """
        if owner in self._owners or len(self._owners) >= _MAX_LOOKUPS:
            raise TooManyLookupsError
        self._owners.add(owner)
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function)
        finally:
            self._owners.discard(owner)

    def close(self) -> None:
        """Drop the calls that wait for a thread."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What the routes use."""

    settings: Settings
    service: EndpointService
    publisher: Publisher
    workers: WorkerPool
    bills: Bills
    long_polls: LongPolls
    lookups: HostLookups
    faults: FaultInjector | None


@asynccontextmanager
async def running(
    settings: Settings, engines: Sequence[Engine], *, clock: Callable[[], float]
) -> AsyncIterator[Runtime]:
    """Open the queue and start the workers; at the end interrupt running jobs.

    :param clock: seconds since the epoch.
    """
    long_polls, lookups = LongPolls(), HostLookups()
    store = await asyncio.to_thread(QueueStore, settings.state_dir)
    bills = Bills(store)
    faults = FaultInjector(settings, store, bills, clock=clock) if settings.misbehaves else None
    publisher = Publisher(store, settings.state_dir, allow_private_addresses=settings.allow_private_addresses)
    service = EndpointService(settings, store, engines, publisher, clock=clock, misbehaviour=faults)
    workers = WorkerPool(
        settings, store, engines, publisher, on_done=long_polls.job_ended, clock=clock, misbehaviour=faults
    )
    await asyncio.to_thread(workers.start)
    try:
        yield Runtime(settings, service, publisher, workers, bills, long_polls, lookups, faults)
    finally:
        lookups.close()
        if await asyncio.to_thread(workers.stop, _STOP_S):
            store.close()
        else:
            log.warning("An engine did not stop within %s s. Its job goes back to the queue at the next start", _STOP_S)
