"""Budgets as connections, Variables and operators define them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.budget.definition import BudgetRule, Caps

LATE_IN_UTC = 1796076000.0  # 2026-11-30 22:00 UTC


@pytest.mark.parametrize(
    ("jobs", "cost", "caps"),
    [
        (None, None, Caps()),
        ("", "", Caps()),
        (5, "1.50", Caps(5, Decimal("1.50"))),
        ("5", 1.5, Caps(5, Decimal("1.5"))),
        (0, 0, Caps(0, Decimal(0))),
    ],
)
def test_caps(jobs: object, cost: object, caps: Caps) -> None:
    assert Caps.of(jobs, cost) == caps
    assert bool(caps) is (caps != Caps())


@pytest.mark.parametrize("jobs", [-1, 1.5, True, "many", "1.0"])
def test_jobs_are_whole(jobs: object) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        Caps.of(jobs, None)
    assert list(raised.value.fields) == ["max_jobs"]


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (500, "budgets.b"),
        ({}, "budgets.b"),
        ({"per": "day"}, "budgets.b"),
        ({"max_job": 5}, "budgets.b"),
        ({"max_jobs": "x"}, "budgets.b.max_jobs"),
        ({"max_cost": "x"}, "budgets.b.max_cost"),
        ({"max_jobs": 5, "per": "month"}, "budgets.b.per"),
        ({"max_jobs": 5, "timezone": "Vienna"}, "budgets.b.timezone"),
        ({"max_jobs": 5, "timezone": "../etc"}, "budgets.b.timezone"),
    ],
)
def test_definitions_that_are_refused(given: object, field: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        BudgetRule.of("b", given)
    assert list(raised.value.fields) == [field]


def period(name: str = "b", dag_id: str = "films", run_id: str = "r", **given: object) -> str:
    return BudgetRule.of(name, {"max_jobs": 1, **given}).period(now=LATE_IN_UTC, dag_id=dag_id, run_id=run_id)[0]


def test_a_day_begins_in_its_own_zone() -> None:
    assert period(per="day") == "2026-11-30"
    assert period(per="day", timezone="Asia/Tokyo") == "2026-12-01"


def test_a_run_is_one_run_of_one_dag() -> None:
    assert period(per="run") == period(per="run")
    assert len({period(per="run"), period(per="run", run_id="2"), period(per="run", dag_id="other")}) == 3


def test_the_rest_counts_for_all_time() -> None:
    assert period() == period(run_id="2") == period(per="total")


def test_names_have_folders_of_their_own() -> None:
    folders = {BudgetRule.of(name, {"max_jobs": 1}).folder for name in ("a", "b", "a/b", "../a")}
    assert len(folders) == 4
    assert all(folder.isalnum() for folder in folders)
