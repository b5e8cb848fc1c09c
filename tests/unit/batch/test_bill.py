"""What a batch did cost, and what it will."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError
from airflow_provider_modelslab.api.prices import JobPrice
from airflow_provider_modelslab.batch.planning.estimate import Estimate, rate_of
from airflow_provider_modelslab.batch.planning.plan import ClipPlan
from airflow_provider_modelslab.batch.results.bill import bill_of, by_variant
from airflow_provider_modelslab.batch.results.outcomes import Outcome, Outcomes
from tests.unit.batch.test_plan import listed, plan_of

PLAN = plan_of(listed(*(f"{number}.mp4" for number in range(5))))
TENTH = JobPrice("EUR", Decimal("0.1"))


def manifest(**more: Any) -> dict[str, Any]:
    return {"uri": "s3://results/a.mp4", "job_id": "7", "bytes": 9, "generation_time_s": 2.5, **more}


def bill(*told: Outcome, price: JobPrice | None = TENTH) -> dict[str, Any]:
    outcomes = Outcomes(PLAN)
    for clip, outcome in zip(PLAN, told, strict=False):
        outcomes.tell(clip, outcome)
    return dict(bill_of(outcomes, lambda clip: price))


def test_jobs_that_landed_or_failed_are_paid_for_and_the_rest_is_not() -> None:
    assert bill(
        Outcome.landed(manifest(cost="0.10", currency="EUR")),
        Outcome.skipped(manifest()),
        Outcome.failed(JobFailedError("no", job_id="8")),
        Outcome.failed(InvalidRequestError("no")),
    ) == {"jobs": 2, "generation_s": 2.5, "cost": "0.2", "currency": "EUR", "saved": "0.1"}


def test_the_jobs_of_all_places_are_paid_for_and_this_worker_is_not() -> None:
    place = {"modelslab_conn_id": "own", "model_id": "m", "run_on": "endpoint"}
    failed = {**place, "code": "job_failed", "message": "no", "job_id": "1", "cost": "0.1", "currency": "EUR"}
    refused = {**place, "code": "payment", "message": "no credits", "job_id": None}
    last = Outcome.failed(JobFailedError("no", job_id="1"))
    assert bill(
        Outcome.landed(manifest(cost="0.3", currency="EUR", made_by=place, fallback_from=[failed])),
        Outcome.landed(manifest(made_by={**place, "run_on": "local"}, fallback_from=[failed, refused])),
        replace(last, fallback_from=[failed, {**failed, "cost": "0.2"}]),
    ) == {"jobs": 5, "generation_s": 5.0, "cost": "0.8", "currency": "EUR", "saved": "0"}


def test_without_prices_jobs_are_counted() -> None:
    assert bill(Outcome.landed(manifest()), price=None) == {
        "jobs": 1, "generation_s": 2.5, "cost": None, "currency": None, "saved": None,
    }  # fmt: skip


def test_costs_of_a_gpu_of_ones_own_are_in_the_manifests_alone() -> None:
    found = bill(Outcome.landed(manifest(cost="0.003", currency="EUR")), price=None)
    assert (found["cost"], found["currency"]) == ("0.003", "EUR")


def test_a_price_is_computed_once_for_equal_attributes() -> None:
    asked: list[int] = []

    def price_of(clip: ClipPlan) -> JobPrice:
        asked.append(clip.index)
        return TENTH

    look_up = by_variant(price_of)
    assert {look_up(clip) for clip in PLAN} == {TENTH}
    assert asked == [0]


@pytest.mark.parametrize(
    ("landed_at", "rate"),
    [
        ([], None),
        ([0, 10, 20, 30], None),  # too few
        ([0, 10, 20, 30, 40], 6.0),
        ([-9000, -8000, 0, 10, 20, 30, 40], 6.0),  # what landed before a long pause says nothing
        ([0, 10, 20, 30, 40, 2000], None),
    ],
)
def test_the_rate_is_that_of_the_last_landings(landed_at: list[float], rate: float | None) -> None:
    assert rate_of(landed_at) == rate


def test_how_long_it_takes() -> None:
    assert Estimate(10, 0, 2, 0, 0, 8, per_minute=5.0).seconds == 120
    assert Estimate(10, 0, 2, 0, 0, 8).seconds is None
    assert Estimate(10, 10, 0, 0, 0, 0).seconds == 0
