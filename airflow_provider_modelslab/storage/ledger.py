"""The memory of what was paid for: one ledger per task instance, whatever its try.

The endpoint has no idempotency key, so this record is what keeps a retry, a cleared task or a second worker from paying
again. A ledger is a set of small entries that are only ever created, never changed, so the order in which two processes
write cannot lose one. They belong to *takes*, numbered from 1: a take is one decision to pay.

========== =========================================================================================================
entry      written
========== =========================================================================================================
claim      before the submit, by exactly one process (a conditional put): who, when, for which request
job        after the submit: the job's id, time, eta
landed     when the result is in S3: the manifest
failed     when the endpoint says that the job failed or is lost, or the result expired; a landed result outweighs it
released   when the submit was refused or surely did not arrive: nothing was paid
unknown    when the outcome of the submit is not known: something may have been paid
abandoned  when a person killed the task while the job ran: it still runs, and bills, at the vendor
========== =========================================================================================================
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from airflow_provider_modelslab.api.errors import ChangedRequestError, SubmissionUnknownError
from airflow_provider_modelslab.storage.ledger_policy import LedgerPolicy
from airflow_provider_modelslab.storage.owner import is_provably_dead
from airflow_provider_modelslab.storage.writer import Writer

__all__ = [
    "Attach",
    "Decision",
    "Entries",
    "Entry",
    "Fingerprint",
    "Hold",
    "LedgerPolicy",
    "LedgerStore",
    "Reuse",
    "Submit",
    "TaskKey",
    "decide",
    "entry_name",
    "last_take",
    "next_take",
    "stale_take",
]

Entries = Mapping[str, Mapping[str, Any]]
"""All entries of one ledger: ``"0001-claim"`` and the like to what was written."""


class Entry(StrEnum):
    """The kinds of entries. The values are parts of object names, so they never change."""

    CLAIM = "claim"
    JOB = "job"
    LANDED = "landed"
    FAILED = "failed"
    RELEASED = "released"
    UNKNOWN = "unknown"
    ABANDONED = "abandoned"


class LedgerStore(Protocol):
    """Where entries are kept."""

    def load(self) -> dict[str, dict[str, Any]]:
        """All entries. An error is raised, never taken for "no entries"."""

    def names(self) -> Collection[str]:
        """The names of all entries, which may cost less than :meth:`load`; errors are raised likewise."""

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Write an entry that nobody has written; ``False`` when somebody has, ``True`` for exactly one caller."""


