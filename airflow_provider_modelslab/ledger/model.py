"""The record of paid jobs: one ledger for each result, and the pure decision of what an attempt may do.

The endpoint has no idempotency key, so this record keeps a retry, a cleared task, a batch or a command from paying
again for the same result. A ledger is a set of small entries that are only created, never changed, so that the order in
which two processes write cannot lose one. Entries belong to *submissions*, numbered from 1.

========== =========================================================================================================
entry      written
========== =========================================================================================================
claim      before the submit, by exactly one process (a conditional put): who, when, for which request
job        after the submit: the job's id, time, eta
landed     when the result is in S3: the manifest
failed     when the endpoint says that the job failed or is lost, or the result expired; a landed result outweighs it.
           With the code ``clip_unreadable`` the same request for the same clip is not paid for again
released   when the submit was refused or surely did not arrive: nothing was paid
unknown    when the outcome of the submit is not known: something may have been paid
resolved   when a person said that a submission of unknown outcome may be submitted again; a job that is known by then
           outweighs it
abandoned  when a person killed the task while the job ran: it still runs, and is billed, at the vendor
attached   when a Dag run other than the one that claimed also waits for the result; one entry for each such run
========== =========================================================================================================

This is version 1 of the stored format. Existing entries stay readable, so that a recorded job is never paid for again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, Self

from airflow_provider_modelslab.api.endpoint_request import IDENTITY_VERSION, EndpointRequest
from airflow_provider_modelslab.api.errors import (
    ChangedRequestError,
    ClipUnreadableError,
    ErrorCode,
    SubmissionUnknownError,
)
from airflow_provider_modelslab.ledger.attempt import AttemptId, is_provably_dead
from airflow_provider_modelslab.ledger.policy import LedgerPolicy

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.storage.result_manifest import Job

__all__ = [
    "ENTRY_NAME",
    "FORMAT_VERSION",
    "Attach",
    "Decision",
    "Entries",
    "Entry",
    "Fingerprint",
    "Hold",
    "LedgerPolicy",
    "LedgerStore",
    "Reuse",
    "Stored",
    "Submission",
    "SubmitNew",
    "TaskKey",
    "decide",
    "entry_name",
    "is_entry_name",
    "kind_of",
    "last_live_submission",
    "last_submission",
    "next_submission",
    "number_of",
    "stale_submission",
    "unresolved_submission",
]

ENTRY_NAME = r"[0-9]{4,}-[a-z]+(?:-[0-9a-f]{16})?"
"""Regular expression of an entry's name, those of later versions included."""

_ENTRY_NAME = re.compile(ENTRY_NAME)

FORMAT_VERSION = 1
"""Of the entries; each holds it as ``version``."""

Entries = Mapping[str, Mapping[str, Any]]
"""All entries of one ledger, by name: ``"0001-claim"`` and so on."""


class Entry(StrEnum):
    """The kinds of entries. The values are parts of object names, so they never change."""

    CLAIM = "claim"
    JOB = "job"
    LANDED = "landed"
    FAILED = "failed"
    RELEASED = "released"
    UNKNOWN = "unknown"
    ABANDONED = "abandoned"
    ATTACHED = "attached"
    RESOLVED = "resolved"


