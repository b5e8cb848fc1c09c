"""Who waits at a shared waiter: for one job, or for many at once."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from airflow_provider_modelslab.api.polling import PollPolicy
from airflow_provider_modelslab.api.response import Finished

if TYPE_CHECKING:
    from airflow_provider_modelslab.client.waiter import SharedWaiter

__all__ = ["SLICE", "Alone", "Ended", "Submitted", "Watch"]

SLICE = 200
"""Jobs handled between two turns of the loop: a few milliseconds."""


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job to wait for.

    :param submitted_at: seconds since the epoch.
    :param deadline: when to give up, in seconds since the epoch.
    :param eta: seconds, from the answer to the submit.
    """

    job_id: str
    submitted_at: float
    deadline: float
    eta: float | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that is no longer waited for.

    :param outcome: the result, or why there is none: a :class:`ModelsLabError`, or what a fault of this program, or a
        signal, raised.
    """

    job_id: str
    outcome: Finished | BaseException


class Alone:
    """Who waits for one job: small, since thousands do."""

    __slots__ = ("closed", "context", "outcome")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.outcome: asyncio.Future[Finished | BaseException] = loop.create_future()
        self.context = contextvars.copy_context()
        self.closed = False

    def put(self, job_id: str, outcome: Finished | BaseException) -> None:
        """Take the job that has ended."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Watch:
    """The jobs that one caller waits for; for one reader at a time.

    As an asynchronous context manager it begins to wait and, at its end, drops the jobs that have not ended. Iterating
    gives each job as it ends.
    """

    __slots__ = ("_ended", "_first_at", "_jobs", "_policy", "_reader", "_waiter", "closed", "context", "waiting")

    def __init__(self, waiter: SharedWaiter, jobs: Iterable[Submitted], policy: PollPolicy | None) -> None:
        self._waiter = waiter
        self._jobs = jobs
        self._policy = policy
        self._ended: deque[Ended] = deque()
        self._first_at: float | None = None
        self._reader: asyncio.Future[None] | None = None
        self.context = contextvars.copy_context()
        self.waiting = 0
        """Jobs that have not ended."""
        self.closed = False

    async def __aenter__(self) -> Self:
        try:
            for number, job in enumerate(self._jobs, start=1):
                self._add(job)
                if number % SLICE == 0:
                    await asyncio.sleep(0)
        except BaseException:
            self.close()
            raise
        self._jobs = ()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def add(self, job: Submitted) -> None:
        """Wait for one more, from now on."""
        self._add(job)

    def close(self) -> None:
        """Stop waiting."""
        self.closed = True

    async def gather(self, at_least: int = 1, *, linger: float = 0.0, until: float = math.inf) -> list[Ended]:
        """What has ended since the last call, once it is worth reporting.

        :param at_least: so many ended jobs are enough.
        :param linger: seconds after the first one, after which fewer are enough.
        :param until: when to return in any case, perhaps with nothing, in seconds since the epoch.
        """
        loop = self._waiter.loop
        while self.waiting and len(self._ended) < at_least:
            stop = loop.time() + until - time.time()
            if self._first_at is not None and at_least > 1:
                stop = min(stop, self._first_at + linger)
            if stop <= loop.time():
                break
            await self._changed(stop)
        found = list(self._ended)
        self._ended.clear()
        self._first_at = None
        return found

    async def __aiter__(self) -> AsyncIterator[Ended]:
        while found := await self.gather():
            for ended in found:
                yield ended

    async def _changed(self, stop: float) -> None:
        """Until a job ends, or the loop's clock reaches ``stop``."""
        loop = self._waiter.loop
        self._reader = reader = loop.create_future()
        timer = loop.call_at(stop, _wake_reader, reader) if stop < math.inf else None
        try:
            await reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()

    def _add(self, job: Submitted) -> None:
        self.waiting += 1
        self._waiter.add(job, self, self._policy)

    def put(self, job_id: str, outcome: Finished | BaseException) -> None:
        """Take a job that has ended."""
        self.waiting -= 1
        self._ended.append(Ended(job_id, outcome))
        if self._first_at is None:
            self._first_at = self._waiter.loop.time()
        if self._reader is not None:
            _wake_reader(self._reader)


def _wake_reader(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_result(None)
