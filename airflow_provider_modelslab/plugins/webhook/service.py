"""The way of a claim: seen before? room for it? what does the endpoint say? And only then who is told."""

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
from airflow_provider_modelslab.plugins.webhook.asset_events import REMEMBERED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_modelslab.api.response import Answer
    from airflow_provider_modelslab.plugins.webhook.payload import Claim
    from airflow_provider_modelslab.plugins.webhook.rate_limit import ClaimRateLimiter

__all__ = ["HandledClaim", "WebhookService"]

log = logging.getLogger(__name__)

_MOST_LATER = 1_000
"""Jobs whose waiting tasks are looked for once more a little later, at most."""

_MOST_REMEMBERED = 10_000
"""Jobs that a process remembers to have told of, at most; Airflow's database knows the others."""


class HandledClaim(StrEnum):
    """What became of a claim."""

    TOLD = "told"
    DUPLICATE = "duplicate"
    NOT_DONE = "not done"
    UNCONFIRMED = "unconfirmed"


class WebhookService:
    """Takes claims, one process's share of them; the same job is never asked about twice at the same time.

    :param fetch: asks the endpoint about a job of a connection; blocks, and raises :class:`ModelsLabError`.
    :param tell: tells everybody of a job that is done; blocks.
    :param wake: wakes who waits for it, ``everywhere`` or in the run that the claim names; blocks, and returns whether
        that is settled.
    :param gate: keeps leaked tokens from turning into floods of calls to the endpoint.
    :param clock: seconds.
    :param pauses: seconds before each further try to wake somebody, when the first was too early: a webhook may come
        before the task has begun to wait.
    """

    def __init__(
        self,
        *,
        fetch: Callable[[str, str], Answer],
        tell: Callable[[str, Claim, Answer], None],
        wake: Callable[..., bool],
        gate: ClaimRateLimiter,
        pauses: Sequence[float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._tell = tell
        self._wake = wake
        self._gate = gate
        self._pauses = tuple(pauses)
        self._clock = clock
        self._asking: set[tuple[str, str]] = set()
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._later: set[asyncio.Task[None]] = set()

    async def take(self, conn_id: str, claim: Claim) -> HandledClaim:
        """See a claim through.

        :raises ClosedError: when there are too many claims.
        :raises ModelsLabError: when the endpoint could not be asked.
        """
        job = (conn_id, claim.job_id)
        if claim.says_running:
            return HandledClaim.NOT_DONE
        told_before = self._clock() - self._told.get(job, -math.inf) < REMEMBERED.total_seconds()
        if told_before or job in self._asking:
            return HandledClaim.DUPLICATE
        self._asking.add(job)
        try:
            async with self._gate.enter():
                taken, answer = await asyncio.to_thread(self._confirm, conn_id, claim)
                settled = answer is None or await asyncio.to_thread(
                    self._wake, conn_id, claim, answer, everywhere=not self._pauses
                )
        finally:
            self._asking.discard(job)
        if answer is not None and not settled and len(self._later) < _MOST_LATER:
            later = asyncio.create_task(self._wake_later(conn_id, claim, answer))
            self._later.add(later)
            later.add_done_callback(self._later.discard)
        if taken is HandledClaim.TOLD:
            self._told[job] = self._clock()
            if len(self._told) > _MOST_REMEMBERED:
                self._told.popitem(last=False)
        return taken

    async def _wake_later(self, conn_id: str, claim: Claim, answer: Answer) -> None:
        """Whatever goes wrong here, or is lost when the process ends: who waits goes on polling."""
        for number, pause in enumerate(self._pauses, 1):
            await asyncio.sleep(pause)
            last = number == len(self._pauses)
            try:
                if await asyncio.to_thread(self._wake, conn_id, claim, answer, everywhere=last):
                    return
            except Exception:
                log.exception("Job %s of %s: who waits for it could not be woken", claim.job_id, conn_id)
                return

    def _confirm(self, conn_id: str, claim: Claim) -> tuple[HandledClaim, Answer | None]:
        """Ask the endpoint; what the claim says of the outcome does not matter. Its answer, if worth telling."""
        try:
            answer = self._fetch(conn_id, claim.job_id)
        except ModelsLabError as error:
            log.warning("Job %s of %s: the webhook's claim could not be checked: %s", claim.job_id, conn_id, error)
            raise
        if isinstance(answer, Processing):
            log.info("Job %s of %s: called for, but it is %s", claim.job_id, conn_id, answer.status)
            return HandledClaim.NOT_DONE, None
        if answer.job_id is not None and answer.job_id != claim.job_id:
            log.warning("Job %s of %s: the endpoint told of another job; nothing is done", claim.job_id, conn_id)
            return HandledClaim.UNCONFIRMED, None
        if isinstance(answer, Failed):
            log.info("Job %s of %s: called for; the endpoint says %s", claim.job_id, conn_id, answer.code)
            failure = answer.to_error(claim.job_id)
            if not failure.ends_wait:
                raise failure
            if not isinstance(failure, JobFailedError):
                return (
                    HandledClaim.UNCONFIRMED,
                    None,
                )  # an unknown job above all: whoever waits for one has its own patience
        self._tell(conn_id, claim, answer)
        return (HandledClaim.TOLD if isinstance(answer, Finished) else HandledClaim.UNCONFIRMED), answer
