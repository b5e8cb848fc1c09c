"""The trigger that waits for a job in the triggerer. It only reads: it never submits and never cancels."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.polling import Done, GiveUp, JobPoller, PollPolicy
from airflow_provider_modelslab.api.quantities import number_of, seconds_of, whole_of
from airflow_provider_modelslab.api.redaction import scrub
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.client.polling.registry import shared_poller
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.uri import S3Uri
from airflow_provider_modelslab.triggers.connections import client_of
from airflow_provider_modelslab.triggers.minimum_wait import earliest_event, sleep_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import timedelta

    from airflow_provider_modelslab.api.response import Answer

__all__ = ["ModelsLabVideo2VideoTrigger"]

logger = logging.getLogger(__name__)


class ModelsLabVideo2VideoTrigger(BaseTrigger):
    """Waits until a job is done, failed or past its deadline, and then sends one event.

    All triggers of a triggerer that use one connection share an HTTP session, rate limits and a poll schedule. The
    arguments contain no secret, only the connection's id. The deadline is a wall-clock time, so a trigger that is
    restarted in another triggerer, or runs in two of them, waits until the same moment.

    :param job_id: the job.
    :param modelslab_conn_id: the Airflow connection whose key submitted it.
    :param submitted_at: when it was submitted, in seconds since the epoch.
    :param deadline: when to give up, in seconds since the epoch.
    :param eta: the endpoint's own estimate at submission, in seconds.
    :param poll_policy: a :class:`PollPolicy` as a dict.
    :param ledger: ``s3://`` folder of the result's ledger, where there is one in S3.
    :param submission: the job's number in that ledger.
    :param job: the job as a dict, passed on in the event, if no ledger in S3 has it.
    :param extra_args: of the task, for what :meth:`on_kill` writes to that ledger.
    :param ledger_conn_id: the Airflow connection that leads to the ledger, where it is another one.
    """

    def __init__(
        self,
        job_id: str,
        *,
        modelslab_conn_id: str = ModelsLabHook.default_conn_name,
        submitted_at: float | str,
        deadline: float | str,
        eta: float | str | timedelta | None = None,
        poll_policy: dict[str, Any] | None = None,
        ledger: str | None = None,
        submission: int | str = 1,
        job: dict[str, Any] | None = None,
        extra_args: dict[str, Any] | None = None,
        ledger_conn_id: str | None = None,
        **_: Any,  # arguments of a newer version, during a rolling upgrade
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # core's base class has no annotations
        self.job_id = job_id
        self.modelslab_conn_id = modelslab_conn_id
        self.submitted_at = number_of(submitted_at, "submitted_at")
        self.deadline = number_of(deadline, "deadline")
        self.eta = None if eta is None else seconds_of(eta, "eta")
        self.poll_policy = poll_policy
        self.ledger = ledger
        self.submission = whole_of(submission, "submission", least=0)
        self.job = job
        self.extra_args = extra_args
        self.ledger_conn_id = ledger_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments, all plain JSON."""
        return (
            "airflow_provider_modelslab.triggers.video2video.ModelsLabVideo2VideoTrigger",
            {
                "job_id": self.job_id,
                "modelslab_conn_id": self.modelslab_conn_id,
                "submitted_at": self.submitted_at,
                "deadline": self.deadline,
                "eta": self.eta,
                "poll_policy": self.poll_policy,
                "ledger": self.ledger,
                "submission": self.submission,
                "job": self.job,
                "extra_args": self.extra_args,
                "ledger_conn_id": self.ledger_conn_id,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield exactly one event: ``{"status": "success", ...}`` or ``{"status": "error", "code": ...}``."""
        earliest = earliest_event()
        try:
            event = self._success(await self._wait())
        except ModelsLabError as error:
            event = error.to_event()
        await sleep_until(earliest)
        yield TriggerEvent(self._with_job(event))

    def event_for(self, answer: Answer) -> dict[str, Any] | None:
        """The payload that :meth:`run` would send after this answer; ``None`` if it would keep waiting.

        For the webhook, which arrives before the next poll.
        """
        policy = PollPolicy.from_dict(self.poll_policy)
        poller = JobPoller(self.job_id, submitted_at=self.submitted_at, deadline=self.deadline, policy=policy)
        decision = poller.on_answer(answer)
        if isinstance(decision, GiveUp):
            return self._with_job(decision.error.to_event())
        return self._with_job(self._success(decision.answer)) if isinstance(decision, Done) else None

    def _with_job(self, event: dict[str, Any]) -> dict[str, Any]:
        return event if self.job is None else {**event, "job": self.job, "submission": self.submission}

    def _success(self, finished: Finished) -> dict[str, Any]:
        return {
            "status": "success",
            "job_id": self.job_id,
            "links": list(finished.links),
            "generation_time": finished.generation_time,
            "meta": scrub(finished.meta),
        }

    async def _wait(self) -> Finished:
        # self.log would use 3 kB for the whole wait; both write to the task's log.
        logger.info("Waiting for job %s until %s UTC", self.job_id, time.strftime("%F %T", time.gmtime(self.deadline)))
        async with shared_poller(await client_of(self.modelslab_conn_id)) as poller:
            return await poller.wait(
                self.job_id,
                submitted_at=self.submitted_at,
                deadline=self.deadline,
                eta=self.eta,
                policy=PollPolicy.from_dict(self.poll_policy),
            )

    async def on_kill(self) -> None:
        """Record the job as abandoned when the wait is ended from outside (Airflow 3.3+); nothing is cancelled.

        This happens when a user marks or clears the task. Airflow 3.3 also calls it in a triggerer that was suspended
        for so long that another one has taken over; the record is then wrong, but harmless.
        """
        if await self._is_done():
            self.log.info(
                "The wait for job %s was ended, but the job is done. Either a webhook woke the task before the next "
                "poll, or the task was marked or cleared",
                self.job_id,
            )
            return
        self.log.warning(
            "The wait for job %s was ended: the task was marked or cleared, or another triggerer took over. "
            "The job keeps running at ModelsLab and is billed. If the task was marked, clear it to continue",
            self.job_id,
        )
        if self.ledger is not None:
            await sync_to_async(self._abandon)(S3Uri.parse(self.ledger))

    async def _is_done(self) -> bool:
        """Fetch once: a job that is done has not been abandoned. Airflow gives :meth:`on_kill` 30 seconds."""
        try:
            async with asyncio.timeout(10), (await client_of(self.modelslab_conn_id)).clone() as client:
                return isinstance(await client.fetch(self.job_id), Finished)
        except (ModelsLabError, TimeoutError):
            return False

    def _abandon(self, folder: S3Uri) -> None:
        conn_id = self.ledger_conn_id or self.modelslab_conn_id
        s3 = ModelsLabHook(conn_id, extra_args=self.extra_args).get_s3_client()
        Ledger(S3LedgerStore(s3, folder)).abandoned(self.submission, "the wait in the triggerer was ended from outside")
