"""What a batch that goes on after the triggerer keeps of how it began: its deadlines and its connection."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_modelslab.api.errors import BatchFailedError
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import WatchedEngine
from tests.support.connections import set_modelslab
from tests.support.endpoint import Caller
from tests.support.tasks import TaskInstance, context_of, deferral_of, execute, in_the_triggerer, resume, to_the_end

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

NOTHING_ENDED = {"status": "success", "ended": [], "waiting": 1}


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    dag = Dag(s3, bucket, max_in_flight=2)
    dag.add(*"abc")
    return dag


def deadlines(trigger: Any) -> dict[str, float]:
    return {job["job_id"]: job["deadline"] for job in trigger.jobs}


def test_a_job_has_one_deadline_through_all_deferrals_of_a_try(dag: Dag, gate: threading.Event) -> None:
    first = deferral_of(dag())
    known = deadlines(in_the_triggerer(first))
    dag.arguments["timeout"] = 5  # of a Dag that was edited; what runs keeps the deadline that it has
    with pytest.raises(TaskDeferred) as raised:
        resume(dag(), first, NOTHING_ENDED)
    assert deadlines(in_the_triggerer(raised.value)) == known


@pytest.mark.slow
def test_a_time_out_is_granted_once_a_try(dag: Dag, engine: WatchedEngine, gate: threading.Event) -> None:
    dag.arguments |= {"timeout": 600, "max_in_flight": 3}
    tries = [context_of(TaskInstance(try_number=number, max_tries=1)) for number in (1, 2)]
    deferred = deferral_of(dag(), tries[0])
    assert deferred.kwargs is not None
    for job in deferred.kwargs["in_flight"]:
        job["deadline"] -= 600  # as if it had waited for so long
    with pytest.raises(BatchFailedError, match="timeout"):
        resume(dag(), deferred, NOTHING_ENDED, tries[0])
    later = deferral_of(dag(), tries[1])
    assert min(deadlines(in_the_triggerer(later)).values()) > time.time()
    gate.set()
    assert to_the_end(dag, later, tries[1])["landed"] == 3
    assert len(engine.submitted) == 3


def test_it_goes_on_with_the_connection_it_began_with(
    dag: Dag,
    endpoint: Caller,
    engine: WatchedEngine,
    gate: threading.Event,
    s3_extra: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another key does not know the jobs, which then count as lost, and are paid again."""
    set_modelslab(monkeypatch, endpoint.url, conn_id="of_the_old_account", **s3_extra)
    set_modelslab(monkeypatch, endpoint.url, conn_id="of_the_new_account", key="another-key", **s3_extra)
    dag.arguments["modelslab_conn_id"] = "of_the_old_account"
    deferred = deferral_of(dag())
    dag.arguments["modelslab_conn_id"] = "of_the_new_account"
    gate.set()
    assert to_the_end(dag, deferred)["landed"] == 3
    assert len(engine.submitted) == 3
    dag.arguments |= {"modelslab_conn_id": "of_the_old_account", "deferrable": False}
    assert execute(dag(), context_of(TaskInstance(run_id="the next day")))["skipped"] == 3
