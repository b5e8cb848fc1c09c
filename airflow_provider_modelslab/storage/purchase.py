"""Buying once: from the ledger's entries to a job that is paid for, or the error that says why not.

Whatever runs this at the same time, is killed in the middle of it, or runs it again, at most one submit leaves for a
take, and a new take begins only when the one before is known to be of no use (or the policy accepts the risk).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from airflow_provider_modelslab.api.errors import (
    ChangedRequestError,
    JobFailedError,
    JobLostError,
    ModelsLabError,
    StorageConfigurationError,
    StorageUnavailableError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.redaction import scrub
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.storage.ledger import (
    Attach,
    Entry,
    Fingerprint,
    Hold,
    LedgerPolicy,
    LedgerStore,
    Reuse,
    Submit,
    decide,
    entry_name,
    last_take,
    next_take,
    stale_take,
)
from airflow_provider_modelslab.storage.manifest import Job
from airflow_provider_modelslab.storage.owner import describe_owner, is_provably_dead
from airflow_provider_modelslab.storage.writer import Writer

__all__ = ["Attempt", "Landed", "Ledger", "Purchase", "Send"]

log = logging.getLogger(__name__)

_LOOK_AGAIN = 2.0  # seconds between looks at a claim that another process holds
_LOST_CLAIM = 0.1  # seconds before looking at who was quicker
_BELIEVED = 60.0  # seconds for which a take counts as the last one without another look
_MOST_CLAIMS = 20  # tries to claim a take for what has landed already
_SLOW_CLAIM = 20.0  # seconds to write a claim, beyond which the rest of the lease may be too short for the submit


@dataclass(frozen=True, slots=True)
class Purchase:
    """A job that is paid for.

    :param take: which take it is.
    :param job: the job.
    :param finished: the result's links, when the submit itself was answered with them.
    :param resumed: whether an earlier attempt paid for it.
    :param known_at: when the ledger was seen to have no later take, in seconds since the epoch; ``None`` for unknown.
    """

    take: int
    job: Job
    finished: Finished | None = None
    resumed: bool = False
    known_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Landed:
    """A result that is in S3 already."""

    take: int
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who is asking.

    :param try_number: the task instance's try.
    :param first_try: the first try since the task was last cleared.
    :param lease: seconds after which a claim of this attempt counts as given up. It must cover a submit with all its
        repeats, and a minute more for writing the claim before it and the id after it.
    :param names: dag, task and run, for people who read the ledger.
    :param task_instance: Airflow's id of this try.
    """

    try_number: int = 1
    first_try: int = 1
    lease: float = 300.0
    names: Mapping[str, Any] | None = None
    task_instance: UUID | None = None

    @property
    def writer(self) -> Writer:
        """Which of the attempts at the same task it is."""
        return Writer(self.try_number, self.task_instance)


Send = Callable[[int], tuple[Job, Finished | None]]
"""Submits a take once: the job, and the links when it was finished at once."""


