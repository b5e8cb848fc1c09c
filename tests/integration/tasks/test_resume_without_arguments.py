"""``dag.test()`` and ``airflow tasks test`` of Airflow 3.1 to 3.3 resume a task with the trigger's event alone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_modelslab.api.errors import ErrorCode, JobFailedError
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import FRAMES, Restyle, Store, WatchedEngine
from tests.support.connections import set_modelslab
from tests.support.endpoint import Caller
from tests.support.tasks import context_of, deferral_of, event_of, execute, in_the_triggerer, resume

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def resume_with_the_event_alone(task: Any, deferred: TaskDeferred) -> Any:
    event = event_of(in_the_triggerer(deferred))
    deferred.kwargs = {}
    return resume(task, deferred, event)


@pytest.mark.slow
@pytest.mark.usefixtures("connections")
def test_the_ledger_knows_the_job(restyle: Restyle, store: Store, engine: WatchedEngine, gate: threading.Event) -> None:
    deferred = deferral_of(restyle(deferrable=True))
    gate.set()
    manifest = resume_with_the_event_alone(restyle(deferrable=True), deferred)
    assert store.frames(manifest["uri"]) == FRAMES
    assert execute(restyle(deferrable=True)) == manifest
    assert len(engine.submitted) == 1


@pytest.mark.usefixtures("connections")
def test_a_failed_job_is_recorded_and_a_retry_decides(restyle: Restyle, engine: WatchedEngine) -> None:
    deferred = deferral_of(restyle(prompt="crash", deferrable=True))
    with pytest.raises(JobFailedError):
        resume_with_the_event_alone(restyle(prompt="crash"), deferred)
    assert len(engine.submitted) == 1
    with pytest.raises(JobFailedError):
        execute(restyle(prompt="crash"))
    assert len(engine.submitted) == 2


@pytest.fixture
def no_bucket(endpoint: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, endpoint.url)


@pytest.mark.usefixtures("no_bucket")
def test_without_a_ledger_the_event_carries_the_job(
    restyle: Restyle, engine: WatchedEngine, gate: threading.Event
) -> None:
    deferred = deferral_of(restyle(deferrable=True))
    gate.set()
    manifest = resume_with_the_event_alone(restyle(deferrable=True), deferred)
    assert (manifest["status"], manifest["seed"]) == ("finished", 11)
    assert manifest["links"]
    assert len(engine.submitted) == 1


@pytest.mark.usefixtures("no_bucket")
def test_without_a_ledger_a_failure_is_the_tasks_own(restyle: Restyle, engine: WatchedEngine) -> None:
    deferred = deferral_of(restyle(prompt="crash", deferrable=True))
    with pytest.raises(JobFailedError) as failed:
        resume_with_the_event_alone(restyle(prompt="crash", deferrable=True), deferred)
    assert failed.value.code is ErrorCode.JOB_FAILED
    assert len(engine.submitted) == 1


@pytest.mark.usefixtures("connections")
def test_a_batch_plans_anew(s3: S3Client, bucket: str, engine: WatchedEngine, gate: threading.Event) -> None:
    dag = Dag(s3, bucket)
    dag.add("one", "two")
    deferred = deferral_of(dag(), context_of())
    gate.set()
    event = event_of(in_the_triggerer(deferred))
    deferred.kwargs = {}
    dag.arguments["deferrable"] = False
    assert resume(dag(), deferred, event)["landed"] == 2
    assert len(engine.submitted) == 2
