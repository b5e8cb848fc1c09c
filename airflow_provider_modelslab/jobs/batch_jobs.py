"""The jobs of a batch: one :class:`~airflow_provider_modelslab.jobs.paid_job.PaidJob` a clip, polled together."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import (
    JobFailedError,
    JobLostError,
    ModelsLabError,
    RateLimitError,
    TransportError,
)
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.budget.service import MAX_BLOCK
from airflow_provider_modelslab.budget.spending import FREE, Spending
from airflow_provider_modelslab.client.polling.poller import Submitted
from airflow_provider_modelslab.jobs.paid_job import PaidJob, close, land
from airflow_provider_modelslab.jobs.targets import target_of, targets_of
from airflow_provider_modelslab.jobs.timing import deadline_of
from airflow_provider_modelslab.ledger.chain import RunHere

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.aspect import OnStretch
    from airflow_provider_modelslab.api.prices import JobPrice
    from airflow_provider_modelslab.batch.planning.plan import ClipPlan
    from airflow_provider_modelslab.batch.results.tracker import BatchTracker
    from airflow_provider_modelslab.client.polling.poller import Branch, Watch
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.paid_job import Caller
    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.ledger.model import LedgerPolicy, Stored, Submission

__all__ = ["BatchJobs", "PolledJobs", "RunLocally"]

log = logging.getLogger(__name__)

RunLocally = Callable[[PaidJob, RunHere, Callable[[], bool]], dict[str, Any]]
"""Makes a clip on this worker and lands it; asks the last argument after each step whether to stop."""


@dataclass
class BatchJobs:
    """The paid jobs of a batch's clips; see :class:`~airflow_provider_modelslab.batch.running.protocols.ClipJobs`.

    :param timeout: seconds that a job may take.
    :param check_links: whether http(s) clips are read before they are submitted.
    :param on_stretch: what happens to each clip that would be stretched.
    :param spending: the prices, and the budgets that the jobs are reserved from.
    :param todo: the clips, in the order in which they are likely to be submitted.
    :param fallback: the places after the first, see :func:`~.targets.targets_of`.
    :param hooks: of the connections of these, by connection.
    :param run_locally: for the place on this worker.
    """

    hook: ModelsLabHook
    tracker: BatchTracker
    policy: LedgerPolicy
    attempt: AttemptId
    caller: Caller
    timeout: float
    check_links: bool
    on_stretch: OnStretch = "ignore"
    spending: Spending = FREE
    todo: Sequence[ClipPlan] = ()
    fallback: Sequence[Mapping[str, Any]] | None = None
    hooks: Mapping[str, ModelsLabHook] = field(default_factory=dict)
    run_locally: RunLocally | None = None

    def __post_init__(self) -> None:
        self._upcoming = _Upcoming(self)
        self._stopped = threading.Event()

    def acquire(self, clip: ClipPlan) -> Stored | Submission | RunHere:
        """See :meth:`PaidJob.acquire`."""
        self._upcoming.begin(clip)
        try:
            found = self._paid_job(clip).acquire()
        except BaseException as error:
            if not isinstance(error, RateLimitError | TransportError):  # after these it is submitted again
                self.spending.forget(clip.destination)
            raise
        self.spending.forget(clip.destination)
        return found

    def run_here(self, clip: ClipPlan, found: RunHere) -> dict[str, Any]:
        """Make a clip on this worker.

        :raises JobFailedError: when the engine failed; :class:`JobTimeoutError` when it took too long.
        """
        assert self.run_locally is not None  # noqa: S101 - else no place is this worker
        log.info(
            "Making %s on this worker, after %d failed places", clip.safe_source, len(found.chain["fallback_from"])
        )
        try:
            return self.run_locally(self._paid_job(clip), found, self._stopped.is_set)
        except ModelsLabError as error:
            error.chain = found.chain
            raise
        except Exception as error:
            failed = JobFailedError(f"{type(error).__name__}: {error}")
            failed.chain = found.chain
            raise failed from error

    def stop(self) -> None:
        """End :meth:`run_here` after its next step."""
        self._stopped.set()

    def again_by_clip(self) -> dict[str, list[int]]:
        """Nothing: what a clip may do again is in its ledger."""
        return {}

    def _paid_job(self, clip: ClipPlan) -> PaidJob:
        request, conn_id = self.tracker.plan.request(clip), self.hook.modelslab_conn_id
        return PaidJob(
            request=request,
            hook=self.hook,
            ledger=self.tracker.ledger(clip),
            destination=clip.destination,
            policy=self.policy,
            attempt=self.attempt,
            caller=self.caller,
            timeout=self.timeout,
            check_links=self.check_links,
            on_stretch=self.on_stretch,
            check_destination=False,  # the operator has, for all clips
            known_fingerprint=clip.fingerprint,
            known_jobs=self.tracker.jobs,
            spending=self.spending,
            upcoming=self._upcoming,
            places=() if self.fallback is None else targets_of(request, conn_id, self.fallback),
            hooks=self.hooks,
        )

    def land(self, clip: ClipPlan, submission: Submission, finished: Finished) -> dict[str, Any]:
        """See :func:`~airflow_provider_modelslab.jobs.paid_job.land`."""
        ledger = self.tracker.ledger(clip)
        manifest = land(self.hook, ledger, submission, finished, clip.destination, expected_type=clip.output_type)
        self.spending.settle(clip.destination, manifest.get("generation_time_s"))
        return manifest

    def abandon(self, clip: ClipPlan, submission: Submission) -> None:
        """Record that the task was killed while a job runs."""
        self.tracker.ledger(clip).abandoned(submission.number, "the task was killed on its worker")

    def close(self, clip: ClipPlan, submission: Submission, error: ModelsLabError) -> bool:
        """See :func:`~airflow_provider_modelslab.jobs.paid_job.close`; also whether there is another place."""
        may_submit_again = close(self.tracker.ledger(clip), submission, error)
        if isinstance(error, JobFailedError | JobLostError):
            self.spending.settle(clip.destination, None)
        place = target_of(submission.job)
        if may_submit_again or place is None or not self._paid_job(clip).has_place_after(place, error):
            return may_submit_again
        log.warning("%s: %s. The next place in fallback is tried", clip.safe_source, error)
        return True


class _Upcoming:
    """The clips that are not begun, so that slots for several are reserved together; for several threads."""

    def __init__(self, jobs: BatchJobs) -> None:
        self._jobs = jobs
        self._left = {clip.index: clip for clip in jobs.todo}
        self._lock = threading.Lock()

    def begin(self, clip: ClipPlan) -> None:
        """A clip is no longer to come."""
        with self._lock:
            self._left.pop(clip.index, None)

    def __call__(self) -> list[tuple[object, JobPrice | None]]:
        """The next of them."""
        with self._lock:
            clips = list(islice(self._left.values(), MAX_BLOCK))
        spending, plan = self._jobs.spending, self._jobs.tracker.plan
        if spending.prices is None:
            return [(clip.destination, None) for clip in clips]
        return [(clip.destination, spending.price_of(plan.request(clip))) for clip in clips]


class PolledJobs:
    """The jobs of a batch in the shared poll schedule; implements :class:`.Waiter` of the batch.

    :param watch: an open one, without jobs.
    :param deadlines: of the jobs that this try knew before, by key, in seconds since the epoch; the others' are added.
    :param timeout: seconds from the submission until another job is given up; one that an earlier try paid for longer
        ago gets as long once more.
    :param others: where jobs at other connections are polled, by connection.
    """

    def __init__(
        self,
        watch: Watch,
        deadlines: dict[tuple[str, str], float],
        *,
        timeout: float,
        others: Mapping[str, Branch] | None = None,
    ) -> None:
        self._watch = watch
        self._deadlines = deadlines
        self._timeout = timeout
        self._others = others or {}
        self._keys: dict[tuple[str | None, str], tuple[str, str]] = {}  # by branch and job id
        self._more: asyncio.Event = asyncio.Event()
        self._found: deque[tuple[tuple[str, str], Finished | ModelsLabError]] = deque()

    def add(self, submission: Submission) -> None:
        """Poll this one too."""
        job = submission.job
        submitted_at = job.submitted_at or time.time()
        deadline = self._deadlines.setdefault(job.key, deadline_of(job, self._timeout))
        branch = job.conn_id if job.conn_id in self._others else None
        self._keys[branch, job.job_id] = job.key
        watch = self._watch if branch is None else self._others[branch]
        watch.add(Submitted(job.job_id, submitted_at, deadline, job.eta))
        self._more.set()

    async def next(self) -> tuple[tuple[str, str], Finished | ModelsLabError]:
        """The next job that ended."""
        while not self._found:
            self._more.clear()
            for ended in await self._watch.gather():
                if not isinstance(ended.outcome, Finished | ModelsLabError):
                    raise ended.outcome
                self._found.append((self._keys.pop((ended.conn_id, ended.job_id)), ended.outcome))
            if not self._found:
                await self._more.wait()
        return self._found.popleft()
