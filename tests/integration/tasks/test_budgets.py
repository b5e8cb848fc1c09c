"""Caps that hold: of one task, and of a budget that mapped tasks, Dags, retries and the command line share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    BatchFailedError,
    ErrorCode,
    InvalidRequestError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.budget import service
from airflow_provider_modelslab.budget.log import S3BudgetLog
from airflow_provider_modelslab.budget.model import Amount, BudgetState
from airflow_provider_modelslab.jobs import budgets
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import Restyle, Store, WatchedEngine
from tests.support.connections import set_modelslab
from tests.support.endpoint import Caller
from tests.support.s3 import keys_of, lines_of
from tests.support.shell import Shell
from tests.support.tasks import TaskInstance, context_of, execute, run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

PRICES = {"currency": "EUR", "per_job": "0.10", "per_frame": "0.01"}  # 0.15 for the five frames of a clip
Given = Callable[..., None]


@pytest.fixture
def given(endpoint: Caller, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Given:
    """Puts prices and budgets into the connection."""

    def give(**extra: Any) -> None:
        set_modelslab(monkeypatch, endpoint.url, **s3_extra, **extra)

    return give


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    dag = Dag(s3, bucket, deferrable=False)
    dag.add(*(f"clip{number:02}" for number in range(12)))
    return dag


def mapped(index: int, **more: Any) -> Any:
    return context_of(TaskInstance(map_index=index, **more))


def state_of(s3: S3Client, bucket: str) -> BudgetState:
    """The only budget's state."""
    (folder,) = {key.rpartition("/")[0] for key in keys_of(s3, bucket) if "/budgets/" in key}
    return S3BudgetLog(s3, S3Uri(bucket, folder)).load()[1]


