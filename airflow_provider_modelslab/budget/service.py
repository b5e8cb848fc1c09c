"""One budget in one period, as one process uses it: slots reserved in blocks, and what became of them."""

from __future__ import annotations

import logging
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from airflow_provider_modelslab.api.errors import (
    STORAGE_ERRORS,
    BudgetExhaustedError,
    InvalidRequestError,
    StorageUnavailableError,
)
from airflow_provider_modelslab.api.prices import JobPrice, amount_text
from airflow_provider_modelslab.budget.definition import Caps
from airflow_provider_modelslab.budget.log import BudgetLog
from airflow_provider_modelslab.budget.model import BudgetState, Change, Slot, outcome_of
from airflow_provider_modelslab.ledger.attempt import describe_process, is_provably_dead

__all__ = ["Budget", "Wanted"]

log = logging.getLogger(__name__)

LEASE = 900.0
"""Seconds for which a reservation may be used."""

MAX_BLOCK = 16
"""Slots that one change reserves at most."""

_CLOCK_SKEW = 60.0  # seconds by which the clocks of two workers may differ
_MANY_HELD = 256  # beyond which slots are looked up although there is room, so that the state stays small
_SHARE = 4  # near the end a block takes this part of what is left, so that no process keeps much from the others
_LOOKUPS = 16  # reservations of others that are looked up before a reservation,
_MOST_LOOKUPS = 20  # so many times while there is no room
_AGAIN = (60.0, 600.0)  # seconds before any process looks up once more a reservation whose outcome is unknown:
_AGE_PART = 4  # this part of the time since it was reserved, between those limits
_LONGEST_PAUSE = 2.0  # seconds before the next attempt at a change that others were quicker with
_ATTEMPTS = 200  # at one change, before the store counts as overloaded; more than the look-ups take


@dataclass(frozen=True, slots=True)
class Wanted:
    """A job that is to be reserved.

    :param ledger: the URI of its result's ledger.
    :param price: of the job; ``None`` where only jobs are counted.
    """

    ledger: str
    price: JobPrice | None = None


