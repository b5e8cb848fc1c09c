"""Which ledgers may be deleted: those that keep nobody from paying, because the next run pays, or pays nothing, anyway.

A ledger stays for good while one of its submissions may be running, is of unknown outcome, or has landed with its
result still in S3. So does one with entries of a kind that a later version writes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from airflow_provider_modelslab.ledger.model import Entry, entry_name, kind_of, last_submission, number_of

__all__ = ["Closed", "Open", "State", "state_of"]

_KINDS = frozenset(kind.value for kind in Entry)


class State(StrEnum):
    """What became of the last submission of a closed ledger."""

    LANDED = "landed"
    FAILED = "failed"
    RESOLVED = "resolved"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Open:
    """A ledger that stays.

    :param numbers: the submissions whose jobs may be running.
    """

    numbers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Closed:
    """A ledger that may be deleted once none of its results is in S3 any more.

    :param landed: the submissions that have landed.
    """

    state: State
    landed: tuple[int, ...]


def state_of(names: Collection[str]) -> Open | Closed:
    """What a ledger's entries say, by their names alone."""
    kinds: dict[int, set[str]] = defaultdict(set)
    for name in names:
        kinds[number_of(name)].add(kind_of(name))
    running = frozenset(number for number, found in kinds.items() if _may_run(found))
    if running or not kinds:
        return Open(running)
    landed = tuple(sorted(number for number, found in kinds.items() if Entry.LANDED in found))
    last = last_submission(names)
    if last is None:
        return Closed(State.REFUSED, landed)
    for kind, state in ((Entry.FAILED, State.FAILED), (Entry.LANDED, State.LANDED)):
        if entry_name(last, kind) in names:
            return Closed(state, landed)
    return Closed(State.RESOLVED, landed)


def _may_run(kinds: set[str]) -> bool:
    """Whether the job of a submission may be running, or nobody knows."""
    if kinds - _KINDS:
        return True
    if kinds & {Entry.LANDED, Entry.FAILED}:
        return False
    return Entry.JOB in kinds or not kinds & {Entry.RELEASED, Entry.RESOLVED}
