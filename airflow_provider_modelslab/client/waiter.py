"""One poll schedule for all jobs that wait at one connection in one event loop.

Thousands of jobs cost a heap of due looks and as many tasks as calls are under way, not a task, a timer and a session
each. What to do after a look is still each job's own :class:`~airflow_provider_modelslab.api.polling.JobPoller`.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
import logging
import math
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import ModelsLabError, TransportError
from airflow_provider_modelslab.api.polling import Decision, Done, GiveUp, JobPoller, PollPolicy
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.client.limiter import Limiter
from airflow_provider_modelslab.client.watch import SLICE, Alone, Submitted, Watch

if TYPE_CHECKING:
    from airflow_provider_modelslab.client.aio import AsyncModelsLabClient

__all__ = ["SharedWaiter"]

logger = logging.getLogger(__name__)

GRACE = 30.0
"""Seconds after its deadline at which a job is ended even if no last look at it could be made."""

_TICK = 0.005  # seconds within which due looks are begun together
_SWEEP = 5.0  # seconds between two searches for jobs far past their deadline


class SharedWaiter:
    """Looks at every job of one connection, on one schedule, through one client and one limiter.

    Looks begin in the order in which they are due, as many at once and per second as the limiter allows. A pause of
    the limiter holds everybody back but a job at its deadline, whose last look may bring a result that is paid for.
    Made by :func:`~airflow_provider_modelslab.client.shared.waiting`, in the loop in which it is used.

    :param client: used by this object alone, and closed with it.
    """

    def __init__(self, client: AsyncModelsLabClient, *, limiter: Limiter | None = None) -> None:
        self._client = client
        self.loop = asyncio.get_running_loop()
        self._limiter = limiter or Limiter(clock=self.loop.time)
        self._due: list[tuple[float, int, _Job]] = []
        self._order = itertools.count()
        self._looking: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._policies: dict[PollPolicy, PollPolicy] = {}
        # Shared work belongs to no trigger; in a trigger's context its log lines would land in that task's log.
        self._context = contextvars.Context()
        self._swept_at = -math.inf
        self._closed = False
        self.looks = 0
        """Looks begun so far."""
        self.late = 0
        """Of these, those begun more than 1 s and more than 10 % of their pause after they were due."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._client!r}, looks={self.looks}, late={self.late})"

    @property
    def limiter(self) -> Limiter:
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
        """Wait for one job; arguments and errors as in :meth:`AsyncModelsLabClient.wait`."""
        alone = Alone(self.loop)
        self.add(Submitted(job_id, submitted_at, deadline, eta), alone, policy)
        try:
            outcome = await alone.outcome
        finally:
            alone.closed = True
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def watch(self, jobs: Iterable[Submitted], *, policy: PollPolicy | None = None) -> Watch:
        """Many jobs for one caller: ``async with waiter.watch(jobs) as watch: ...``."""
        return Watch(self, jobs, policy)

    async def aclose(self) -> None:
        """Drop everything and close the connections; what was under way is cancelled."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._due.clear()
        looking = list(self._looking)
        for task in looking:
            task.cancel()
        try:
            await asyncio.gather(*looking, return_exceptions=True)
        finally:
            await self._client.aclose()

    # -- the schedule ---------------------------------------------------------------------------------------------

    def add(self, job: Submitted, owner: Alone | Watch, policy: PollPolicy | None) -> None:
        """Take a job into the schedule; its outcome goes to ``owner``."""
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
        """Have the schedule looked at again at a time of the loop, or earlier."""
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
        """Begin the looks that are due, as far as the limits allow, and set the timer for the next ones."""
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
            if len(self._looking) >= limiter.concurrency or now < limiter.next_start:
                self._give_up_overdue(now)
                self._wake(max(limiter.next_start, now) if len(self._looking) < limiter.concurrency else now + _SWEEP)
                return
            heapq.heappop(self._due)
            self._begin(job, now)
        self._wake(now)

    def _begin(self, job: _Job, now: float) -> None:
        self.looks += 1
        self.late += now > job.late_after
        self._limiter.started()
        task = self.loop.create_task(self._look(job, now), context=self._context)
        self._looking.add(task)
        task.add_done_callback(partial(self._looked, job), context=self._context)

    def _looked(self, job: _Job, task: asyncio.Task[None]) -> None:
        self._looking.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:  # a task's time-out, which a signal raises wherever the program is
            job.end(error)
        if not self._closed:
            self._begin_due()

    async def _look(self, job: _Job, began: float) -> None:
        decision: Decision
        try:
            try:
                answer = await self._client.fetch(job.poller.job_id)
            except ModelsLabError as error:
                decision = job.poller.on_error(error)
            else:
                pause = self._limiter.answered(answer, began=began, under_way=len(self._looking))
                if pause is not None:
                    self._tell(pause)
                decision = job.poller.on_answer(answer)
        except Exception as error:  # noqa: BLE001 - a fault of ours is raised where this job is waited for
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

    def _tell(self, pause: float) -> None:
        logger.warning(
            "%r was refused a look because of load: no look for %.1f s, then at most %.1f a second and %d at once, "
            "recovering with good answers. Fewer jobs at once (an Airflow pool) avoid this",
            self._client,
            pause,
            self._limiter.rate,
            self._limiter.concurrency,
        )

    def _give_up_overdue(self, now: float) -> None:
        """End the jobs far past their deadline, for which the endpoint is too slow to give even a last look."""
        if now - self._due[0][0] < GRACE or now - self._swept_at < _SWEEP:
            return
        latest = time.time() - GRACE
        overdue = (job for _, _, job in self._due if job.waiting and job.poller.deadline < latest)
        found = list(itertools.islice(overdue, SLICE))
        for job in found:
            self._follow(job, job.poller.on_error(TransportError("the endpoint is too slow for a last look")))
        self._swept_at = now if len(found) < SLICE else -math.inf


class _Job:
    """A job in the schedule."""

    __slots__ = ("ended", "late_after", "owner", "poller")

    def __init__(self, poller: JobPoller, owner: Alone | Watch) -> None:
        self.poller = poller
        self.owner = owner
        self.late_after = math.inf
        self.ended = False

    @property
    def waiting(self) -> bool:
        """Whether anybody still waits for it."""
        return not (self.ended or self.owner.closed)

    def end(self, outcome: Finished | BaseException) -> None:
        """Hand the outcome to whoever waits, if somebody still does."""
        if self.waiting:
            self.ended = True
            self.owner.put(self.poller.job_id, outcome)
