"""What is reserved and spent of one budget in one period: pure arithmetic on an immutable state.

A *slot* is the right to submit one job for one result. It is **open** from its reservation until it is used, given
back, or its time is over or its process has died; **held** while the job's outcome, or its cost, is not known; then its
cost is **spent**, or it is gone. What is open, held and spent together never exceeds the caps.

========== ============================== ==============================================================================
from       to                             when
========== ============================== ==============================================================================
(nothing)  open                           before a claim; the ledger's claim then names the slot
open       spent                          the submit was accepted, and the price does not depend on the generation time
open       held                           the outcome of the submit is unknown, or the price depends on the generation
                                          time
open       (nothing)                      the submit was refused, somebody else had the result, or there is no claim
                                          with this slot once its time is over or its process has died
held       spent                          the job is known, with the cost that it had
held       (nothing)                      the ledger says that there is no job
========== ============================== ==============================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Self

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.prices import JobPrice, amount_text
from airflow_provider_modelslab.budget.definition import Caps
from airflow_provider_modelslab.ledger.model import Entry, entry_name, kind_of, number_of

__all__ = ["Amount", "BudgetState", "Change", "Slot", "outcome_of"]

_CERTAIN_FOR = 7 * 86400.0
"""Seconds after which a ledger without entries proves nothing: ``airflow modelslab clean`` may have removed it."""


class Amount(NamedTuple):
    """So many jobs, and what they cost."""

    jobs: int = 0
    cost: Decimal = Decimal(0)

    def plus(self, jobs: int, cost: Decimal) -> Amount:
        """The sum."""
        return Amount(self.jobs + jobs, self.cost + cost)


@dataclass(frozen=True, slots=True)
class Slot:
    """The right to submit one job.

    :param ledger: the URI of the result's ledger.
    :param user: the task, for people: ``dag.task``.
    :param until: seconds since the epoch; no submit may leave later.
    :param price: of the job; ``None`` where only jobs are counted.
    :param owner: the process that may use it, see :attr:`BudgetState.owners`.
    :param checked: when its ledger was last read without a result, in seconds since the epoch; 0 if never.
    """

    ledger: str
    user: str
    until: float
    price: JobPrice | None = None
    owner: str = ""
    checked: float = 0.0

    @property
    def reserved(self) -> Decimal:
        """The amount that it takes of the budget."""
        return self.price.reserved if self.price else Decimal(0)

    @property
    def is_exact(self) -> bool:
        """Whether the cost is known before the job ends."""
        return self.price is None or self.price.is_exact

    def record(self) -> dict[str, Any]:
        """As plain JSON."""
        price = {"price": self.price.record()} if self.price else {}
        checked = {"checked": self.checked} if self.checked else {}
        return {"ledger": self.ledger, "user": self.user, "until": self.until, "owner": self.owner, **price, **checked}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Of what :meth:`record` wrote."""
        price = JobPrice.from_record(record["price"]) if record.get("price") else None
        owner, checked = record.get("owner", ""), float(record.get("checked") or 0.0)
        return cls(record["ledger"], record["user"], float(record["until"]), price, owner, checked)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of a slot.

    :param to: ``spent``, ``held``, ``released``; ``checked`` where its ledger says nothing new.
    :param cost: where it is spent and the cost is known; else what was reserved counts.
    :param at: when it was checked, in seconds since the epoch.
    """

    slot_id: str
    to: Literal["spent", "held", "released", "checked"]
    cost: Decimal | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class BudgetState:
    """All that counts for one budget in one period.

    :param currency: of the amounts; ``None`` until something has a price.
    :param spent: by user.
    :param open: slots that may still be used, by id.
    :param held: slots that were used, whose outcome or cost is not known.
    :param owners: the processes of open slots, see :func:`~airflow_provider_modelslab.ledger.attempt.describe_process`.
    """

    currency: str | None = None
    spent: Mapping[str, Amount] = field(default_factory=dict)
    open: Mapping[str, Slot] = field(default_factory=dict)
    held: Mapping[str, Slot] = field(default_factory=dict)
    owners: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def apply(self, changes: Iterable[Change]) -> Self:
        """The state after changes. One of a slot that is settled already has no effect, so it may be repeated."""
        open_, held, spent = dict(self.open), dict(self.held), dict(self.spent)
        for change in changes:
            if change.to == "checked":
                for slots in (open_, held):
                    if change.slot_id in slots:
                        slots[change.slot_id] = replace(slots[change.slot_id], checked=change.at)
                continue
            slot = open_.pop(change.slot_id, None) or held.pop(change.slot_id, None)
            if slot is None:
                continue
            if change.to == "held":
                held[change.slot_id] = slot
            elif change.to == "spent":
                cost = slot.reserved if change.cost is None else change.cost
                spent[slot.user] = spent.get(slot.user, Amount()).plus(1, cost)
        return replace(self, open=open_, held=held, spent=spent)

    def add(self, slots: Mapping[str, Slot], owners: Mapping[str, Mapping[str, Any]] | None = None) -> Self:
        """The state with more open slots.

        :param owners: the processes that may use them.

        :raises InvalidRequestError: where one has a price in another currency.
        """
        currency = self.currency
        for slot in slots.values():
            if slot.price is None:
                continue
            if currency is not None and slot.price.currency != currency:
                raise InvalidRequestError.of(
                    "prices.currency", f"must be the currency of the budget, {currency!r}; got {slot.price.currency!r}"
                )
            currency = slot.price.currency
        open_ = {**self.open, **slots}
        used = {slot.owner for slot in open_.values()}
        owners = {name: process for name, process in {**self.owners, **(owners or {})}.items() if name in used}
        return replace(self, currency=currency, open=open_, owners=owners)

    def used_by(self) -> dict[str, Amount]:
        """What is reserved and spent by whom, the most jobs first."""
        used = dict(self.spent)
        for slot in (*self.open.values(), *self.held.values()):
            used[slot.user] = used.get(slot.user, Amount()).plus(1, slot.reserved)
        return dict(sorted(used.items(), key=lambda item: (-item[1].jobs, item[0])))

    def total(self) -> Amount:
        """What is reserved and spent."""
        amounts = self.used_by().values()
        return Amount(sum(a.jobs for a in amounts), sum((a.cost for a in amounts), Decimal(0)))

    def room(self, caps: Caps) -> tuple[float, Decimal | None]:
        """Jobs and cost that may still be reserved: at least 0; ``inf`` and ``None`` without a cap."""
        total = self.total()
        jobs = float("inf") if caps.max_jobs is None else max(0, caps.max_jobs - total.jobs)
        return jobs, None if caps.max_cost is None else max(Decimal(0), caps.max_cost - total.cost)

    def fitting(self, slots: Iterable[Slot], caps: Caps, *, most: int) -> list[Slot]:
        """So many of the first of these slots as may be reserved."""
        jobs, cost = self.room(caps)
        fit: list[Slot] = []
        for slot in slots:
            if len(fit) >= min(most, jobs):
                break
            if cost is not None:
                cost -= slot.reserved
                if cost < 0:
                    break
            fit.append(slot)
        return fit

    def record(self) -> dict[str, Any]:
        """As plain JSON; :meth:`from_record` is the inverse."""
        return {
            "currency": self.currency,
            "spent": {user: [a.jobs, amount_text(a.cost)] for user, a in self.spent.items()},
            "open": {slot_id: slot.record() for slot_id, slot in self.open.items()},
            "held": {slot_id: slot.record() for slot_id, slot in self.held.items()},
            "owners": {name: dict(process) for name, process in self.owners.items()},
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Of what :meth:`record` wrote."""
        return cls(
            record.get("currency"),
            {user: Amount(int(jobs), Decimal(cost)) for user, (jobs, cost) in record["spent"].items()},
            {slot_id: Slot.from_record(slot) for slot_id, slot in record["open"].items()},
            {slot_id: Slot.from_record(slot) for slot_id, slot in record["held"].items()},
            record.get("owners") or {},
        )