class LedgerStore(Protocol):
    """Storage of entries."""

    def load(self) -> dict[str, dict[str, Any]]:
        """All entries. An error is raised; it never counts as "no entries"."""

    def names(self) -> Collection[str]:
        """The names of all entries, which may cost less than :meth:`load`; errors are raised likewise."""

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Write an entry that does not exist yet. ``True`` for exactly one caller, ``False`` if the entry exists."""


@dataclass(frozen=True, slots=True)
class TaskKey:
    """A task instance without its try number: the same through retries and clears.

    :param loop_index: the iteration of the task loop that the task is in, from 0; ``None`` outside a loop.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    loop_index: int | None = None

    def digest(self) -> str:
        """64 hexadecimal digits: the ledger's name where the result has no destination."""
        parts = [self.dag_id, self.task_id, self.run_id, str(self.map_index)]
        if self.loop_index is not None:
            parts.append(f"loop{self.loop_index}")
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Digests of a request and its clip, which can be compared and reveal nothing.

    :param request: digest of the endpoint's path, the connection and the request's identity.
    :param source: digest of the clip's identity; ``None`` if the clip was deleted, which counts as unchanged.
    :param version: of the rules, see :data:`~airflow_provider_modelslab.api.endpoint_request.IDENTITY_VERSION`.
    """

    request: str
    source: str | None
    version: int = IDENTITY_VERSION

    @classmethod
    def of(cls, request: EndpointRequest, *, conn_id: str, source: str | None) -> Self:
        """The fingerprint of a request.

        :param conn_id: the connection, or a name in its place for local generation.
        :param source: the clip's identity as text; ``None`` if the clip was deleted.
        """
        content = {"attributes": request.identity(), "connection": conn_id, "endpoint": request.path}
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
        return cls(_digest(text), None if source is None else cls.source_digest(source))

    @staticmethod
    def source_digest(identity: str) -> str:
        """The digest of a clip's identity."""
        return _digest(identity)

    def equals(self, claim: Mapping[str, Any]) -> bool:
        """Whether a claim was certainly for the same request and the same content of the clip."""
        known = (claim.get("identity_version", IDENTITY_VERSION), claim.get("request"), claim.get("source"))
        return self.source is not None and known == (self.version, self.request, self.source)

    def matches(self, claim: Mapping[str, Any]) -> bool:
        """Whether a claim was for the same request and clip.

        A claim that cannot be compared (it was lost, or a later version wrote it) counts as the same: if in doubt,
        nothing is paid.
        """
        if claim.get("identity_version", self.version) != self.version:
            return True
        if claim.get("request", self.request) != self.request:
            return False
        return self.source is None or claim.get("source") is None or claim["source"] == self.source


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that is paid for.

    :param number: of the submission in its ledger, from 1.
    :param job: the job.
    :param finished: the result's links, if the response to the submit contained them.
    :param resumed: whether an earlier attempt paid for it.
    :param known_at: when the ledger was last known to have no later submission, in seconds since the epoch; ``None``
        if unknown.
    """

    number: int
    job: Job
    finished: Finished | None = None
    resumed: bool = False
    known_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Stored:
    """A result that is in S3 already.

    :param number: of its submission.
    :param manifest: of the result.
    :param by: the attempt that claimed the submission; ``None`` if the claim does not contain it.
    :param landed_at: when it was recorded as landed, in seconds since the epoch; ``None`` if that is not recorded.
    """

    number: int
    manifest: Mapping[str, Any]
    by: AttemptId | None = field(default=None, compare=False)
    landed_at: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class SubmitNew:
    """No usable job is paid for: claim ``number`` and submit. ``why`` is the reason, for the log."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class Attach:
    """Submission ``number`` is paid for and has not landed: wait for its job, or land it."""

    number: int
    job: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reuse:
    """Submission ``number`` has landed and is reused."""

    number: int
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hold:
    """Another process holds the claim of ``number`` and may be submitting until ``until`` (seconds since the epoch)."""

    number: int
    until: float
    process: Mapping[str, Any]


Decision = SubmitNew | Attach | Reuse | Hold


def entry_name(number: int, kind: Entry, attempt: AttemptId | None = None) -> str:
    """``0001-claim`` and so on; ``0001-attached-0f3a...`` with the run of an attempt."""
    name = f"{number:04d}-{kind.value}"
    if attempt is None:
        return name
    run = [attempt.dag_id, attempt.run_id]
    if attempt.loop_index is not None:
        run.append(f"loop{attempt.loop_index}")
    return f"{name}-{_digest(chr(0).join(run))[:16]}"


def is_entry_name(name: str) -> bool:
    """Whether an object of this name is an entry. Other objects in the folder are not."""
    return _ENTRY_NAME.fullmatch(name) is not None


def number_of(name: str) -> int:
    """The number of the submission that an entry belongs to."""
    return int(name.partition("-")[0])


def kind_of(name: str) -> str:
    """The kind of an entry, one of :class:`Entry` or one that a later version writes."""
    return name.split("-")[1]


def last_submission(entries: Collection[str]) -> int | None:
    """The submission that counts. A refused one paid for nothing, so the one before it still counts.

    :param entries: their names are enough.
    """
    return max((n for n in _numbers(entries) if entry_name(n, Entry.RELEASED) not in entries), default=None)


def last_live_submission(entries: Collection[str]) -> int | None:
    """The last submission that was neither refused nor failed.

    :param entries: their names are enough.
    """
    return max((n for n in _numbers(entries) if not _is_void(entries, n)), default=None)