class Budget:
    """Reserves slots of one budget. Safe to use from several threads.

    :param store: where its state is.
    :param caps: the most that may be reserved and spent.
    :param title: what it is, in words: ``Budget 'daily' (max_jobs 500 on 2026-11-30 (UTC))``.
    :param how_to_raise: what a person does who wants more, as the beginning of a sentence.
    :param user: the task, for people: ``dag.task``.
    :param read_ledger: the entries of the ledger with this URI; only those of a claim or a landing need their content.
    :param clock: seconds since the epoch.
    :param process: this one, and ``is_dead`` whether another surely runs no more.
    """

    def __init__(
        self,
        store: BudgetLog,
        caps: Caps,
        *,
        title: str,
        how_to_raise: str,
        user: str,
        read_ledger: Callable[[str], Mapping[str, Mapping[str, Any]]],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:16],
        process: Mapping[str, Any] | None = None,
        is_dead: Callable[[Mapping[str, Any]], bool] = is_provably_dead,
    ) -> None:
        self.title = title
        self._store = store
        self._caps = caps
        self._how_to_raise = how_to_raise
        self._user = user
        self._read_ledger = read_ledger
        self._clock = clock
        self._sleep = sleep
        self._new_id = new_id
        self._is_dead = is_dead
        self._owner = new_id()
        self._owners = {self._owner: describe_process() if process is None else process}
        self._lock = threading.Lock()
        self._known: tuple[int, BudgetState] | None = None
        self._mine: dict[str, tuple[str, Slot]] = {}  # slots that were reserved and not yet taken, by ledger
        self._changes: list[Change] = []  # that have happened and are not yet written
        self._overtaken = 0  # times in a row that somebody else was quicker
        self._slots: dict[str, Slot] = {}  # those in use

    def reserve(self, wanted: Wanted, others: Callable[[], Iterable[Wanted]] = tuple) -> str:
        """Reserve a slot for a job; its id.

        :param others: called where a block is reserved: jobs for which this process is likely to want a slot soon.
        :raises BudgetExhaustedError: when there is no room.
        :raises InvalidRequestError: when the cost is capped, and the job has no price or one in another currency.
        :raises StorageConfigurationError: when the store refuses; :class:`StorageUnavailableError` when it has trouble.
        """
        if self._caps.max_cost is not None and wanted.price is None:
            raise InvalidRequestError.of(
                "prices", "are needed because the cost is limited; set prices in the task, or in the connection's extra"
            )
        with self._lock:
            known = self._mine.pop(wanted.ledger, None)
            if known is not None and self._is_usable(known[1]) and known[1].price == wanted.price:
                slot_id, slot = known
            else:
                if known is not None:
                    self._changes.append(Change(known[0], "released"))
                self._extend([wanted, *(other for other in others() if other.ledger not in self._mine)])
                slot_id, slot = self._mine.pop(wanted.ledger)
            self._slots[slot_id] = slot
            return slot_id

    def may_submit(self, slot_id: str) -> bool:
        """Whether the time of a slot is not over. Ask after the claim that names it was written."""
        with self._lock:
            return self._clock() <= self._slots[slot_id].until

    def give_back(self, slot_id: str) -> None:
        """The job was not submitted, or the submit was refused; the slot waits for the next try at the same result."""
        with self._lock:
            slot = self._slots.pop(slot_id)
            if slot.ledger in self._mine:
                self._changes.append(Change(slot_id, "released"))
            else:
                self._mine[slot.ledger] = slot_id, slot

    def settle(self, change: Change) -> None:
        """What became of a slot; written with the next reservation, or by :meth:`close`."""
        with self._lock:
            self._slots.pop(change.slot_id, None)
            self._changes.append(change)

    def forget(self, ledger: str) -> None:
        """No job is wanted for this result any more; a slot that waits for it is free for others."""
        with self._lock:
            known = self._mine.pop(ledger, None)
            if known is not None:
                self._changes.append(Change(known[0], "released"))

    def close(self) -> None:
        """Give back what was not used and write what is settled; without a call to the store where that is nothing.

        A store that refuses is no error: others find out by the ledgers.
        """
        with self._lock:
            self._changes += [Change(slot_id, "released") for slot_id, _ in self._mine.values()]
            self._mine.clear()
            try:
                for _ in range(_ATTEMPTS):
                    if not self._changes or self._write(self._load().apply(self._changes)):
                        return
                raise StorageUnavailableError("other tasks changed the budget each time")
            except STORAGE_ERRORS as error:
                log.warning(
                    "%s: jobs that were reserved but not used could not be returned to the "
                    "budget. They become free in %g s: %s",
                    self.title,
                    LEASE,
                    error,
                )

    def state(self) -> BudgetState:
        """What is reserved and spent, read anew."""
        with self._lock:
            self._known = None
            return self._load().apply(self._changes)

    # -- changes --------------------------------------------------------------------------------------------------

    def _extend(self, wanted: list[Wanted]) -> None:
        """Reserve the first, and as many of the others as make a block."""
        is_fresh, looks = False, 0
        for _ in range(_ATTEMPTS):
            now = self._clock()
            is_fresh |= self._known is None
            state = self._load().apply(self._changes)
            slots = [Slot(item.ledger, self._user, now + LEASE, item.price, self._owner) for item in wanted]
            fit = state.fitting(slots, self._caps, most=self._block_size(state, slots[0].reserved))
            if not fit and self._mine:
                # What was reserved for later goes first; a slot is for one result, so it is not simply another's.
                self._changes.append(Change(self._mine.popitem()[1][0], "released"))
                continue
            is_crowded = not fit or len(state.held) > _MANY_HELD
            due = self._due(state, wanted[0].ledger if not fit and not looks else None, held_too=is_crowded)
            if (due or not fit) and not is_fresh:
                self._known = None  # others may have given something back, or written what they spent
                continue
            if due and looks < (1 if fit else _MOST_LOOKUPS):
                looks += 1
                self._look_up(due)
                if not fit:  # without a reservation to write it with: so that no other process looks them up again
                    self._write(state.apply(self._changes))
                continue
            if not fit:
                raise self._exhausted(state, slots[0])
            block = {self._new_id(): slot for slot in fit}
            if self._write(state.add(block, self._owners)):
                self._mine |= {slot.ledger: (slot_id, slot) for slot_id, slot in block.items()}
                return
        raise StorageUnavailableError(
            f"{self.title}: no job could be reserved in {_ATTEMPTS} attempts, "
            "because other tasks changed the budget each time. Nothing was submitted. Try again"
        )

    def _block_size(self, state: BudgetState, each: Decimal) -> int:
        """How many slots are reserved together.

        :param each: what the first of them costs.
        """
        jobs, cost = state.room(self._caps)
        if cost is not None and each:
            jobs = min(jobs, float(cost / each))
        return max(1, int(min(MAX_BLOCK, jobs // _SHARE)))

    def _load(self) -> BudgetState:
        if self._known is None:
            self._known = self._store.load()
        return self._known[1]

    def _write(self, state: BudgetState) -> bool:
        """Append a state that the known one and all changes lead to; ``False`` when somebody else was quicker."""
        assert self._known is not None  # noqa: S101 - it was loaded
        number = self._known[0] + 1
        self._known = None  # of a write that fails nobody knows whether it has arrived
        if not self._store.append(number, state, {"budget": self.title, "by": self._user}):
            # Read anew after the pause: who tried each number in turn would never catch up with many others.
            self._overtaken += 1
            self._sleep(random.uniform(0, min(_LONGEST_PAUSE, 0.05 * 2**self._overtaken)))
            return False
        self._known, self._overtaken = (number, state), 0
        self._changes.clear()
        return True

    # -- what others have reserved --------------------------------------------------------------------------------

    def _due(self, state: BudgetState, ledger: str | None, *, held_too: bool) -> list[tuple[str, Slot, bool]]:
        """Some reservations of others to be looked up: the slot's id, the slot, whether it is held.

        In an order of this process's own, since others look at the same time, and each notes what it has looked up.

        :param ledger: what was reserved for this result is looked up first, however short ago it was: a person may just
            have said what became of it.
        :param held_too: not only those that were neither used nor given back, but also those whose outcome was unknown.
        """
        due = [(slot_id, slot, False) for slot_id, slot in state.open.items() if self._is_over(slot, state)]
        if held_too:
            due += [(slot_id, slot, True) for slot_id, slot in state.held.items()]
        due = [item for item in due if item[1].ledger == ledger or self._is_due(item[1])]
        random.Random(self._owner).shuffle(due)
        return sorted(due, key=lambda item: item[1].ledger != ledger)[:_LOOKUPS]

    def _is_due(self, slot: Slot) -> bool:
        now = self._clock()
        shortest, longest = _AGAIN
        again = min(max(shortest, (now - slot.until + LEASE) / _AGE_PART), longest)
        return not 0 <= now - slot.checked < again

    def _look_up(self, due: Iterable[tuple[str, Slot, bool]]) -> None:
        """Find out by the ledgers what became of slots of others."""
        for slot_id, slot, is_held in due:
            now = self._clock()
            change = None
            try:
                change = outcome_of(slot_id, slot, self._read_ledger(slot.ledger), is_held=is_held, now=now)
            except STORAGE_ERRORS as error:
                log.warning(
                    "%s: a reservation of %s is kept, because its ledger cannot be read: %s",
                    self.title,
                    slot.user,
                    error,
                )
            self._changes.append(change or Change(slot_id, "checked", at=now))

    def _is_over(self, slot: Slot, state: BudgetState) -> bool:
        """Whether nobody may use an open slot any more: its time is over, or its process has died."""
        if self._clock() > slot.until + _CLOCK_SKEW:
            return True
        return slot.owner not in self._owners and self._is_dead(state.owners.get(slot.owner, {}))

    def _is_usable(self, slot: Slot) -> bool:
        return self._clock() <= slot.until - LEASE / 3

    def _exhausted(self, state: BudgetState, wanted: Slot) -> BudgetExhaustedError:
        total = state.total()
        used = [f"{user}: {_told(a.jobs, a.cost, state.currency)}" for user, a in state.used_by().items()]
        waiting = len(state.open) + len(state.held)
        return BudgetExhaustedError(
            f"{self.title} has no room for another job ({_told(1, wanted.reserved, state.currency)}). It was not "
            f"submitted. Used: {_told(total.jobs, total.cost, state.currency)}; {waiting} of these jobs are only "
            "reserved, or their outcome is unknown. Used by: "
            f"{'; '.join(used[:5]) or 'nobody'}{'; ...' if len(used) > 5 else ''}. "
            f"{self._how_to_raise}. Then clear the task: it pays only for missing results, unless reuse is 'never'",
            budget=self.title,
        )


def _told(jobs: int, cost: Decimal, currency: str | None) -> str:
    money = f", {amount_text(cost)} {currency or ''}".rstrip() if cost or currency else ""
    return f"{jobs} job{'' if jobs == 1 else 's'}{money}"
