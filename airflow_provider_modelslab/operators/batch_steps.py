"""What the batch operator does for one clip: buy it once, land it, or note that it came to nothing."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import JobFailedError, JobLostError, ModelsLabError, ResultExpiredError
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.batch.plan import ClipPlan
from airflow_provider_modelslab.operators.jobs import deadline_of, has_outlived_its_result, readable_input, submit
from airflow_provider_modelslab.operators.task_ledger import buy_once, submission_name
from airflow_provider_modelslab.storage.relocate import is_gone

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.batch.desk import BatchDesk
    from airflow_provider_modelslab.client.polling.poller import Watch
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.ledger import LedgerPolicy
    from airflow_provider_modelslab.storage.purchase import Attempt, Landed, Purchase, Send

__all__ = ["RemoteSteps", "WatchedJobs"]


@dataclass(frozen=True)
class RemoteSteps:
    """The steps of :class:`~airflow_provider_modelslab.batch.runner.BatchRunner` at ModelsLab; called from threads.

    :param context: of the task.
    :param timeout: seconds that a job may take.
    :param check_links: whether http(s) clips are looked at before they are submitted.
    :param before_claim: called right before a clip is claimed; raises where the task was killed.
    """

    context: Context
    hook: ModelsLabHook
    desk: BatchDesk
    policy: LedgerPolicy
    attempt: Attempt
    timeout: float
    check_links: bool
    before_claim: Callable[[], None] = lambda: None

    def buy(self, clip: ClipPlan) -> Landed | Purchase:
        """What is paid for already, or one submit."""
        request = self.desk.plan.request(clip)

        def name(take: int) -> str:
            return submission_name(self.context, take, clip.destination.key)

        def track_id(take: int) -> str:
            return request.track_id or name(take)

        def prepare() -> Send:
            found = readable_input(
                request, self.hook, self.desk.plan.output, timeout=self.timeout, check_links=self.check_links
            )

            return lambda take: submit(self.hook, request, found, track_id(take))

        return buy_once(
            self.context,
            self.desk.ledger(clip),
            clip.fingerprint,
            self.policy,
            self.attempt,
            prepare,
            name=name,
            track_id=track_id,
            record=request.record(),
            conn_id=self.hook.modelslab_conn_id,
            skip_landed=self._gone,
            before_claim=self.before_claim,
        )

    def land(self, clip: ClipPlan, purchase: Purchase, finished: Finished) -> dict[str, Any]:
        """Copy the result to S3 and note it, unless another one has been asked for in its place."""
        ledger = self.desk.ledger(clip)
        ledger.refuse_if_superseded(purchase)
        try:
            manifest = self.hook.land(purchase.job, finished, clip.destination, expected_type=clip.output_type)
        except ResultExpiredError as error:
            ledger.failed(purchase.take, error)
            raise
        ledger.landed(purchase.take, manifest)
        return manifest

    def close(self, clip: ClipPlan, purchase: Purchase, error: ModelsLabError) -> bool:
        """Note that a job came to nothing; whether another one may be paid for by this try."""
        if not isinstance(error, JobFailedError | JobLostError):
            return False  # the job may still end well: a later try waits for it again
        self.desk.ledger(clip).failed(purchase.take, error)
        return purchase.resumed and not has_outlived_its_result(purchase.job, error)

    def _gone(self, manifest: Mapping[str, Any]) -> bool:
        return is_gone(self.hook.get_s3_client(), manifest)


class WatchedJobs:
    """The jobs of a batch in the shared schedule; see :class:`~airflow_provider_modelslab.batch.steps.Waiter`.

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

    def add(self, purchase: Purchase) -> None:
        """Look at this one too."""
        from airflow_provider_modelslab.client.polling.poller import Submitted

        job = purchase.job
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
