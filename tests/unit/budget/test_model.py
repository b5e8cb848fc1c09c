"""The arithmetic of a budget, and what a ledger says of a slot."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.prices import JobPrice
from airflow_provider_modelslab.budget.definition import Caps
from airflow_provider_modelslab.budget.model import Amount, BudgetState, Change, Slot, outcome_of

NOW = 1_000_000.0
TENTH = JobPrice("EUR", Decimal("0.1"))
BY_SECOND = JobPrice("EUR", Decimal(0), Decimal("0.02"), Decimal(60))


def slot(price: JobPrice | None = TENTH, user: str = "films.restyle", until: float = NOW) -> Slot:
    return Slot("s3://b/ledger/a", user, until, price)


def state(*prices: JobPrice | None) -> BudgetState:
    return BudgetState().add({str(number): slot(price) for number, price in enumerate(prices)})


def test_what_is_open_held_or_spent_takes_room() -> None:
    now = state(TENTH, TENTH, BY_SECOND).apply([Change("0", "spent"), Change("2", "held")])
    assert now.total() == Amount(3, Decimal("1.4"))
    assert now.room(Caps(5, Decimal(2))) == (2, Decimal("0.6"))
    assert now.room(Caps(2, Decimal(1))) == (0, Decimal(0))
    assert now.room(Caps()) == (float("inf"), None)


def test_what_is_released_takes_none() -> None:
    assert state(TENTH).apply([Change("0", "released")]).total() == Amount()


def test_it_is_settled_with_what_it_did_cost() -> None:
    now = state(BY_SECOND).apply([Change("0", "held"), Change("0", "spent", Decimal("0.3"))])
    assert (now.total(), now.held) == (Amount(1, Decimal("0.3")), {})


def test_changes_may_be_repeated() -> None:
    changes = [Change("0", "held"), Change("0", "spent"), Change("1", "released")]
    once = state(TENTH, TENTH).apply(changes)
    assert once.apply(changes) == once.apply([Change("0", "released")]) == once


def test_who_used_it() -> None:
    slots = {"1": slot(user="b"), "2": slot(user="a"), "3": slot(user="b")}
    used = BudgetState().add(slots).apply([Change("1", "spent")]).used_by()
    assert list(used.items()) == [("b", Amount(2, Decimal("0.2"))), ("a", Amount(1, Decimal("0.1")))]


@pytest.mark.parametrize(
    ("caps", "count"),
    [(Caps(), 4), (Caps(3), 3), (Caps(0), 0), (Caps(None, Decimal("0.2")), 2), (Caps(9, Decimal("0.19")), 1)],
)
def test_how_many_fit(caps: Caps, count: int) -> None:
    assert len(BudgetState().fitting([slot()] * 9, caps, most=4)) == count


def test_a_budget_counts_one_currency() -> None:
    with pytest.raises(InvalidRequestError):
        state(TENTH).add({"x": slot(JobPrice("USD", Decimal(1)))})
    assert state(None, TENTH).currency == "EUR"


def test_a_state_is_read_back() -> None:
    now = state(TENTH, BY_SECOND, None, TENTH).apply([Change("0", "spent"), Change("1", "held")])
    assert BudgetState.from_record(now.record()) == now


CLAIM = {"0001-claim": {"budget": ["0"]}}
LANDED = {"0001-landed": {"manifest": {"generation_time_s": 10}}}


@pytest.mark.parametrize(
    ("price", "entries", "is_held", "change"),
    [
        (TENTH, {}, False, Change("0", "released")),
        (TENTH, {"0001-claim": {"budget": ["1"]}, "0001-job": {}}, False, Change("0", "released")),
        (TENTH, {"0001-claim": {}}, False, Change("0", "released")),
        (TENTH, CLAIM, False, Change("0", "held")),
        (TENTH, CLAIM, True, None),
        (TENTH, {**CLAIM, "0001-unknown": {}}, False, Change("0", "held")),
        (TENTH, {**CLAIM, "0001-released": {}}, False, Change("0", "released")),
        (TENTH, {**CLAIM, "0001-released": {}, "0002-claim": {"budget": ["0"]}}, False, Change("0", "held")),
        (TENTH, {**CLAIM, "0001-job": {}}, False, Change("0", "spent")),
        (TENTH, {**CLAIM, "0001-failed": {}}, False, Change("0", "spent")),
        (TENTH, {**CLAIM, "0001-unknown": {}, "0001-job": {}}, True, Change("0", "spent")),
        (TENTH, {**CLAIM, "0001-unknown": {}, "0001-resolved": {}}, True, Change("0", "released")),
        (TENTH, {**CLAIM, "0001-resolved": {}, "0001-job": {}}, True, Change("0", "spent")),
        (TENTH, {}, True, Change("0", "spent")),  # a ledger that was closed, and removed since
        (BY_SECOND, {**CLAIM, "0001-job": {}}, False, Change("0", "held")),
        (BY_SECOND, {**CLAIM, "0001-job": {}}, True, None),
        (BY_SECOND, {**CLAIM, "0001-job": {}, **LANDED}, True, Change("0", "spent", Decimal("0.20"))),
        (BY_SECOND, {**CLAIM, "0001-job": {}, "0001-failed": {}}, True, Change("0", "spent")),
    ],
)
def test_what_a_ledger_says_of_a_slot(
    price: JobPrice, entries: Mapping[str, Any], *, is_held: bool, change: Change | None
) -> None:
    assert outcome_of("0", slot(price), entries, is_held=is_held, now=NOW + 100) == change


def test_a_ledger_that_may_have_been_removed_proves_nothing() -> None:
    assert outcome_of("0", slot(), {}, is_held=False, now=NOW + 8 * 86400) == Change("0", "spent")