def outcome_of(
    slot_id: str, slot: Slot, entries: Mapping[str, Mapping[str, Any]], *, is_held: bool, now: float
) -> Change | None:
    """What the ledger of a slot's result says of it; ``None`` where nothing changes.

    :param entries: all entries of that ledger, read after ``slot.until``.
    :param is_held: whether a claim with this slot is known to have been made.
    """
    numbers = [number_of(name) for name, entry in entries.items() if _names(name, entry, slot_id)]
    if not numbers:
        # Nobody has claimed with this slot, and nobody may any more; or the ledger was removed after it was closed.
        was_removed = is_held or (not entries and now - slot.until > _CERTAIN_FOR)
        return Change(slot_id, "spent" if was_removed else "released")
    number = max((n for n in numbers if entry_name(n, Entry.RELEASED) not in entries), default=None)
    if number is None:
        return Change(slot_id, "released")  # each submit was refused
    found = {kind for kind in Entry if entry_name(number, kind) in entries}
    if slot.is_exact and found & {Entry.JOB, Entry.LANDED, Entry.FAILED}:
        return Change(slot_id, "spent")
    if Entry.LANDED in found:
        manifest = entries[entry_name(number, Entry.LANDED)].get("manifest") or {}
        cost = None if slot.price is None else slot.price.cost(manifest.get("generation_time_s"))
        return Change(slot_id, "spent", cost)
    if Entry.FAILED in found:
        return Change(slot_id, "spent")
    if Entry.RESOLVED in found and Entry.JOB not in found:
        return Change(slot_id, "released")
    return None if is_held else Change(slot_id, "held")


def _names(name: str, entry: Mapping[str, Any], slot_id: str) -> bool:
    return kind_of(name) == Entry.CLAIM and slot_id in (entry.get("budget") or ())
