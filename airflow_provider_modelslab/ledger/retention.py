"""Which ledgers may be deleted: those that do not change what the next run pays.

A ledger is kept while one of its submissions may be running, is of unknown outcome, or has landed with its result still
in S3. A ledger with entries of a kind that a later version writes is kept, and one that records an unreadable clip: it
keeps every later run from paying for that clip.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from airflow_provider_modelslab.api.errors import ErrorCode
from airflow_provider_modelslab.ledger.model import Entry, entry_name, kind_of, last_submission, number_of

__all__ = ["Closed", "Open", "State", "forbids_payment", "state_of"]

_KINDS = frozenset(kind.value for kind in Entry)


class State(StrEnum):
    """The outcome of the last submission of a closed ledger."""

    LANDED = "landed"
    FAILED = "failed"
    RESOLVED = "resolved"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Open:
    """A ledger that is kept.

    :param numbers: the submissions whose jobs may be running.
    """

    numbers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Closed:
    """A ledger that may be deleted once none of its results is in S3 any more.

    :param landed: the submissions that have landed.
    :param failed: the submissions that have failed; the ledger is kept if :func:`forbids_payment` is true for one.
    """

    state: State
    landed: tuple[int, ...]
    failed: tuple[int, ...] = ()


def state_of(names: Collection[str]) -> Open | Closed:
    """The state of a ledger, by the names of its entries."""
    kinds: dict[int, set[str]] = defaultdict(set)
    for name in names:
        kinds[number_of(name)].add(kind_of(name))
    running = frozenset(number for number, found in kinds.items() if _may_run(found))
    if running or not kinds:
        return Open(running)
    landed, failed = (
        tuple(sorted(number for number, found in kinds.items() if kind in found))
        for kind in (Entry.LANDED, Entry.FAILED)
    )
    last = last_submission(names)
    if last is None:
        return Closed(State.REFUSED, landed, failed)
    for kind, state in ((Entry.FAILED, State.FAILED), (Entry.LANDED, State.LANDED)):
        if entry_name(last, kind) in names:
            return Closed(state, landed, failed)
    return Closed(State.RESOLVED, landed, failed)


def forbids_payment(failed: Mapping[str, Any] | None) -> bool:
    """Whether a ``failed`` entry keeps later runs from paying, because the clip cannot be read."""
    error = (failed or {}).get("error")
    return isinstance(error, Mapping) and error.get("code") == ErrorCode.CLIP_UNREADABLE


def _may_run(kinds: set[str]) -> bool:
    """Whether the job of a submission is running or its outcome is unknown."""
    if kinds - _KINDS:
        return True
    if kinds & {Entry.LANDED, Entry.FAILED}:
        return False
    return Entry.JOB in kinds or not kinds & {Entry.RELEASED, Entry.RESOLVED}
