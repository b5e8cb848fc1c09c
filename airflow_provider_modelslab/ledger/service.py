"""The ledger of one result: finds paid jobs, claims a submission before its submit, and records the outcome.

With concurrent processes, kills and retries: at most one submit is sent for a claim, and a new claim is made only when
the submission before it is known to be useless (or the policy accepts the risk).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from airflow_provider_modelslab.api.errors import (
    STORAGE_ERRORS,
    ChangedRequestError,
    JobFailedError,
    JobLostError,
    ModelsLabError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.redaction import scrub
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.ledger.attempt import AttemptId, describe_process, is_provably_dead
from airflow_provider_modelslab.ledger.chain import next_place
from airflow_provider_modelslab.ledger.model import (
    FORMAT_VERSION,
    Attach,
    Decision,
    Entries,
    Entry,
    Fingerprint,
    Hold,
    LedgerPolicy,
    LedgerStore,
    Reuse,
    Stored,
    Submission,
    SubmitNew,
    decide,
    entry_name,
    last_live_submission,
    last_submission,
    next_submission,
    stale_submission,
    unresolved_submission,
)
from airflow_provider_modelslab.storage.result_manifest import Job

__all__ = ["Ledger"]

log = logging.getLogger(__name__)

_HOLD_POLL = 2.0  # seconds between reads of a claim that another process holds
_LOST_CLAIM = 0.1  # seconds before the entries are read again after another process won the claim
_LISTING_VALID = 60.0  # seconds for which a submission counts as the last one without another listing
_MAX_CLAIMS = 20  # attempts to claim a number for a result that is stored already
_LOCAL_LEASE = 60.0  # seconds between the claim for a local result and the record that it has landed
_SLOW_CLAIM = 20.0  # seconds to write a claim; beyond it the rest of the lease may be too short for the submit


class Ledger:
    """The ledger of one result.

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

    # -- before a submit ------------------------------------------------------------------------------------------

    def find(
        self,
        fingerprint: Fingerprint,
        policy: LedgerPolicy,
        attempt: AttemptId,
        *,
        gone: Collection[int] = (),
        resubmit: Collection[int] = (),
    ) -> Stored | Submission | SubmitNew:
        """The stored result or the paid job, else the submission to claim. Waits while another process submits.

        :param gone: submissions that have landed and whose result is no longer in S3.
        :param resubmit: submissions of unknown outcome that a person released for another submit.
        :raises SubmissionUnknownError: when a job may have been paid for and a person has to decide.
        :raises ChangedRequestError: when another request was paid for and this one must not be.
        :raises ClipUnreadableError: when the job of an earlier submission failed because the clip cannot be read.
        :raises StorageConfigurationError: when the store cannot be read.
        """
        reread, joined, reported = 0, None, False
        while True:
            entries, now = self._store.load(), self._clock()
            last = last_submission(entries)
            if last is not None and last != joined:
                joined = last
                self._attach(last, entries, fingerprint, attempt)
            stale = stale_submission(entries, now=now, is_dead=self._is_dead)
            if stale is not None and stale != reread:
                # The job's id may be written after this read; no submit can be sent any more, so read again.
                reread = stale
                self._sleep(_HOLD_POLL)
                continue
            choice = decide(
                entries,
                fingerprint,
                policy,
                attempt,
                now=now,
                gone=gone,
                resubmit=resubmit,
                is_dead=self._is_dead,
            )
            if not isinstance(choice, Hold):
                return _found(choice, now, entries)
            if not reported:
                reported = True
                host, pid = choice.process.get("host"), choice.process.get("pid")
                log.info("Another process (%s, pid %s) is submitting submission %d; waiting", host, pid, choice.number)
            self._sleep(min(_HOLD_POLL, max(choice.until - self._clock(), 0.1)))

    def preview(self, fingerprint: Fingerprint, policy: LedgerPolicy, attempt: AttemptId) -> Decision:
        """The decision that :meth:`find` would make now, without writing or waiting.

        :raises SubmissionUnknownError: as :meth:`find` does, which also goes for the next two.
        :raises ChangedRequestError:
        :raises ClipUnreadableError:
        :raises StorageConfigurationError: when the store cannot be read.
        """
        return decide(self._store.load(), fingerprint, policy, attempt, now=self._clock(), is_dead=self._is_dead)

    def next_place(
        self, fingerprint: Fingerprint, places: Sequence[Mapping[str, Any]]
    ) -> tuple[int, list[dict[str, Any]]]:
        """Where the next submission of a chain goes, see :func:`~airflow_provider_modelslab.ledger.chain.next_place`.

        :raises StorageConfigurationError: when the store cannot be read.
        """
        return next_place(self._store.load(), fingerprint, places)

    def _attach(
        self, number: int, entries: Mapping[str, Mapping[str, Any]], fingerprint: Fingerprint, attempt: AttemptId
    ) -> None:
        """Record that a Dag run other than the one that claimed a submission also waits for it.

        The result then counts as this run's own once it has landed, also after the run is cleared.
        """
        claim = entries.get(entry_name(number, Entry.CLAIM), {})
        by, mark = AttemptId.from_claim(claim), entry_name(number, Entry.ATTACHED, attempt)
        is_over = any(entry_name(number, kind) in entries for kind in (Entry.LANDED, Entry.FAILED))
        if by is None or by.is_same_run(attempt) or is_over or mark in entries or not fingerprint.matches(claim):
            return
        self._write(mark, {"attempt": attempt.record(), "at": _iso(self._clock())})

    def claim(
        self,
        number: int,
        fingerprint: Fingerprint,
        attempt: AttemptId,
        *,
        lease: float,
        name: str,
        track_id: str,
        budget: Collection[str] | None = None,
        place: Mapping[str, Any] | None = None,
    ) -> bool:
        """Claim a submission; ``False`` if another process won.

        :param lease: seconds after which the claim expires. It must cover a submit with all its repeats, and a minute
            more for writing the claim before it and the job after it.
        :param name: by which a person resolves the submission if its outcome is unknown.
        :param track_id: of the request, so that a person can find the job.
        :param budget: the slots that are reserved for it, so that others can see whether they were used.
        :param place: where it is submitted, if there are other places to fall back to.
        :raises TransportError: when the store was too slow to submit safely; the claim is released.
        :raises StorageConfigurationError: when the store cannot be written.
        """
        began = self._clock()
        if not self._create_claim(
            number, fingerprint, attempt, lease=lease, name=name, track_id=track_id, budget=budget, place=place
        ):
            return False
        if self._clock() - began > min(_SLOW_CLAIM, lease / 10):
            # The store was so slow that the lease might expire during the submit, and another attempt submit again.
            error = TransportError(
                "The ledger's store is too slow to submit safely; nothing was submitted. Try again later"
            )
            self._note(number, Entry.RELEASED, {"error": error.to_event()})
            raise error
        return True

    def _create_claim(
        self,
        number: int,
        fingerprint: Fingerprint,
        attempt: AttemptId,
        *,
        lease: float,
        name: str,
        track_id: str,
        billed: bool = True,
        budget: Collection[str] | None = None,
        place: Mapping[str, Any] | None = None,
    ) -> bool:
        now = self._clock()
        claim = {
            "version": FORMAT_VERSION,
            "identity_version": fingerprint.version,
            "request": fingerprint.request,
            "source": fingerprint.source,
            "attempt": attempt.record(),
            "process": describe_process(),
            "claimed_at": _iso(now),
            "expires_at": now + lease,
            "name": name,
            "track_id": track_id,
            "billed": billed,
            **({"budget": list(budget)} if budget else {}),
            **({"place": dict(place)} if place else {}),
        }
        if self._store.create(entry_name(number, Entry.CLAIM), claim):
            return True
        self._sleep(_LOST_CLAIM)
        return False

    # -- after a submit -------------------------------------------------------------------------------------------

    def record(self, number: int, job: Job, finished: Finished | None = None) -> Submission:
        """Record the job of a submit that was accepted.

        A failed write is no error: the job is paid for and can be waited for. A job that was finished at once and has
        no id cannot be polled again: a later attempt can land it only by its links, so they are recorded with their
        queries. They may be signed, and expire after 24 hours.
        """
        entry = {**job.to_dict(), "submitted_at_iso": _iso(job.submitted_at or self._clock())}
        if finished is not None and not job.job_id:
            entry |= {"links": list(finished.links), "generation_time": finished.generation_time}
        try:
            self._note(number, Entry.JOB, entry)
        except BaseException:
            # The task's time-out may be raised here; recording the id is more important than a prompt end.
            self._note(number, Entry.JOB, entry)
            raise
        return Submission(number, job, finished, known_at=job.submitted_at)

    def record_error(self, number: int, error: BaseException) -> Entry:
        """Record how a submit failed: refused, failed at once, or of unknown outcome; marks the error as ``sent``.

        :return: the kind of the entry.
        """
        if not isinstance(error, ModelsLabError):
            # A time-out of the task, a kill, a defect: the request may have been sent.
            self._note(number, Entry.UNKNOWN, {"error": {"code": type(error).__name__}})
            return Entry.UNKNOWN
        error.sent = True
        kind = Entry.RELEASED
        if isinstance(error, SubmissionUnknownError):
            error.submission, kind = number, Entry.UNKNOWN
        elif isinstance(error, JobFailedError | JobLostError):
            kind = Entry.FAILED
        self._note(number, kind, {"error": error.to_event()})
        return kind

    def refuse_if_superseded(self, submission: Submission) -> None:
        """Check, before a result is landed, that no later submission was made at the same destination.

        This process may be a stale worker, or the job may have taken longer than later ones. The check costs a listing,
        unless the ledger was read within the last minute. If the ledger cannot be read, the result is landed, since it
        is paid for.

        :raises ChangedRequestError: when there is a later submission.
        """
        if submission.known_at is not None and 0 <= self._clock() - submission.known_at < _LISTING_VALID:
            return
        try:
            last = last_live_submission(self._store.names())
        except STORAGE_ERRORS as error:
            log.warning(
                "Submission %d is landed without a check for later submissions, because the ledger cannot be read: %s",
                submission.number,
                error,
            )
            return
        if last is not None and last > submission.number:
            raise ChangedRequestError(
                f"Submission {submission.number} was not landed, because submission {last} replaced it: another "
                "request or clip at the same destination. To copy its result to another destination at no cost, within "
                f"24 hours: `airflow modelslab land {submission.job.job_id} --to s3://...` (add --conn-id unless it is "
                "modelslab_default). Give each task its own destination. A new destination pays for a new job",
                job_id=submission.job.job_id,
            )

    def landed(self, number: int, manifest: Mapping[str, Any]) -> None:
        """Record that the result is in S3."""
        self._note(number, Entry.LANDED, {"manifest": dict(manifest), "landed_at": self._clock()})

    def failed(self, number: int, error: ModelsLabError) -> None:
        """Record that the job failed: a later attempt may pay for another one."""
        self._note(number, Entry.FAILED, {"error": error.to_event()})

    def abandoned(self, number: int, why: str) -> None:
        """Record that no task waits for the job any more; a later attempt still resumes it."""
        self._note(number, Entry.ABANDONED, {"why": why, "at": _iso(self._clock())})

    def adopt(
        self,
        job_id: str,
        *,
        number: int | None,
        conn_id: str,
        fingerprint: Fingerprint,
        request: Mapping[str, Any],
    ) -> bool:
        """Record the job id that a person found for a submission; ``False`` when it has one already.

        The time of the claim, shortly before the submit, counts as the time of submission: deadlines, and whether the
        vendor has lost or expired the job, are counted from it.

        :param number: of the submission; by default the last that was not refused.
        :param fingerprint: of the request as it is now.
        :param request: its record; stored with the job if the submission was claimed for the same request.
        """
        entries = self._store.load()
        number = number or last_submission(entries)
        if number is None:
            return False
        claim = entries.get(entry_name(number, Entry.CLAIM), {})
        claimed = claim.get("claimed_at")
        place = claim.get("place")
        record = dict(request) if fingerprint.matches(claim) else {}
        if place is not None:  # the person has found it in the account of that place
            conn_id = place["modelslab_conn_id"]
            record |= {"model_id": place["model_id"]} if record and place["model_id"] else {}
        job = Job(
            job_id=job_id,
            conn_id=conn_id,
            submitted_at=datetime.fromisoformat(claimed).timestamp() if claimed else None,
            request=record,
            chain=None if place is None else {"made_by": dict(place)},
        )
        entry = {"version": FORMAT_VERSION, **job.to_dict(), "adopted": True}
        return self._store.create(entry_name(number, Entry.JOB), entry)

    def resolve(self, number: int, *, by: str, why: str) -> bool:
        """Record that a person allows the next attempt to submit again.

        ``False`` if the outcome is known by now, the submission is resolved already, or a process may still be
        submitting.

        :param number: of a submission of unknown outcome, see
            :func:`~airflow_provider_modelslab.ledger.model.unresolved_submission`.
        :param by: the person.
        :param why: the reason.
        :raises StorageConfigurationError: when the store cannot be read or written.
        """
        now = self._clock()
        if unresolved_submission(self._store.load(), now=now, is_dead=self._is_dead) != number:
            return False
        entry = {"version": FORMAT_VERSION, "decision": "resubmit", "by": by, "why": why, "at": _iso(now)}
        return self._store.create(entry_name(number, Entry.RESOLVED), entry)

    # -- local generation, which is not billed --------------------------------------------------------------------

    def find_stored(
        self, fingerprint: Fingerprint, policy: LedgerPolicy, attempt: AttemptId, *, gone: Collection[int] = ()
    ) -> Stored | None:
        """The stored result that can be reused, for local generation; ``None`` if there is none.

        :raises ChangedRequestError: when another request has landed and this one must not replace it.
        """
        entries = self._store.load()
        choice = decide(
            entries,
            fingerprint,
            replace(policy, on_unknown_submission="resubmit"),  # a submission whose process died before it was complete
            attempt,
            now=self._clock(),
            gone=gone,
            is_dead=self._is_dead,
        )
        return _stored(choice, entries) if isinstance(choice, Reuse) else None

    def record_stored(
        self,
        fingerprint: Fingerprint,
        attempt: AttemptId,
        manifest: Mapping[str, Any],
        *,
        place: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a result that was made locally and has landed.

        :param place: where it was made, if it is one of a chain.
        """
        for _ in range(_MAX_CLAIMS):
            number = next_submission(self._store.load())
            made_as = str(manifest.get("job_id"))
            if self._create_claim(
                number,
                fingerprint,
                attempt,
                lease=_LOCAL_LEASE,
                name=made_as,
                track_id=made_as,
                billed=False,
                place=place,
            ):
                self.landed(number, manifest)
                return
        log.error("The result is in S3, but not in the ledger, so a rerun makes it again: %s", scrub(manifest))

    # -- writing --------------------------------------------------------------------------------------------------

    def _note(self, number: int, kind: Entry, entry: Mapping[str, Any]) -> None:
        self._write(entry_name(number, kind), entry)

    def _write(self, name: str, entry: Mapping[str, Any]) -> None:
        """Best-effort write of an event that has already happened; storage errors are logged, not raised."""
        for pause in (0.2, 1.0, None):
            try:
                self._store.create(name, {"version": FORMAT_VERSION, **entry})
            except Exception as error:  # noqa: BLE001 - losing the note must not lose the job as well
                log.warning("The ledger entry %s was not written: %s", name, error)
                if pause is not None:
                    self._sleep(pause)
            else:
                return
        log.error("The ledger entry %s is lost, so a retry may not find this job or result: %s", name, scrub(entry))


def _found(choice: SubmitNew | Attach | Reuse, now: float, entries: Entries) -> Stored | Submission | SubmitNew:
    if isinstance(choice, Reuse):
        return _stored(choice, entries)
    return _resumed(choice, known_at=now) if isinstance(choice, Attach) else choice


def _stored(choice: Reuse, entries: Entries) -> Stored:
    claim = entries.get(entry_name(choice.number, Entry.CLAIM), {})
    at = entries.get(entry_name(choice.number, Entry.LANDED), {}).get("landed_at")
    landed_at = float(at) if isinstance(at, int | float) else None
    return Stored(choice.number, choice.manifest, AttemptId.from_claim(claim), landed_at)


def _resumed(choice: Attach, *, known_at: float) -> Submission:
    job, links = Job.from_dict(choice.job), tuple(choice.job.get("links") or ())
    finished = None if job.job_id else Finished(None, links, job.meta, choice.job.get("generation_time"))
    return Submission(choice.number, job, finished, resumed=True, known_at=known_at)


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
