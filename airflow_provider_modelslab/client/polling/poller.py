"""One poll schedule for all jobs of one connection in one event loop.

Thousands of jobs need one heap of due polls and one task per poll in flight, not a task, a timer and an HTTP session
each. Each job's own :class:`~airflow_provider_modelslab.api.polling.JobPoller` still decides what to do after a poll.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from airflow_provider_modelslab.api.errors import ModelsLabError, TransportError
from airflow_provider_modelslab.api.poll_policy import PollPolicy
from airflow_provider_modelslab.api.polling import Decision, Done, GiveUp, JobPoller
from airflow_provider_modelslab.api.response import Answer, Finished
from airflow_provider_modelslab.client.polling.rate_limiter import RateLimiter

if TYPE_CHECKING:
    from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient

__all__ = ["Branch", "Ended", "SharedPoller", "Submitted", "Watch"]

logger = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds after its deadline at which a job is ended even if no last poll could be made."""

SLICE = 200
"""Jobs handled before control returns to the event loop: a few milliseconds."""

_TICK = 0.005  # seconds within which due polls are begun together
_SWEEP = 5.0  # seconds between two searches for jobs far past their deadline


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

    :param outcome: the result, or why there is none: a :class:`ModelsLabError`, or an exception of a defect or a
        signal.
    :param conn_id: of a job at another connection than the watch's own, see :meth:`Watch.at`.
    """

    job_id: str
    outcome: Finished | BaseException
    conn_id: str | None = None


class SharedPoller:
    """Polls every job of one connection, on one schedule, through one client and one rate limiter.

    Polls begin in the order in which they are due, within the limiter's concurrency and rate. A pause of the limiter
    delays every job except one at its deadline, whose last poll may return a result that is paid for. Created by
    :func:`~airflow_provider_modelslab.client.polling.registry.shared_poller`, in the loop in which it is used.

    :param client: used by this object only, and closed with it.
    """

    def __init__(self, client: AsyncModelsLabClient, *, limiter: RateLimiter | None = None) -> None:
        self._client = client
        self.loop = asyncio.get_running_loop()
        self._limiter = limiter or RateLimiter(clock=self.loop.time)
        self._due: list[tuple[float, int, _Job]] = []
        self._order = itertools.count()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._policies: dict[PollPolicy, PollPolicy] = {}
        # Shared work belongs to no trigger: in a trigger's context its log lines would go to that task's log.
        self._context = contextvars.Context()
        self._swept_at = -math.inf
        self._closed = False
        self.polls = 0
        """Polls begun so far."""
        self.late = 0
        """Of these, those begun more than 1 s and more than 10 % of their pause after they were due."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client!r}, polls={self.polls}, late={self.late})"

    @property
    def limiter(self) -> RateLimiter:
        """The limits in force."""
        return self._limiter

    async def wait(
        self,
        job_id: str,
        *,
        submitted_at: float,
        deadline: float,
        eta: float | None = None,
        policy: PollPolicy | None = None,
    ) -> Finished:
        """Wait for one job.

        :param submitted_at: seconds since the epoch.
        :param deadline: when to give up, in seconds since the epoch.
        :param eta: seconds, from the answer to the submit.
        :raises InvalidRequestError: for an empty id.
        :raises JobTimeoutError: when the deadline passed.
        :raises ModelsLabError: the subclass for the response, as soon as waiting longer cannot help.
        """
        waiter = _SingleJobWaiter(self.loop)
        self.add(Submitted(job_id, submitted_at, deadline, eta), waiter, policy)
        try:
            outcome = await waiter.outcome
        finally:
            waiter.closed = True
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def watch(self, jobs: Iterable[Submitted], *, policy: PollPolicy | None = None) -> Watch:
        """Many jobs for one caller: ``async with poller.watch(jobs) as watch: ...``."""
        return Watch(self, jobs, policy)

    async def aclose(self) -> None:
        """Cancel the polls in flight, drop all jobs and close the HTTP connections."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()
        in_flight = list(self._in_flight)
        for task in in_flight:
            task.cancel()
        try:
            await asyncio.gather(*in_flight, return_exceptions=True)
        finally:
            await self._client.aclose()

    # -- the schedule ---------------------------------------------------------------------------------------------

    def add(self, job: Submitted, owner: _SingleJobWaiter | Watch | Branch, policy: PollPolicy | None) -> None:
        """Schedule a job's first poll; its outcome goes to ``owner``."""
        policy = policy or PollPolicy()
        poller = JobPoller(
            job.job_id,
            submitted_at=job.submitted_at,
            deadline=job.deadline,
            eta=job.eta,
            policy=self._policies.setdefault(policy, policy),
        )
        self._schedule(_Job(poller, owner), poller.first_delay())

    def _schedule(self, job: _Job, pause: float) -> None:
        due = self.loop.time() + pause
        job.late_after = due + max(1.0, 0.1 * pause)
        heapq.heappush(self._due, (due, next(self._order), job))
        self._wake(due)

    def _wake(self, at: float) -> None:
        """Set the timer to a time of the loop, unless it fires earlier anyway."""
        if self._closed:
            return
        at = max(at, self.loop.time() + _TICK)
        if self._timer is not None:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(at, self._on_time, context=self._context)

    def _on_time(self) -> None:
        self._timer = None
        self._begin_due()

    def _begin_due(self) -> None:
        """Begin the polls that are due, as far as the limits allow, and set the timer for the next ones."""
        now, limiter = self.loop.time(), self._limiter
        for _ in range(SLICE):
            if not self._due:
                return
            due, _, job = self._due[0]
            if not job.waiting:
                heapq.heappop(self._due)
                continue
            if due > now:
                self._wake(due)
                return
            left = job.poller.deadline - time.time()
            if now < limiter.resume_at and left > 0:
                heapq.heapreplace(self._due, (min(limiter.resume_at, now + left), next(self._order), job))
                continue
            if len(self._in_flight) >= limiter.concurrency or now < limiter.next_start:
                self._give_up_overdue(now)
                self._wake(max(limiter.next_start, now) if len(self._in_flight) < limiter.concurrency else now + _SWEEP)
                return
            heapq.heappop(self._due)
            self._begin(job, now)
        self._wake(now)

    def _begin(self, job: _Job, now: float) -> None:
        self.polls += 1
        self.late += now > job.late_after
        self._limiter.started()
        task = self.loop.create_task(self._poll(job, now), context=self._context)
        self._in_flight.add(task)
        task.add_done_callback(partial(self._polled, job), context=self._context)

    def _polled(self, job: _Job, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a task's time-out, which a signal raises wherever the program is
            job.end(error)
        if not self._closed:
            self._begin_due()

    async def _poll(self, job: _Job, began: float) -> None:
        decision: Decision
        try:
            try:
                answer = await self._client.fetch(job.poller.job_id)
            except ModelsLabError as error:
                if type(error) is TransportError:  # no answer; its subclasses are about settings
                    self._learn(job, None, began)
                decision = job.poller.on_error(error)
            else:
                self._learn(job, answer, began)
                decision = job.poller.on_answer(answer)
        except Exception as error:  # noqa: BLE001 - a bug is raised where this job is waited for
            job.end(error)
        else:
            self._follow(job, decision)

    def _follow(self, job: _Job, decision: Decision) -> None:
        if isinstance(decision, Done):
            job.end(decision.answer)
        elif isinstance(decision, GiveUp):
            job.end(decision.error)
        elif job.waiting:
            if decision.note:
                level = logging.WARNING if decision.warn else logging.INFO
                job.owner.context.run(logger.log, level, "Job %s: %s", job.poller.job_id, decision.note)
            self._schedule(job, decision.seconds)

    def _learn(self, job: _Job, answer: Answer | None, began: float) -> None:
        pause = self._limiter.answered(job.poller.job_id, answer, began=began, in_flight=len(self._in_flight))
        if pause is not None:
            logger.warning(
                "%r: the endpoint refuses polls because of load, or fails for most jobs. Polls pause for %.1f s. Then "
                "at most %.1f per second and %d at a time are sent, and more after good responses. To avoid a rate "
                "limit, run fewer jobs at a time, for example with an Airflow pool",
                self._client,
                pause,
                self._limiter.rate,
                self._limiter.concurrency,
            )

    def _give_up_overdue(self, now: float) -> None:
        """End the jobs far past their deadline, for which the endpoint is too slow to answer even a last poll."""
        if now - self._due[0][0] < GRACE or now - self._swept_at < _SWEEP:
            return
        latest = time.time() - GRACE
        overdue = (job for _, _, job in self._due if job.waiting and job.poller.deadline < latest)
        found = list(itertools.islice(overdue, SLICE))
        for job in found:
            self._follow(job, job.poller.on_error(TransportError("the endpoint is too slow for a last poll")))
        self._swept_at = now if len(found) < SLICE else -math.inf


class _SingleJobWaiter:
    """A caller that waits for one job: small, since there are thousands."""

    __slots__ = ("closed", "context", "outcome")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.outcome: asyncio.Future[Finished | BaseException] = loop.create_future()
        self.context = contextvars.copy_context()
        self.closed = False

    def put(self, job_id: str, outcome: Finished | BaseException) -> None:
        """Receive the job that has ended."""
        if not self.outcome.done():
            self.outcome.set_result(outcome)


class Watch:
    """The jobs that one caller waits for; only one coroutine may read it.

    Entering it schedules the jobs, and leaving it drops those that have not ended.
    """

    __slots__ = ("_ended", "_first_at", "_jobs", "_policy", "_poller", "_reader", "closed", "context", "waiting")

    def __init__(self, poller: SharedPoller, jobs: Iterable[Submitted], policy: PollPolicy | None) -> None:
        self._poller = poller
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
                self.add(job)
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
        """Wait for one more job."""
        self.waiting += 1
        self._poller.add(job, self, self._policy)

    def at(self, poller: SharedPoller, conn_id: str) -> Branch:
        """Where to add jobs of another connection, whose outcomes are gathered here too.

        :param poller: of that connection, in the same loop; open for as long as this watch.
        """
        return Branch(self, poller, self._policy, conn_id)

    def close(self) -> None:
        """Stop waiting."""
        self.closed = True

    async def gather(self, at_least: int = 1, *, defer_after: float = 0.0, until: float = math.inf) -> list[Ended]:
        """Wait for ended jobs, and return those since the last call.

        :param at_least: return once so many jobs have ended.
        :param defer_after: seconds after the first ended job, after which fewer are enough.
        :param until: when to return in any case, perhaps without a job, in seconds since the epoch.
        """
        loop = self._poller.loop
        while self.waiting and len(self._ended) < at_least:
            stop = loop.time() + until - time.time()
            if self._first_at is not None and at_least > 1:
                stop = min(stop, self._first_at + defer_after)
            if stop <= loop.time():
                break
            await self._changed(stop)
        found = list(self._ended)
        self._ended.clear()
        self._first_at = None
        return found

    async def _changed(self, stop: float) -> None:
        """Wait until a job ends, or the loop's clock reaches ``stop``."""
        loop = self._poller.loop
        self._reader = reader = loop.create_future()
        timer = loop.call_at(stop, _wake_reader, reader) if stop < math.inf else None
        try:
            await reader
        finally:
            self._reader = None
            if timer is not None:
                timer.cancel()

    def put(self, job_id: str, outcome: Finished | BaseException, conn_id: str | None = None) -> None:
        """Receive a job that has ended."""
        self.waiting -= 1
        self._ended.append(Ended(job_id, outcome, conn_id))
        if self._first_at is None:
            self._first_at = self._poller.loop.time()
        if self._reader is not None:
            _wake_reader(self._reader)


class Branch:
    """A watch's jobs at another connection."""

    __slots__ = ("_conn_id", "_policy", "_poller", "_watch")

    def __init__(self, watch: Watch, poller: SharedPoller, policy: PollPolicy | None, conn_id: str) -> None:
        self._watch = watch
        self._poller = poller
        self._policy = policy
        self._conn_id = conn_id

    @property
    def closed(self) -> bool:
        """Whether the watch is."""
        return self._watch.closed

    @property
    def context(self) -> contextvars.Context:
        """The watch's."""
        return self._watch.context

    def add(self, job: Submitted) -> None:
        """Wait for one more job."""
        self._watch.waiting += 1
        self._poller.add(job, self, self._policy)

    def put(self, job_id: str, outcome: Finished | BaseException) -> None:
        """Receive a job that has ended."""
        self._watch.put(job_id, outcome, self._conn_id)


def _wake_reader(reader: asyncio.Future[None]) -> None:
    if not reader.done():
        reader.set_result(None)


class _Job:
    """A job in the schedule."""

    __slots__ = ("ended", "late_after", "owner", "poller")

    def __init__(self, poller: JobPoller, owner: _SingleJobWaiter | Watch | Branch) -> None:
        self.poller = poller
        self.owner = owner
        self.late_after = math.inf
        self.ended = False

    @property
    def waiting(self) -> bool:
        """Whether a caller still waits for it."""
        return not (self.ended or self.owner.closed)

    def end(self, outcome: Finished | BaseException) -> None:
        """Pass the outcome to the caller, if it still waits."""
        if self.waiting:
            self.ended = True
            self.owner.put(self.poller.job_id, outcome)