def _is_void(entries: Collection[str], number: int) -> bool:
    if entry_name(number, Entry.RELEASED) in entries:
        return True
    return entry_name(number, Entry.FAILED) in entries and entry_name(number, Entry.LANDED) not in entries


def next_submission(entries: Collection[str]) -> int:
    """The number of a new submission."""
    return max(_numbers(entries), default=0) + 1


def stale_submission(
    entries: Entries, *, now: float, is_dead: Callable[[Mapping[str, Any]], bool] = is_provably_dead
) -> int | None:
    """The submission whose claim has no outcome and will get none: its lease has expired, or its process died.

    The process may have written the outcome after ``entries`` were read, so read them again before you rely on this.
    """
    number = last_submission(entries)
    if number is None or any(entry_name(number, kind) in entries for kind in _OUTCOMES):
        return None
    claim = entries.get(entry_name(number, Entry.CLAIM), {})
    return number if now >= float(claim.get("expires_at", 0)) or is_dead(claim.get("process") or {}) else None


def unresolved_submission(
    entries: Entries, *, now: float, is_dead: Callable[[Mapping[str, Any]], bool] = is_provably_dead
) -> int | None:
    """The submission on which a person has to decide: its outcome is unknown, it may be billed, and it is unresolved.

    A claim whose process may still be submitting does not count.
    """
    number = last_submission(entries)
    if number is None or any(entry_name(number, kind) in entries for kind in _DECIDED):
        return None
    if entries.get(entry_name(number, Entry.CLAIM), {}).get("billed") is False:
        return None
    is_known = entry_name(number, Entry.UNKNOWN) in entries
    return number if is_known else stale_submission(entries, now=now, is_dead=is_dead)


_DECIDED = (Entry.JOB, Entry.LANDED, Entry.FAILED, Entry.RESOLVED)
_OUTCOMES = (Entry.JOB, Entry.LANDED, Entry.FAILED, Entry.UNKNOWN)


def decide(
    entries: Entries,
    fingerprint: Fingerprint,
    policy: LedgerPolicy,
    attempt: AttemptId,
    *,
    now: float,
    gone: Collection[int] = (),
    resubmit: Collection[int] = (),
    is_dead: Callable[[Mapping[str, Any]], bool] = is_provably_dead,
) -> Decision:
    """What an attempt may do, from the entries alone.

    :param attempt: the attempt that wants the result.
    :param now: seconds since the epoch.
    :param gone: submissions that have landed and whose result is no longer in S3.
    :param resubmit: submissions of unknown outcome that a person released for another submit; the policy applies to
        all others.
    :raises SubmissionUnknownError: when a job may have been paid for and a person has to decide.
    :raises ChangedRequestError: when the request has changed and the policy is ``fail``, or a later attempt has
        submitted the other request.
    :raises ClipUnreadableError: when the last job for this request and clip failed because the clip cannot be read;
        with ``reuse="never"``, only if that happened to this task since it was last cleared.
    """
    choice = _decide(entries, fingerprint, policy, attempt, now=now, gone=gone, resubmit=resubmit, is_dead=is_dead)
    if isinstance(choice, SubmitNew):
        _refuse_if_unreadable(entries, fingerprint, policy, attempt)
    return choice


def _decide(
    entries: Entries,
    fingerprint: Fingerprint,
    policy: LedgerPolicy,
    attempt: AttemptId,
    *,
    now: float,
    gone: Collection[int],
    resubmit: Collection[int],
    is_dead: Callable[[Mapping[str, Any]], bool],
) -> Decision:
    number, new = last_submission(entries), next_submission(entries)
    if number is None:
        return SubmitNew(new, "the previous submission was refused" if entries else "nothing was submitted before")
    found = {kind: entries[name] for kind in Entry if (name := entry_name(number, kind)) in entries}
    claim = found.get(Entry.CLAIM, {})
    if not found.keys() & {Entry.JOB, Entry.LANDED, Entry.FAILED}:
        if Entry.UNKNOWN not in found and stale_submission(entries, now=now, is_dead=is_dead) is None:
            return Hold(number, float(claim["expires_at"]), claim.get("process") or {})
        before = _stored_before(entries, fingerprint, policy, attempt, gone)
        released = {*resubmit, number} if Entry.RESOLVED in found else resubmit
        return before or _after_unknown(number, new, claim, policy, released)
    if Entry.FAILED in found and (Entry.LANDED not in found or number in gone):
        return (
            _stored_before(entries, fingerprint, policy, attempt, gone)
            or _running_before(entries, fingerprint)
            or SubmitNew(new, f"the previous job failed ({_code(found[Entry.FAILED])})")
        )
    if not fingerprint.matches(claim):
        _refuse_if_late(number, claim, attempt)
        _refuse_if_displaced(entries, number, fingerprint, attempt)
        return _after_change(entries, number, new, policy, attempt)
    if Entry.LANDED not in found or (number in gone and Entry.JOB in found):
        return Attach(number, found[Entry.JOB])
    if number in gone:
        return SubmitNew(new, "the stored result is gone")
    if _serves(policy, entries, _same_results(entries, number, fingerprint), attempt):
        return Reuse(number, found[Entry.LANDED]["manifest"])
    return SubmitNew(new, f"reuse={policy.reuse!r} excludes the stored result of submission {number}")


