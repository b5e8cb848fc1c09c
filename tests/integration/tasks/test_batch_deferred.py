"""What has to survive while a batch waits in the triggerer: its plan, its attributes, and that it was given up."""

from __future__ import annotations

import itertools
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import BatchFailedError, BatchSupersededError, PaymentRequiredError
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import Store, WatchedEngine
from tests.support.tasks import TaskInstance, context_of, deferral_of, execute, to_the_end

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    return Dag(s3, bucket, max_in_flight=3)


def test_a_try_that_was_given_up_does_not_mix_up_the_clips(
    dag: Dag, store: Store, engine: WatchedEngine, gate: threading.Event
) -> None:
    names = [f"clip{number}" for number in range(5)]
    dag.add(*names)
    tries = [context_of(TaskInstance(try_number=number, max_tries=1)) for number in (1, 2)]
    first = deferral_of(dag(), tries[0])
    dag.add("an-early-one")  # so that every clip has another number in the next try's plan
    second = deferral_of(dag(), tries[1])
    gate.set()
    summary = to_the_end(dag, second, tries[1])
    assert (summary["found"], summary["landed"]) == (6, 6)
    with pytest.raises(BatchSupersededError):
        to_the_end(dag, first, tries[0])  # Airflow believes it to be gone, and it goes on all the same
    assert len(store.read(summary["manifest"]).splitlines()) == 6
    for name in ["an-early-one", *names]:
        sidecar = json.loads(store.read(f"s3://{dag.bucket}/out/{name}.mp4.json"))
        assert sidecar["request"]["init_video"] == f"s3://{dag.bucket}/in/{name}.mp4"
    assert len(engine.submitted) == 6


def test_it_goes_on_with_the_attributes_it_began_with(dag: Dag, engine: WatchedEngine, gate: threading.Event) -> None:
    """Else results made with the new attributes would lie there under the fingerprints of the old ones."""
    dag.add(*"abcdef")
    dag.arguments |= {"webhook": "http://127.0.0.1:9/hook?token=secret", "seed": 4}
    deferred = deferral_of(dag())
    dag.arguments |= {"prompt": "a wolf", "negative_prompt": "rain"}
    gate.set()
    assert to_the_end(dag, deferred)["landed"] == 6
    assert {request.prompt for request in engine.submitted} == {"a fox"}
    assert {request.negative_prompt for request in engine.submitted} == {None}
    assert {request.seed for request in engine.submitted} == {4}
    assert {request.webhook for request in engine.submitted} == {"http://127.0.0.1:9/hook?token=secret"}
    dag.arguments |= {"deferrable": False}
    assert execute(dag(), context_of(TaskInstance(run_id="the next day")))["landed"] == 6  # paid for, with the new ones


def test_what_was_given_up_stays_given_up(
    dag: Dag, engine: WatchedEngine, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag.add(*"abcdefgh")
    submit, numbers = ModelsLabHook.submit, itertools.count()

    def refused(hook: ModelsLabHook, *args: Any, **kwargs: Any) -> Any:
        if next(numbers) >= 2:
            raise PaymentRequiredError("no credit is left")
        return submit(hook, *args, **kwargs)

    dag.arguments |= {"max_failed": None}
    with monkeypatch.context() as patch:
        patch.setattr(ModelsLabHook, "submit", refused)
        deferred = deferral_of(dag())
    gate.set()
    with pytest.raises(BatchFailedError, match="no credit is left") as raised:
        to_the_end(dag, deferred)
    assert len(engine.submitted) == 2
    assert "2 clips landed" in str(raised.value)


@pytest.mark.slow
def test_failures_in_a_row_count_over_deferrals(dag: Dag, engine: WatchedEngine, gate: threading.Event) -> None:
    """Each stretch of the work sees a few; together they say that the next one would only cost as well."""
    dag.add(*(f"clip{number:02d}" for number in range(30)))
    dag.arguments |= {"prompt": "unreadable", "defer_after": 0.0}
    deferred = deferral_of(dag())
    gate.set()
    with pytest.raises(BatchFailedError, match="clips failed"):
        to_the_end(dag, deferred)
    assert 20 <= len(engine.submitted) <= 26  # those in flight by then are paid for already
