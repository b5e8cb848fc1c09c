"""Prices: what is read, what a job costs, and what is refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.prices import JobPrice, Prices, amount_text

PRICES = {
    "currency": "EUR",
    "per_job": "0.10",
    "per_frame": "0.005",
    "models": {"wan": {"per_second": "0.02", "max_seconds": 120}, "own": {"per_gpu_second": 0.0006}},
}


def prices(given: Any = PRICES) -> Prices:
    found = Prices.of(given)
    assert found is not None
    return found


def test_rates_add_up() -> None:
    price = prices().of_job("any", 16, timeout=3600)
    assert (price.currency, price.fixed, price.reserved) == ("EUR", Decimal("0.18"), Decimal("0.18"))
    assert price.is_exact
    assert price.cost(None) == price.cost(7.5) == Decimal("0.18")


def test_a_models_rates_replace_all_others() -> None:
    price = prices().of_job("wan", 16, timeout=3600)
    assert (price.fixed, price.reserved, price.is_exact) == (Decimal(0), Decimal("2.40"), False)
    assert price.cost(None) is None
    assert price.cost(10.5) == Decimal("0.21")


def test_without_max_seconds_the_timeout_is_reserved() -> None:
    assert prices({"per_second": "0.01"}).of_job(None, None, timeout=300).reserved == 3


def test_a_gpu_of_ones_own_has_a_price_per_second() -> None:
    price = prices().of_local("own")
    assert price is not None
    assert price.cost(100) == Decimal("0.06")
    assert prices().of_local("any") is None


@pytest.mark.parametrize("given", [None, "", {}])
def test_no_prices(given: object) -> None:
    assert Prices.of(given) is None


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ("0.10", "prices"),
        ({"per_clip": 1}, "prices"),
        ({"per_job": "a lot"}, "prices.per_job"),
        ({"per_job": -1}, "prices.per_job"),
        ({"per_job": True}, "prices.per_job"),
        ({"per_job": "NaN"}, "prices.per_job"),
        ({"per_job": "Infinity"}, "prices.per_job"),
        ({"models": ["wan"]}, "prices.models"),
        ({"models": {"wan": "0.1"}}, "prices.models"),
        ({"models": {"wan": {"currency": "EUR"}}}, "prices.models.wan"),
        ({"models": {"wan": {"per_frame": "x"}}}, "prices.models.wan.per_frame"),
    ],
)
def test_what_is_refused(given: object, field: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        Prices.of(given)
    assert list(raised.value.fields) == [field]


def test_cents_are_exact() -> None:
    price = prices({"per_job": 0.1}).of_job(None, None, timeout=1)
    assert sum((price.fixed for _ in range(10)), Decimal(0)) == 1


@pytest.mark.parametrize("model", ["wan", "any"])
def test_a_record_is_read_back(model: str) -> None:
    price = prices().of_job(model, 16, timeout=9)
    again = JobPrice.from_record(price.record())
    assert (again.currency, again.reserved, again.cost(3)) == (price.currency, price.reserved, price.cost(3))


@pytest.mark.parametrize(
    ("value", "text"), [("0.10", "0.1"), ("12", "12"), ("1E+3", "1000"), ("0.00", "0"), ("1E-7", "0.0000001")]
)
def test_amounts_as_text(value: str, text: str) -> None:
    assert amount_text(Decimal(value)) == text