def _refuse_if_unreadable(entries: Entries, fingerprint: Fingerprint, policy: LedgerPolicy, attempt: AttemptId) -> None:
    """A clip that the endpoint could not read is not paid for again while clip and request are unchanged."""
    ended = [
        n for n in _numbers(entries) if fingerprint.equals(entries.get(_claim_of(n), {})) and _has_ended(entries, n)
    ]
    number = max(ended, default=0)
    error = entries.get(entry_name(number, Entry.FAILED), {}).get("error") or {}
    if error.get("code") != ErrorCode.CLIP_UNREADABLE or entry_name(number, Entry.LANDED) in entries:
        return
    if policy.reuse == "never" and not _is_own(entries, number, attempt):
        return
    raise ClipUnreadableError(
        f"Nothing was submitted: submission {number} was for the same request and clip, and its job failed: "
        f"{error.get('message')} If the content of the link has changed, use another URL or another clip_version. To "
        "pay for another job with the same clip, clear the task with reuse='never', or add --again to the command",
        job_id=error.get("job_id"),
    )


def _has_ended(entries: Entries, number: int) -> bool:
    return any(entry_name(number, kind) in entries for kind in (Entry.FAILED, Entry.LANDED))


def _running_before(entries: Entries, fingerprint: Fingerprint) -> Attach | None:
    """The job of this request that is still running, if all submissions after it were refused or failed."""
    number = last_live_submission(entries)
    if number is None or entry_name(number, Entry.LANDED) in entries:
        return None
    job = entries.get(entry_name(number, Entry.JOB))
    return Attach(number, job) if job and fingerprint.matches(entries.get(_claim_of(number), {})) else None


def _stored_before(
    entries: Entries, fingerprint: Fingerprint, policy: LedgerPolicy, attempt: AttemptId, gone: Collection[int]
) -> Reuse | None:
    """The result that landed last, if it can be reused: it remains when the submissions after it were void."""
    number = max(_landed(entries), default=None)
    if number is None or number in gone or not fingerprint.matches(entries.get(_claim_of(number), {})):
        return None
    if not _serves(policy, entries, _same_results(entries, number, fingerprint), attempt):
        return None
    return Reuse(number, entries[entry_name(number, Entry.LANDED)]["manifest"])


def _same_results(entries: Entries, number: int, fingerprint: Fingerprint) -> list[int]:
    """The submission ``number``, and all that have landed for the same request and clip."""
    return [n for n in _landed(entries) if n == number or fingerprint.matches(entries.get(_claim_of(n), {}))]


def _serves(policy: LedgerPolicy, entries: Entries, numbers: Collection[int], attempt: AttemptId) -> bool:
    """Whether a stored result may be returned to ``attempt``.

    :param numbers: the submissions with this result, or with the same fingerprint.
    """
    if policy.reuse == "always":
        return bool(numbers)
    for number in numbers:
        claimed_by = AttemptId.from_claim(entries.get(_claim_of(number), {}))
        if claimed_by is None:
            return True  # the claim is lost, so its attempt is unknown: if in doubt, nothing is paid
        if policy.reuse == "never":
            if _is_own(entries, number, attempt):
                return True
        elif attempt.is_same_run(claimed_by) or entry_name(number, Entry.ATTACHED, attempt) in entries:
            return True
    return False


