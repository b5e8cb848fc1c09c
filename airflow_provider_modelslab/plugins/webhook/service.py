"""Handles a webhook's claim that a job is done: drops duplicates, limits the rate, confirms the job, then notifies."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from enum import StrEnum
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import JobFailedError, ModelsLabError
from airflow_provider_modelslab.api.response import Failed, Finished, Processing
from airflow_provider_modelslab.plugins.webhook.asset_events import DUPLICATE_WINDOW

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_modelslab.api.response import Answer
    from airflow_provider_modelslab.plugins.webhook.payload import Claim
    from airflow_provider_modelslab.plugins.webhook.rate_limit import ClaimRateLimiter

__all__ = ["HandledClaim", "WebhookService"]

log = logging.getLogger(__name__)

_MAX_LATER = 1_000
"""Jobs, at most, whose waiting tasks are searched for again a little later."""

_MAX_REPORTED = 10_000
"""Reported jobs that one process remembers, at most. Older ones are found in Airflow's database."""


class HandledClaim(StrEnum):
    """What became of a claim."""

    REPORTED = "reported"
    DUPLICATE = "duplicate"
    NOT_DONE = "not done"
    UNCONFIRMED = "unconfirmed"


class WebhookService:
    """Handles the claims that one process receives. A process never polls the same job twice at the same time.

    :param fetch: polls a job with a connection's key; blocks, and raises :class:`ModelsLabError`.
    :param report: reports a finished job to Airflow; blocks.
    :param wake: wakes the tasks that wait for the job, ``everywhere`` or in the run that the claim names; blocks.
        Returns whether no further try is needed.
    :param limiter: limits the polls that a leaked token can cause.
    :param clock: seconds.
    :param pauses: seconds before each further try to wake a task. A webhook may arrive before the task has begun to
        wait.
    """

    def __init__(
        self,
        *,
        fetch: Callable[[str, str], Answer],
        report: Callable[[str, Claim, Answer], None],
        wake: Callable[..., bool],
        limiter: ClaimRateLimiter,
        pauses: Sequence[float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._report = report
        self._wake = wake
        self._limiter = limiter
        self._pauses = tuple(pauses)
        self._clock = clock
        self._polling: set[tuple[str, str]] = set()
        self._reported: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._later: set[asyncio.Task[None]] = set()

    async def handle(self, conn_id: str, claim: Claim) -> HandledClaim:
        """Confirm a claim at the endpoint and act on the answer.

        :raises TooManyClaimsError: when there are too many claims.
        :raises ModelsLabError: when the endpoint could not be polled.
        """
        job = (conn_id, claim.job_id)
        if claim.says_running:
            return HandledClaim.NOT_DONE
        already_reported = self._clock() - self._reported.get(job, -math.inf) < DUPLICATE_WINDOW.total_seconds()
        if already_reported or job in self._polling:
            return HandledClaim.DUPLICATE
        self._polling.add(job)
        try:
            async with self._limiter.enter():
                handled, answer = await asyncio.to_thread(self._confirm, conn_id, claim)
                complete = answer is None or await asyncio.to_thread(
                    self._wake, conn_id, claim, answer, everywhere=not self._pauses
                )
        finally:
            self._polling.discard(job)
        if answer is not None and not complete and len(self._later) < _MAX_LATER:
            later = asyncio.create_task(self._wake_later(conn_id, claim, answer))
            self._later.add(later)
            later.add_done_callback(self._later.discard)
        if handled is HandledClaim.REPORTED:
            self._reported[job] = self._clock()
            if len(self._reported) > _MAX_REPORTED:
                self._reported.popitem(last=False)
        return handled

    async def _wake_later(self, conn_id: str, claim: Claim, answer: Answer) -> None:
        """Try again to wake the waiting tasks. Failures here are harmless: the triggers go on polling."""
        for number, pause in enumerate(self._pauses, 1):
            await asyncio.sleep(pause)
            last = number == len(self._pauses)
            try:
                if await asyncio.to_thread(self._wake, conn_id, claim, answer, everywhere=last):
                    return
            except Exception:
                log.exception("Job %s of %s: the tasks that wait for it could not be woken", claim.job_id, conn_id)
                return

    def _confirm(self, conn_id: str, claim: Claim) -> tuple[HandledClaim, Answer | None]:
        """Fetch the job's state, ignoring the claimed outcome. The answer is ``None`` if there is nothing to report."""
        try:
            answer = self._fetch(conn_id, claim.job_id)
        except ModelsLabError as error:
            log.warning("Job %s of %s: the webhook could not be checked: %s", claim.job_id, conn_id, error)
            raise
        if isinstance(answer, Processing):
            log.info("Job %s of %s: a webhook arrived, but the job is %s", claim.job_id, conn_id, answer.status)
            return HandledClaim.NOT_DONE, None
        if answer.job_id is not None and answer.job_id != claim.job_id:
            log.warning(
                "Job %s of %s: the endpoint answered for another job, so the webhook is ignored", claim.job_id, conn_id
            )
            return HandledClaim.UNCONFIRMED, None
        if isinstance(answer, Failed):
            log.info("Job %s of %s: a webhook arrived; the endpoint says %s", claim.job_id, conn_id, answer.code)
            failure = answer.to_error(claim.job_id)
            if not failure.ends_wait:
                raise failure
            if not isinstance(failure, JobFailedError):
                # Such as an unknown job: a trigger that waits for it applies its own time limit.
                return HandledClaim.UNCONFIRMED, None
        self._report(conn_id, claim, answer)
        return (HandledClaim.REPORTED if isinstance(answer, Finished) else HandledClaim.UNCONFIRMED), answer
