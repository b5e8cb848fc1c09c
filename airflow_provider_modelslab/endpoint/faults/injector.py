"""Which fault acts now: asked at each point of a job's way, while faults are switched on.

Everything here is bookkeeping; :mod:`.transport` does to the socket what comes out of it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.endpoint.faults.plan import FaultPlan, Faults
from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.http.responses import ApiResponse
from airflow_provider_modelslab.endpoint.queue.billing import Bills
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.store import QueueStore
from airflow_provider_modelslab.endpoint.settings import Settings

__all__ = ["ATTRIBUTE", "Broken", "BrokenFile", "FaultInjector"]

log = logging.getLogger(__name__)

ATTRIBUTE = "x_faults"
"""The attribute with which a request asks for its own faults, and for no others: an empty list asks for none."""

_SUBMITS, _FETCHES, _READS, _ACTED = "submits", "fetches", "reads", "faults"
_MOST_REMEMBERED = 10_000  # requests, for the filter of identical ones
_PLAN_LIMIT = 5  # queued requests in the vendor's smallest plan, for the text of a refusal


@dataclass(frozen=True, slots=True)
class Broken:
    """No answer.

    :param how: ``reset``, or ``hang`` for ``seconds`` and then close the connection.
    """

    how: Literal["reset", "hang"]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file that is not sent as it is.

    :param how: ``missing`` (404), ``truncated`` to the share ``keep``, a page of ``html`` or ``random`` bytes in its
        place.
    :param token: what random bytes are drawn from.
    """

    how: Literal["missing", "truncated", "html", "random"]
    keep: float = 0.0
    token: str = ""