def _is_own(entries: Entries, number: int, attempt: AttemptId) -> bool:
    """Whether this task has claimed a submission, or waited for it, since the task was last cleared."""
    names = (_claim_of(number), entry_name(number, Entry.ATTACHED, attempt))
    known = (AttemptId.from_claim(entries.get(name, {})) for name in names)
    return any(by is not None and attempt.is_since_clear(by) for by in known)


def _after_unknown(
    number: int, new: int, claim: Mapping[str, Any], policy: LedgerPolicy, resubmit: Collection[int]
) -> SubmitNew:
    """The decision for a claim without a job id whose process can no longer write one."""
    if claim.get("billed") is False:
        return SubmitNew(new, "a local result was not recorded completely")
    if number in resubmit:
        return SubmitNew(new, "the outcome of the previous submission is unknown; a person decided to submit again")
    if policy.on_unknown_submission == "resubmit":
        return SubmitNew(new, "the outcome of the previous submission is unknown; on_unknown_submission is 'resubmit'")
    host = (claim.get("process") or {}).get("host")
    by = AttemptId.from_claim(claim)
    raise SubmissionUnknownError(
        f"Submission {number} was started at {claim.get('claimed_at')} (try {by.try_number if by else '?'} on {host}) "
        "and no job id was recorded. The job may be running and billed at ModelsLab, so it is not submitted again. "
        f"Search the ModelsLab dashboard for track_id {claim.get('track_id')!r}",
        submission=number,
    )


def _refuse_if_late(number: int, claim: Mapping[str, Any], attempt: AttemptId) -> None:
    """A stale worker, which Airflow declared dead, must not pay for an outdated request."""
    later = AttemptId.from_claim(claim)
    if later is not None and attempt.is_same_task(later) and attempt.is_before(later):
        raise ChangedRequestError(
            f"Nothing was submitted: this is try {attempt.try_number}, and try {later.try_number} of the same task has "
            f"already made another request (submission {number}). Airflow had declared this worker dead. Nothing needs "
            "to be done: the later try continues"
        )


def _refuse_if_displaced(entries: Entries, last: int, fingerprint: Fingerprint, attempt: AttemptId) -> None:
    """Two tasks with different requests for one destination must not pay in turn until their retries are used up."""
    other = AttemptId.from_claim(entries.get(_claim_of(last), {}))
    if other is None or attempt.is_same_task(other):
        return
    for number in sorted(_numbers(entries) - {last}):
        claim = entries.get(_claim_of(number), {})
        own = AttemptId.from_claim(claim)
        paid = {entry_name(number, Entry.JOB), entry_name(number, Entry.LANDED)} & entries.keys()
        if own is None or not attempt.is_since_clear(own) or not paid or not fingerprint.matches(claim):
            continue
        if entry_name(number, Entry.FAILED) not in entries:
            raise ChangedRequestError(
                f"Nothing was submitted: this task paid for submission {number}. Then Dag {other.dag_id} (run "
                f"{other.run_id}) paid for another result at the same destination (submission {last}). Give each task "
                "its own destination. A new destination pays for a new job, and so does a clear of this task"
            )


def _after_change(entries: Entries, number: int, new: int, policy: LedgerPolicy, attempt: AttemptId) -> SubmitNew:
    landed = entry_name(number, Entry.LANDED) in entries
    state = "has landed" if landed else f"is job {entries[entry_name(number, Entry.JOB)].get('job_id')}"
    claim = entries.get(_claim_of(number), {})
    before = Fingerprint(
        str(claim.get("request")), claim.get("source"), claim.get("identity_version", IDENTITY_VERSION)
    )
    would_serve = not landed or _serves(policy, entries, _same_results(entries, number, before), attempt)
    if policy.on_changed_request == "fail" and would_serve:
        raise ChangedRequestError(
            f"Nothing was submitted: submission {number} at this destination was for another request and {state}, and "
            "on_changed_request is 'fail'. To pay for a new job, set on_changed_request to 'resubmit', or set another "
            "destination"
        )
    return SubmitNew(new, f"the request has changed since submission {number}, which {state}")


def _landed(entries: Entries) -> Iterator[int]:
    return (n for n in sorted(_numbers(entries)) if entry_name(n, Entry.LANDED) in entries)


def _claim_of(number: int) -> str:
    return entry_name(number, Entry.CLAIM)


def _code(entry: Mapping[str, Any]) -> object:
    return (entry.get("error") or {}).get("code")


def _numbers(entries: Collection[str]) -> set[int]:
    return {number_of(name) for name in entries}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