@pytest.mark.slow
def test_a_cap_ends_a_batch_with_the_rest_pending_and_a_larger_one_does_the_rest(
    dag: Dag, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    with pytest.raises(BatchFailedError) as raised:
        execute(dag(max_jobs=5))
    assert raised.value.cause == ErrorCode.BUDGET
    assert "5 clips landed, 0 were already stored, 0 failed, 7 were not reached" in raised.value.message
    assert "max_jobs 5" in raised.value.message
    assert "restyling.restyle: 5 jobs" in raised.value.message
    assert len(engine.submitted) == 5
    state = state_of(s3, bucket)
    assert (state.total(), state.open, state.held) == (Amount(5), {}, {})
    with pytest.raises(BatchFailedError):  # a retry, or a clear, meets the same cap
        execute(dag(max_jobs=5), context_of(TaskInstance(try_number=2)))
    assert len(engine.submitted) == 5
    summary = execute(dag(max_jobs=12), context_of(TaskInstance(try_number=3)))
    assert (summary["landed"], summary["skipped"]) == (12, 0)  # in this run
    assert len(engine.submitted) == 12


def test_a_cap_on_cost_never_over_spends(dag: Dag, engine: WatchedEngine, s3: S3Client, bucket: str) -> None:
    with pytest.raises(BatchFailedError) as raised:
        execute(dag(max_cost="0.50", prices=PRICES))
    assert raised.value.cause == ErrorCode.BUDGET
    assert len(engine.submitted) == 3
    assert str(state_of(s3, bucket).total().cost) == "0.45"


def test_what_it_did_cost_is_in_manifests_and_sidecars(restyle: Restyle, store: Store, given: Given) -> None:
    given(prices=PRICES)
    manifest = run(lambda: restyle(deferrable=True))
    assert (manifest["cost"], manifest["currency"]) == ("0.15", "EUR")
    assert json.loads(store.read(manifest["sidecar_uri"]))["cost"] == "0.15"


def test_mapped_tasks_of_two_dags_share_a_budget(
    restyle: Restyle, given: Given, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    given(budgets={"daily": {"max_jobs": 3, "per": "day"}})
    for index in range(3):
        execute(restyle(budget="daily", destination=f"{index}.mp4"), mapped(index, dag_id=f"dag{index % 2}"))
    with pytest.raises(AirflowFailException, match=r"^budget: ") as raised:
        execute(restyle(budget="daily", destination="3.mp4"), mapped(3))
    assert "dag0.restyle: 2 jobs; dag1.restyle: 1 job" in str(raised.value)
    assert len(engine.submitted) == 3
    assert execute(restyle(budget="daily", destination="0.mp4"), mapped(0, dag_id="dag0"))["status"] == "landed"


def test_each_run_has_a_budget_of_its_own(restyle: Restyle, given: Given, engine: WatchedEngine) -> None:
    given(budgets={"once": {"max_jobs": 1, "per": "run"}})
    for name in ("r1", "r2"):
        execute(restyle(budget="once", destination=f"{name}.mp4"), context_of(TaskInstance(run_id=name)))
    with pytest.raises(AirflowFailException):
        execute(restyle(budget="once", destination="more.mp4"), context_of(TaskInstance(run_id="r2")))
    assert len(engine.submitted) == 2


def test_a_budget_may_be_in_a_variable(
    restyle: Restyle, monkeypatch: pytest.MonkeyPatch, engine: WatchedEngine
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_MODELSLAB_BUDGETS", json.dumps({"none": {"max_jobs": 0}}))
    with pytest.raises(AirflowFailException):
        execute(restyle(budget="none"))
    assert engine.submitted == []


def test_the_command_line_spends_of_the_same_budget(
    submit: Callable[..., Any], restyle: Restyle, given: Given, bucket: str, airflow: Shell, quick: None
) -> None:
    given(budgets={"shared": {"max_jobs": 2}})
    execute(restyle(budget="shared"))
    submit("--budget", "shared")
    assert "budget" in submit("--budget", "shared", "--again", code=1).lower()


def test_a_refused_submit_takes_nothing(
    restyle: Restyle, given: Given, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    given(budgets={"b": {"max_jobs": 1}}, key="another key")
    with pytest.raises(AuthenticationError):
        execute(restyle(budget="b"))
    assert (state_of(s3, bucket).total(), engine.submitted) == (Amount(), [])
    given(budgets={"b": {"max_jobs": 1}})
    execute(restyle(budget="b"))
    assert len(engine.submitted) == 1


def test_by_the_second_a_bound_is_reserved_and_the_cost_is_settled(
    dag: Dag, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    summary = execute(dag(max_cost="1000", prices={"currency": "EUR", "per_second": "0.01", "max_seconds": 60}))
    state = state_of(s3, bucket)
    assert (state.total().jobs, state.open, state.held) == (12, {}, {})
    assert state.total().cost < 12 * 60
    assert summary["landed"] == 12


@pytest.mark.slow
def test_what_a_dead_process_reserved_is_found_again(
    dag: Dag, engine: WatchedEngine, s3: S3Client, bucket: str, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    given(budgets={"b": {"max_jobs": 12}})
    with monkeypatch.context() as patch:
        patch.setattr(service.Budget, "close", lambda self: None)  # as in a process that is killed
        patch.setattr(service, "_SHARE", 1)
        with pytest.raises(BatchFailedError):
            execute(dag(budget="b", max_jobs=5))
    assert len(engine.submitted) == 5
    assert len(state_of_named(s3, bucket).open) >= 5
    later = partial(service.Budget, clock=lambda: time.time() + service.LEASE + 100)
    monkeypatch.setattr(budgets, "Budget", later)
    summary = execute(dag(budget="b"), context_of(TaskInstance(try_number=2)))
    assert (summary["landed"], summary["skipped"]) == (12, 0)  # in this run
    state = state_of_named(s3, bucket)
    assert (state.total(), state.open) == (Amount(12), {})


def state_of_named(s3: S3Client, bucket: str) -> BudgetState:
    """The state of the budget that is no task's own."""
    folders = {key.rpartition("/")[0] for key in keys_of(s3, bucket) if "/budgets/" in key}
    (folder,) = (folder for folder in folders if "/task-" not in folder)
    return S3BudgetLog(s3, S3Uri(bucket, folder)).load()[1]


def test_a_store_that_ignores_conditions_is_refused(
    restyle: Restyle, s3: S3Client, bucket: str, engine: WatchedEngine
) -> None:
    key = "styled/_modelslab/ledger/conditional-puts.json"
    s3.put_object(Bucket=bucket, Key=key, Body=b'{"honoured": false}')
    with pytest.raises(StorageConfigurationError, match="If-None-Match"):
        execute(restyle(max_jobs=5))
    assert engine.submitted == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({"budget": "unknown"}, "budget"), ({"max_cost": "1"}, "prices"), ({"max_jobs": "{{ 'x' }}"}, "max_jobs")],
)
def test_what_cannot_be_counted_is_refused_before_anything_is_paid(
    restyle: Restyle, arguments: dict[str, Any], field: str, engine: WatchedEngine
) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        execute(restyle(**arguments))
    assert list(raised.value.fields) == [field]
    assert engine.submitted == []


def test_the_report_of_a_capped_batch_says_what_is_pending(dag: Dag, s3: S3Client, bucket: str) -> None:
    with pytest.raises(BatchFailedError):
        execute(dag(max_jobs=5))
    (report,) = (key for key in keys_of(s3, bucket) if key.endswith(".jsonl") and "retry" not in key)
    status = [line["status"] for line in lines_of(s3, f"s3://{bucket}/{report}")]
    assert (status.count("landed"), status.count("pending")) == (5, 7)
