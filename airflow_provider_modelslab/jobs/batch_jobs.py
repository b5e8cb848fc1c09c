"""The jobs of a batch: one :class:`~airflow_provider_modelslab.jobs.paid_job.PaidJob` a clip, polled together."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.jobs.paid_job import PaidJob, close, land
from airflow_provider_modelslab.jobs.timing import deadline_of

if TYPE_CHECKING:
    from airflow_provider_modelslab.batch.desk import BatchDesk
    from airflow_provider_modelslab.batch.plan import ClipPlan
    from airflow_provider_modelslab.client.polling.poller import Watch
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.paid_job import Caller
    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.ledger.model import LedgerPolicy, Stored, Submission

__all__ = ["BatchJobs", "PolledJobs"]


@dataclass(frozen=True)
class BatchJobs:
    """The paid jobs of a batch's clips; see :class:`~airflow_provider_modelslab.batch.protocols.ClipJobs`.

    :param timeout: seconds that a job may take.
    :param check_links: whether http(s) clips are read before they are submitted.
    """

    hook: ModelsLabHook
    desk: BatchDesk
    policy: LedgerPolicy
    attempt: AttemptId
    caller: Caller
    timeout: float
    check_links: bool

    def acquire(self, clip: ClipPlan) -> Stored | Submission:
        """See :meth:`PaidJob.acquire`."""
        return PaidJob(
            request=self.desk.plan.request(clip),
            hook=self.hook,
            ledger=self.desk.ledger(clip),
            destination=clip.destination,
            policy=self.policy,
            attempt=self.attempt,
            caller=self.caller,
            timeout=self.timeout,
            check_links=self.check_links,
            check_destination=False,  # the operator has, for all clips
            known_fingerprint=clip.fingerprint,
            known_jobs=self.desk.jobs,
        ).acquire()

    def land(self, clip: ClipPlan, submission: Submission, finished: Finished) -> dict[str, Any]:
        """See :func:`~airflow_provider_modelslab.jobs.paid_job.land`."""
        ledger = self.desk.ledger(clip)
        return land(self.hook, ledger, submission, finished, clip.destination, expected_type=clip.output_type)

    def close(self, clip: ClipPlan, submission: Submission, error: ModelsLabError) -> bool:
        """See :func:`~airflow_provider_modelslab.jobs.paid_job.close`."""
        return close(self.desk.ledger(clip), submission, error)


class PolledJobs:
    """The jobs of a batch in the shared schedule; see :class:`~airflow_provider_modelslab.batch.protocols.Waiter`.

    :param watch: an open one, without jobs.
    :param deadlines: of the jobs that this try knew before, by id, in seconds since the epoch; the others' are added.
    :param timeout: seconds from the submission until another job is given up; one that an earlier try paid for longer
        ago gets as long once more.
    """

    def __init__(self, watch: Watch, deadlines: dict[str, float], *, timeout: float) -> None:
        self._watch = watch
        self._deadlines = deadlines
        self._timeout = timeout
        self._more: asyncio.Event = asyncio.Event()
        self._found: deque[tuple[str, Finished | ModelsLabError]] = deque()

    def add(self, submission: Submission) -> None:
        """Poll this one too."""
        from airflow_provider_modelslab.client.polling.poller import Submitted

        job = submission.job
        submitted_at = job.submitted_at or time.time()
        deadline = self._deadlines.setdefault(job.job_id, deadline_of(job, self._timeout))
        self._watch.add(Submitted(job.job_id, submitted_at, deadline, job.eta))
        self._more.set()

    async def next(self) -> tuple[str, Finished | ModelsLabError]:
        """The next job that ended."""
        while not self._found:
            self._more.clear()
            for ended in await self._watch.gather():
                if not isinstance(ended.outcome, Finished | ModelsLabError):
                    raise ended.outcome
                self._found.append((ended.job_id, ended.outcome))
            if not self._found:
                await self._more.wait()
        return self._found.popleft()
