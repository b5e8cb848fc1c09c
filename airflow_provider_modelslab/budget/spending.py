"""What a process that submits jobs may spend: its prices, and all budgets that count its jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from airflow_provider_modelslab.api.errors import TransportError
from airflow_provider_modelslab.api.prices import JobPrice, Prices
from airflow_provider_modelslab.budget.model import Change
from airflow_provider_modelslab.budget.service import Budget, Wanted
from airflow_provider_modelslab.ledger.model import Entry

if TYPE_CHECKING:
    from types import TracebackType

    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest

__all__ = ["FREE", "Reservation", "Spending", "Upcoming"]

Upcoming = Callable[[], Iterable[tuple[object, JobPrice | None]]]
"""The destinations and prices of jobs that the same process is likely to submit next, in order."""


@dataclass
class Reservation:
    """A slot of each budget for one submit. On leaving the context it is given back, unless the submit has left."""

    price: JobPrice | None = None
    slots: Sequence[tuple[Budget, str]] = ()
    _outcome: Literal["unused", "accepted", "unknown"] = "unused"

    def record(self) -> list[str] | None:
        """The slots' ids, for the claim; ``None`` without a budget."""
        return [slot_id for _, slot_id in self.slots] or None

    def begin_submit(self) -> None:
        """From here on the submit may leave. Call it after the claim was written.

        :raises TransportError: when the time of a slot was over before; nothing may be submitted.
        """
        if not all(budget.may_submit(slot_id) for budget, slot_id in self.slots):
            raise TransportError(
                "The reservation in the budget expired before the submit. Nothing was submitted or billed. Try again"
            )
        self._outcome = "unknown"

    def end_submit(self, kind: Entry) -> None:
        """How the submit ended, as the ledger records it."""
        outcomes: dict[Entry, Literal["unused", "unknown"]] = {Entry.RELEASED: "unused", Entry.UNKNOWN: "unknown"}
        self._outcome = outcomes.get(kind, "accepted")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        is_spent = self._outcome == "accepted" and (self.price is None or self.price.is_exact)
        for budget, slot_id in self.slots:
            if self._outcome == "unused":
                budget.give_back(slot_id)
            else:
                budget.settle(Change(slot_id, "spent" if is_spent else "held"))


@dataclass(frozen=True)
class Spending:
    """The prices and budgets of a task, a batch or a command. Safe to use from several threads.

    :param ledger_of: the URI of the ledger of a result, by its destination.
    :param timeout: seconds that a job may take; so much generation is reserved where prices say nothing else.
    """

    prices: Prices | None = None
    budgets: tuple[Budget, ...] = ()
    ledger_of: Callable[[Any], str] = str
    timeout: float = 3600.0
    _running: dict[str, tuple[JobPrice, tuple[tuple[Budget, str], ...]]] = field(default_factory=dict)

    def price_of(self, request: EndpointRequest) -> JobPrice | None:
        """The price of one job; ``None`` without prices."""
        return None if self.prices is None else self.prices.of_request(request, timeout=self.timeout)

    def reserve(self, request: EndpointRequest, destination: object, upcoming: Upcoming = tuple) -> Reservation:
        """A slot of each budget.

        :param upcoming: called where a block is reserved.
        :raises BudgetExhaustedError: when one of the budgets has no room; the others keep nothing.
        :raises StorageConfigurationError: when the store refuses; :class:`StorageUnavailableError` when it has trouble.
        """
        price = self.price_of(request)
        if not self.budgets:
            return Reservation(price)
        wanted = Wanted(self.ledger_of(destination), price)

        def others() -> list[Wanted]:
            return [Wanted(self.ledger_of(place), price) for place, price in upcoming()]

        slots: list[tuple[Budget, str]] = []
        try:
            for budget in self.budgets:
                slot_id = budget.reserve(wanted, others)
                slots.append((budget, slot_id))
        except BaseException:
            for budget, slot_id in slots:
                budget.give_back(slot_id)
            raise
        if price is not None and not price.is_exact:
            self._running[wanted.ledger] = price, tuple(slots)
        return Reservation(price, tuple(slots))

    def settle(self, destination: object, seconds: float | None) -> None:
        """A job whose price depends on its generation time has ended; what another process reserved is settled later.

        :param seconds: of generation; ``None`` where that is not known, and what was reserved counts.
        """
        if not self._running:
            return
        price, slots = self._running.pop(self.ledger_of(destination), (None, ()))
        for budget, slot_id in slots:
            budget.settle(Change(slot_id, "spent", None if price is None else price.cost(seconds)))

    def forget(self, destination: object) -> None:
        """No job is wanted for this result any more."""
        for budget in self.budgets:
            budget.forget(self.ledger_of(destination))

    def close(self) -> None:
        """Write what is settled, and give back what was not used."""
        for budget in self.budgets:
            budget.close()


FREE = Spending()
"""Without prices and budgets: nothing is counted, and nothing is written."""