class FaultInjector:
    """Decides, counts and remembers.

    :param clock: seconds since the epoch.
    """

    def __init__(
        self, settings: Settings, store: QueueStore, bills: Bills, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._plan = settings.faults or FaultPlan()
        self._per_request = settings.allow_request_faults
        self._style = settings.answers
        self._store = store
        self._bills = bills
        self._clock = clock
        self._lock = threading.Lock()
        self._accepted: dict[tuple[str, str], float] = {}

    def before(
        self, owner: str, body: Mapping[str, Any], track_id: str | None, mark: str
    ) -> tuple[Faults, ApiResponse | Broken | None]:
        """The faults of a valid submit, and what it gets instead of being accepted.

        :param mark: the request's :func:`.billing.fingerprint`.
        :raises InvalidRequestError: for an ``x_faults`` that cannot be.
        """
        asked = body.get(ATTRIBUTE) if self._per_request else None
        subject = mark if track_id is None else f"track_id {track_id}"
        if asked is not None:
            try:
                self._plan.asked(asked, subject, 0)
            except ValueError as error:
                raise InvalidRequestError.of(ATTRIBUTE, str(error)) from None
        ordinal = self._bills.tally(_SUBMITS, subject) - 1
        faults = self._plan.draw(subject, ordinal) if asked is None else self._plan.asked(asked, subject, ordinal)
        return faults, self._refusal(owner, mark, ordinal, faults) if faults else None

    def accepted(self, owner: str, mark: str, job: QueuedJob) -> None:
        """Remember a submit for those like it."""
        now = self._clock()
        with self._lock:
            self._accepted[owner, mark] = now
            if len(self._accepted) > _MOST_REMEMBERED:
                self._accepted.pop(next(iter(self._accepted)))
        if job.status == "stuck":
            self._note("never_ending")

    def after(self, job: QueuedJob) -> ApiResponse | Broken | None:
        """What the submit of an accepted job gets instead of its answer."""
        faults = job.faults
        if _hangs(faults, "after"):
            return self._hang(faults)
        if faults.options("reset_after") is not None:
            return self._reset("reset_after")
        return self._error(faults, "error_after")

    def malformed(self, job: QueuedJob) -> bool:
        """Whether the answer to the submit is to be cut."""
        found = job.faults.options("malformed") is not None
        if found:
            self._note("malformed")
        return found

    def fetch(self, job: QueuedJob) -> ApiResponse | Broken | None:
        """What a fetch gets instead of its answer."""
        faults = job.faults
        hangs = _hangs(faults, "fetch")
        lost, early, flaky = map(faults.options, ("lost_id", "not_found_at_first", "flaky_fetch"))
        if not (hangs or lost or early or flaky):
            return None
        number = self._bills.tally(_FETCHES, str(job.id))
        for kind, acts in (
            ("lost_id", lost and number >= lost["fetch"]),
            ("not_found_at_first", early and number <= early["fetches"]),
        ):
            if acts:
                self._note(kind)
                return responses.not_found()
        if hangs and number <= faults.chosen["hang"]["fetches"]:
            return self._hang(faults)
        if flaky and faults.chance("flaky_fetch", number) < flaky["probability"]:
            how = flaky["how"]
            if how == "reset" or (how == "any" and faults.chance("flaky_fetch how", number) < 0.5):
                return self._reset("flaky_fetch")
            return self._error(faults, "flaky_fetch")
        return None

    def file(self, job: QueuedJob) -> BrokenFile | None:
        """What a request for the job's file gets instead of it."""
        faults, age = job.faults, self._clock() - (job.finished_at or 0.0)
        late, expired = faults.options("late_links"), faults.options("expired_links")
        for kind, acts in (
            ("late_links", late and age < late["seconds"]),
            ("expired_links", expired and age >= expired["seconds"]),
        ):
            if acts:
                self._note(kind)
                return BrokenFile("missing")
        for kind in ("truncated_video", "corrupt_video"):
            options = faults.options(kind)
            if options is None or (
                options["times"] is not None and self._bills.tally(f"{_READS} {kind}", str(job.id)) > options["times"]
            ):
                continue
            self._note(kind)
            if kind == "truncated_video":
                return BrokenFile("truncated", keep=options["keep"])
            return BrokenFile(options["content"], token=faults.token)
        return None

    def failure(self, job: QueuedJob) -> str | None:
        """Why the job is to fail; ``None`` when it is not."""
        options = job.faults.options("job_failed")
        if options is None:
            return None
        self._note("job_failed")
        return str(options["message"])

    def webhook_calls(self, job: QueuedJob) -> int:
        """How often the job's webhook is called."""
        options = job.faults.options("duplicate_webhook")
        if options is None:
            return 1
        self._note("duplicate_webhook")
        return int(options["times"])

    def acted(self) -> dict[str, int]:
        """How often each fault was carried out."""
        return self._bills.tallies(_ACTED)

    def reset(self) -> None:
        """Forget the bills and what was counted of submits, so that the plan begins anew. Jobs keep their faults."""
        with self._lock:
            self._accepted.clear()
        self._bills.reset(_SUBMITS, _ACTED)

    def _refusal(self, owner: str, mark: str, ordinal: int, faults: Faults) -> ApiResponse | Broken | None:
        limit = faults.options("rate_limit")
        if limit and self._is_limited(owner, ordinal, limit):
            self._note("rate_limit")
            return responses.rate_limited(limit["queue"] or _PLAN_LIMIT, limit["retry_after"], self._style)
        same = faults.options("same_request_filter")
        if same:
            with self._lock:
                last = self._accepted.get((owner, mark))
            if last is not None and self._clock() < last + same["seconds"]:
                self._note("same_request_filter")
                return responses.same_request(same["seconds"], self._style)
        if (error := self._error(faults, "error_before")) is not None:
            return error
        if faults.options("reset_before") is not None:
            return self._reset("reset_before")
        return self._hang(faults) if _hangs(faults, "before") else None

    def _is_limited(self, owner: str, ordinal: int, limit: Mapping[str, Any]) -> bool:
        if limit["queue"] is not None and self._store.unfinished(owner) >= limit["queue"]:
            return True
        return limit["submits"] is None or ordinal < limit["submits"]

    def _hang(self, faults: Faults) -> Broken:
        self._note("hang")
        return Broken("hang", faults.chosen["hang"]["seconds"])

    def _reset(self, kind: str) -> Broken:
        self._note(kind)
        return Broken("reset")

    def _error(self, faults: Faults, kind: str) -> ApiResponse | None:
        options = faults.options(kind)
        if options is None:
            return None
        self._note(kind)
        return ApiResponse(options["status"], responses.server_error().body)

    def _note(self, kind: str) -> None:
        self._bills.tally(_ACTED, kind)
        log.info("The fault %s is simulated", kind)


def _hangs(faults: Faults, when: str) -> bool:
    options = faults.options("hang")
    if options is None:
        return False
    chosen = options["when"]
    if chosen == "any":
        chosen = ("before", "after", "fetch")[int(3 * faults.chance("hang when"))]
    return bool(chosen == when)