@dataclass(frozen=True, slots=True)
class TaskKey:
    """A task instance without its try number: the same through retries and clears."""

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1

    def digest(self) -> str:
        """64 hexadecimal digits, the ledger's name."""
        text = "\0".join((self.dag_id, self.task_id, self.run_id, str(self.map_index)))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What was asked for, in a form that can be compared and tells nothing.

    :param request: digest of the attributes that shape the result, and of the connection.
    :param source: digest of the clip's identity; ``None`` when the clip is gone, which is no change.
    """

    request: str
    source: str | None

    @classmethod
    def of(cls, attributes: Mapping[str, Any], *, conn_id: str, source: str | None) -> Fingerprint:
        """Over the wire form of a request, without what only says how the result is delivered."""
        shaping = {name: value for name, value in attributes.items() if name not in _DELIVERY}
        text = json.dumps([conn_id, shaping], sort_keys=True, separators=(",", ":"), default=str)
        digest = None if source is None else hashlib.sha256(source.encode()).hexdigest()
        return cls(hashlib.sha256(text.encode()).hexdigest(), digest)

    def matches(self, claim: Mapping[str, Any]) -> bool:
        """Whether a claim was for the same request; one that does not tell what it was for (it was lost) counts so."""
        if claim.get("request", self.request) != self.request:
            return False
        return self.source is None or claim.get("source") is None or claim["source"] == self.source


_DELIVERY = {"init_video", "webhook", "track_id", "instant_response", "temp", "base64"}


@dataclass(frozen=True, slots=True)
class Submit:
    """Nothing usable is paid for: claim ``take`` and submit. ``why`` is for the log."""

    take: int
    why: str


@dataclass(frozen=True, slots=True)
class Attach:
    """``take`` is paid for and has not landed: wait for its job, or land it."""

    take: int
    job: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reuse:
    """``take`` has landed."""

    take: int
    manifest: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hold:
    """Another process holds the claim of ``take`` and may be submitting until ``until`` (seconds since the epoch)."""

    take: int
    until: float
    owner: Mapping[str, Any]


Decision = Submit | Attach | Reuse | Hold


def entry_name(take: int, kind: Entry) -> str:
    """``0001-claim`` and so on."""
    return f"{take:04d}-{kind.value}"


def last_take(entries: Collection[str]) -> int | None:
    """The take that counts. One that was refused paid for nothing, so what was paid for before it still counts.

    :param entries: their names are enough.
    """
    return max((take for take in _takes(entries) if entry_name(take, Entry.RELEASED) not in entries), default=None)


def next_take(entries: Entries) -> int:
    """The number of a new take."""
    return max(_takes(entries), default=0) + 1


def stale_take(
    entries: Entries, *, now: float, is_dead: Callable[[Mapping[str, Any]], bool] = is_provably_dead
) -> int | None:
    """The take whose claim has no outcome, and whose owner writes none any more: its time is over, or it is dead.

    It may have written its last words after ``entries`` were read, so they are read again before this counts.
    """
    take = last_take(entries)
    if take is None or any(entry_name(take, kind) in entries for kind in _OUTCOMES):
        return None
    claim = entries.get(entry_name(take, Entry.CLAIM), {})
    return take if now >= float(claim.get("expires_at", 0)) or is_dead(claim.get("owner") or {}) else None


_OUTCOMES = (Entry.JOB, Entry.LANDED, Entry.FAILED, Entry.UNKNOWN)


def _takes(entries: Collection[str]) -> set[int]:
    return {int(name.partition("-")[0]) for name in entries}


def decide(
    entries: Entries,
    fingerprint: Fingerprint,
    policy: LedgerPolicy,
    *,
    now: float,
    first_try: int = 1,
    names: Mapping[str, Any] | None = None,
    writer: Writer | None = None,
    resubmit: Collection[int] = (),
    is_dead: Callable[[Mapping[str, Any]], bool] = is_provably_dead,
) -> Decision:
    """What an attempt may do, from the entries alone.

    :param now: seconds since the epoch.
    :param first_try: the first try since the task was last cleared; with ``reuse_landed`` off, a take of this or a
        later try is the one asked for.
    :param names: dag, task and run of who asks; a take of another task or run is never the one asked for.
    :param writer: which attempt at it asks.
    :param resubmit: takes of unknown outcome that a person said to submit again; the policy holds for all others.
    :raises SubmissionUnknownError: when something may have been paid for and a person has to decide.
    :raises ChangedRequestError: when the request is another one and the policy says ``fail``, or a later attempt at the
        same task has asked for that other one.
    """
    take, new = last_take(entries), next_take(entries)
    if take is None:
        return Submit(new, "the submit before was refused" if entries else "nothing was submitted before")
    found = {kind: entries[name] for kind in Entry if (name := entry_name(take, kind)) in entries}
    claim = found.get(Entry.CLAIM, {})
    if not found.keys() & {Entry.JOB, Entry.LANDED, Entry.FAILED}:
        if Entry.UNKNOWN not in found and stale_take(entries, now=now, is_dead=is_dead) is None:
            return Hold(take, float(claim["expires_at"]), claim.get("owner") or {})
        return _unknown(take, new, claim, policy, resubmit)
    if Entry.FAILED in found and Entry.LANDED not in found:
        return Submit(new, f"the job before failed ({found[Entry.FAILED].get('code')})")
    if not fingerprint.matches(claim):
        if names and writer and not _of_another(claim, names):
            _refuse_if_late(take, claim, writer)
        elif names:
            _refuse_if_displaced(entries, take, fingerprint, names, first_try)
        return _changed(take, new, found, policy)
    if Entry.LANDED not in found:
        return Attach(take, found[Entry.JOB])
    if not policy.reuse_landed and (int(claim.get("try_number", 1)) < first_try or _of_another(claim, names or {})):
        return Submit(new, "another take was asked for (reuse_landed is off)")
    return Reuse(take, found[Entry.LANDED])


def _of_another(claim: Mapping[str, Any], names: Mapping[str, Any]) -> bool:
    return any(claim.get(name, value) != value for name, value in names.items())


def _unknown(take: int, new: int, claim: Mapping[str, Any], policy: LedgerPolicy, resubmit: Collection[int]) -> Submit:
    """A claim without an id whose owner writes none any more."""
    if take in resubmit:
        return Submit(new, "the outcome of the submit before was unknown; a person said to submit again")
    if policy.on_unknown_submission == "resubmit":
        return Submit(new, "the outcome of the submit before is unknown; on_unknown_submission is 'resubmit'")
    owner = claim.get("owner") or {}
    raise SubmissionUnknownError(
        f"Take {take} of this task was about to be submitted at {claim.get('claimed_at')} (try "
        f"{claim.get('try_number')} on {owner.get('host')}) and no job id was written: it may be running and billed at "
        f"ModelsLab, so it is not submitted again. Look there for track_id {claim.get('track_id')!r}",
        take=take,
    )


def _refuse_if_late(take: int, claim: Mapping[str, Any], writer: Writer) -> None:
    """A process that Airflow has given up, and that still runs, must not pay for what nobody wants any more."""
    later = Writer.of_claim(claim)
    if later is not None and writer.is_before(later):
        raise ChangedRequestError(
            f"This is try {writer.try_number} of a task whose try {later.try_number} has asked for another request "
            f"since (take {take}): Airflow had given this one up, so nothing was submitted for it. There is nothing to "
            "do; the later try goes on"
        )


def _refuse_if_displaced(
    entries: Entries, last: int, fingerprint: Fingerprint, names: Mapping[str, Any], first_try: int
) -> None:
    """Two tasks that want different results in one place must not pay in turn, for as long as they have retries."""
    for take in sorted(_takes(entries) - {last}):
        claim = entries.get(entry_name(take, Entry.CLAIM), {})
        mine = claim and not _of_another(claim, names) and int(claim.get("try_number", 1)) >= first_try
        paid = {entry_name(take, Entry.JOB), entry_name(take, Entry.LANDED)} & entries.keys()
        if mine and paid and entry_name(take, Entry.FAILED) not in entries and fingerprint.matches(claim):
            other = entries[entry_name(last, Entry.CLAIM)]
            raise ChangedRequestError(
                f"This task has paid for take {take}, and run {other.get('run_id')} of {other.get('dag_id')} for "
                f"another result in the same place since (take {last}). It is not paid again, or the two would pay in "
                "turn: give each a destination of its own, or clear this task to have its result here"
            )


def _changed(take: int, new: int, found: Mapping[Entry, Mapping[str, Any]], policy: LedgerPolicy) -> Submit:
    paid = "has landed" if Entry.LANDED in found else f"is job {found[Entry.JOB].get('job_id')}"
    if policy.on_changed_request == "fail":
        raise ChangedRequestError(
            f"This task paid for another request before: take {take} {paid}. on_changed_request is 'fail', so the new "
            "request was not submitted; trigger a new run for it, or set on_changed_request to 'resubmit'"
        )
    return Submit(new, f"the request has changed since take {take}, which {paid}")