class Ledger:
    """The ledger of one task instance, or of one clip of a batch.

    :param store: where its entries are.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        store: LedgerStore,
        *,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        is_dead: Callable[[Mapping[str, Any]], bool] = is_provably_dead,
    ) -> None:
        self._store = store
        self._clock = clock
        self._sleep = sleep
        self._is_dead = is_dead

    def acquire(
        self,
        fingerprint: Fingerprint,
        policy: LedgerPolicy,
        attempt: Attempt,
        prepare: Callable[[], Send],
        *,
        track_id: Callable[[int], str] = str,
        skip_landed: Callable[[Mapping[str, Any]], bool] = lambda _: False,
        resubmit: Collection[int] = (),
        before_claim: Callable[[], None] = lambda: None,
    ) -> Purchase | Landed:
        """The job or the result that the ledger knows, else a new one, submitted once.

        :param prepare: checks and makes ready all that can be without paying, and returns what submits; called before
            anything is claimed.
        :param track_id: the request's track_id for a take, written into the claim so that people can find the job.
        :param skip_landed: says of a landed manifest that it is of no use any more (its object is gone).
        :param resubmit: takes of unknown outcome that a person said to submit again.
        :param before_claim: called right before a claim, and raises where nothing may be paid for any more.
        :raises SubmissionUnknownError: when something may have been paid for and a person has to decide.
        :raises ModelsLabError: whatever ``prepare`` and the submit raise.
        """
        send: Send | None = None
        told = ""
        looked_again = 0
        while True:
            entries, now = self._store.load(), self._clock()
            stale = stale_take(entries, now=now, is_dead=self._is_dead)
            if stale is not None and stale != looked_again:
                # The id may have been written after this was read, or be on its way; from now on none is sent.
                looked_again = stale
                self._sleep(_LOOK_AGAIN)
                continue
            choice = decide(
                entries,
                fingerprint,
                policy,
                now=now,
                first_try=attempt.first_try,
                names=attempt.names,
                writer=attempt.writer,
                resubmit=resubmit,
                is_dead=self._is_dead,
            )
            if isinstance(choice, Reuse):
                if not skip_landed(choice.manifest):
                    return Landed(choice.take, choice.manifest)
                paid = entries.get(entry_name(choice.take, Entry.JOB))
                if paid and entry_name(choice.take, Entry.FAILED) not in entries:
                    choice = Attach(choice.take, paid)
                else:
                    choice = Submit(next_take(entries), "the landed result is gone")
            if isinstance(choice, Attach):
                return _purchase(choice, known_at=now)
            if isinstance(choice, Hold):
                if not told:
                    told = f"Another process ({choice.owner.get('host')}, pid {choice.owner.get('pid')}) is submitting"
                    log.info("%s take %d; waiting for it", told, choice.take)
                self._sleep(min(_LOOK_AGAIN, max(choice.until - self._clock(), 0.1)))
                continue
            if send is None:
                send = prepare()
                continue  # that may have taken minutes
            before_claim()
            bought = self._submit(choice, fingerprint, attempt, send, track_id(choice.take))
            if bought is not None:
                return bought
            self._sleep(_LOST_CLAIM)

    def _submit(
        self, choice: Submit, fingerprint: Fingerprint, attempt: Attempt, send: Send, track_id: str
    ) -> Purchase | None:
        """Claim and submit one take; ``None`` when another process was quicker."""
        now = self._clock()
        claim = self._claim(fingerprint, attempt, track_id)
        if not self._store.create(entry_name(choice.take, Entry.CLAIM), claim):
            return None
        log.info("Submitting %s: %s", track_id, choice.why)
        if self._clock() - now > min(_SLOW_CLAIM, attempt.lease / 10):
            # The store was so slow that the submit might outlast the claim, and another attempt take it for dead.
            self._note(choice.take, Entry.RELEASED, {"message": "the claim took too long to write"})
            raise TransportError(
                "The ledger answers too slowly to submit safely; nothing was submitted. Try again later"
            )
        try:
            job, finished = send(choice.take)
        except SubmissionUnknownError as error:
            error.take, error.sent = choice.take, True
            self._note(choice.take, Entry.UNKNOWN, error.to_event())
            raise
        except ModelsLabError as error:
            error.sent = True
            done = Entry.FAILED if isinstance(error, JobFailedError | JobLostError) else Entry.RELEASED
            self._note(choice.take, done, error.to_event())
            raise
        except BaseException as error:
            # A time-out of the task, a kill, a defect: the request may have left.
            self._note(choice.take, Entry.UNKNOWN, {"code": type(error).__name__})
            raise
        try:
            self.submitted(choice.take, job, finished)
        except BaseException:
            # The task's time-out can strike here too, and the id is worth more than a prompt end.
            self.submitted(choice.take, job, finished)
            raise
        return Purchase(choice.take, job, finished, known_at=now)

    def _claim(self, fingerprint: Fingerprint, attempt: Attempt, track_id: str) -> dict[str, Any]:
        now = self._clock()
        return {
            **asdict(fingerprint),
            **(attempt.names or {}),
            "owner": describe_owner(),
            **attempt.writer.claim(),
            "claimed_at": _iso(now),
            "expires_at": now + attempt.lease,
            "track_id": track_id,
        }

    def submitted(self, take: int, job: Job, finished: Finished | None = None) -> None:
        """Write the job's id; a store that refuses is no error, since the job is paid for and can be waited for.

        A job that was finished at once and has no id cannot be asked for again: its links are all that a later attempt
        has to land it by, so they are written down as they are. They may be signed, and live for 24 hours.
        """
        entry = {**job.to_dict(), "submitted_at_iso": _iso(job.submitted_at or self._clock())}
        if finished is not None and not job.job_id:
            entry |= {"links": list(finished.links), "generation_time": finished.generation_time}
        self._note(take, Entry.JOB, entry)

    def refuse_if_superseded(self, purchase: Purchase) -> None:
        """Make sure, before a result is landed, that nothing else was asked for in its place since it was paid for.

        The process may be one that Airflow has given up, or the job one that took longer than all that came after it.
        It costs a listing, unless the take was the last one a minute ago. A ledger that cannot be read says nothing
        against landing what is paid for.

        :raises ChangedRequestError: when there is a later take.
        """
        if purchase.known_at is not None and 0 <= self._clock() - purchase.known_at < _BELIEVED:
            return
        try:
            last = last_take(self._store.names())
        except (StorageConfigurationError, StorageUnavailableError) as error:
            log.warning("Whether take %d is still the last one is not known: %s", purchase.take, error)
            return
        if last is not None and last > purchase.take:
            raise ChangedRequestError(
                f"Take {purchase.take} is done, and was not landed: take {last} was paid for since, for another "
                "request or another clip, and its result belongs in this place. There is nothing to do, unless two "
                "tasks want different results here: then give each a destination of its own",
                job_id=purchase.job.job_id,
            )

    def landed(self, take: int, manifest: Mapping[str, Any]) -> None:
        """Write that the result is in S3."""
        self._note(take, Entry.LANDED, manifest)

    def failed(self, take: int, error: ModelsLabError) -> None:
        """Write that the take is of no use: a later attempt may pay for another."""
        self._note(take, Entry.FAILED, error.to_event())

    def abandoned(self, take: int, why: str) -> None:
        """Write that nobody waits for the job any more; a later attempt still picks it up."""
        self._note(take, Entry.ABANDONED, {"why": why, "at": _iso(self._clock())})

    def find_landed(
        self,
        fingerprint: Fingerprint,
        policy: LedgerPolicy,
        attempt: Attempt,
        *,
        skip_landed: Callable[[Mapping[str, Any]], bool] = lambda _: False,
    ) -> Landed | None:
        """The result that has landed for this request, for work that nobody bills; ``None`` when there is none.

        :raises ChangedRequestError: when another request has landed and the policy says ``fail``.
        """
        choice = decide(
            self._store.load(),
            fingerprint,
            replace(policy, on_unknown_submission="resubmit"),  # a take that its process did not live to write whole
            now=self._clock(),
            first_try=attempt.first_try,
            names=attempt.names,
            writer=attempt.writer,
            is_dead=self._is_dead,
        )
        if isinstance(choice, Reuse) and not skip_landed(choice.manifest):
            return Landed(choice.take, choice.manifest)
        return None

    def record_landed(self, fingerprint: Fingerprint, attempt: Attempt, manifest: Mapping[str, Any]) -> None:
        """Write a take that nobody billed, whole."""
        claim = self._claim(fingerprint, attempt, str(manifest.get("job_id")))
        for _ in range(_MOST_CLAIMS):
            take = next_take(self._store.load())
            if self._store.create(entry_name(take, Entry.CLAIM), claim):
                self._note(take, Entry.LANDED, manifest)
                return
            self._sleep(_LOST_CLAIM)
        log.error("No take could be claimed for what has landed, so a rerun makes it again: %s", scrub(manifest))

    def adopt(
        self,
        job_id: str,
        *,
        conn_id: str,
        take: int | None = None,
        fingerprint: Fingerprint | None = None,
        request: Mapping[str, Any] | None = None,
    ) -> bool:
        """Give the id that a person found to a take; says whether that take had none and has it now.

        The job counts as submitted when the take was claimed, which was just before: deadlines, and whether the vendor
        has lost or expired it, are told from that time.

        :param take: which one; by default the last that was not refused.
        :param fingerprint: of the request as it is now.
        :param request: its record; noted with the job where the take was claimed for the same one.
        """
        entries = self._store.load()
        take = take or last_take(entries)
        if take is None:
            return False
        claim = entries.get(entry_name(take, Entry.CLAIM), {})
        claimed = claim.get("claimed_at")
        job = Job(
            job_id=job_id,
            conn_id=conn_id,
            submitted_at=datetime.fromisoformat(claimed).timestamp() if claimed else None,
            request=dict(request or {}) if fingerprint is not None and fingerprint.matches(claim) else {},
        )
        return self._store.create(entry_name(take, Entry.JOB), {**job.to_dict(), "adopted": True})

    def _note(self, take: int, kind: Entry, entry: Mapping[str, Any]) -> None:
        """Write what is already true. The truth does not become less so when the store refuses, so this only warns."""
        for pause in (0.2, 1.0, None):
            try:
                self._store.create(entry_name(take, kind), entry)
            except Exception as error:  # noqa: BLE001 - losing the note must not lose the job as well
                log.warning("The ledger's entry %s was not written: %s", entry_name(take, kind), error)
                if pause is not None:
                    self._sleep(pause)
            else:
                return
        log.error(
            "Take %d: %s is not in the ledger; a retry of this task may not know it: %s", take, kind, scrub(entry)
        )


def _purchase(choice: Attach, *, known_at: float) -> Purchase:
    job, links = Job.from_dict(choice.job), tuple(choice.job.get("links") or ())
    finished = None if job.job_id else Finished(None, links, job.meta, choice.job.get("generation_time"))
    return Purchase(choice.take, job, finished, resumed=True, known_at=known_at)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
