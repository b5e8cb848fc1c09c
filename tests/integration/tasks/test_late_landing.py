"""A job of a process that Airflow has given up ends last: what has landed in its place since stays there."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab.api.errors import BatchSupersededError, ChangedRequestError
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import Restyle, Store, WatchedEngine
from tests.support.tasks import (
    TaskInstance,
    context_of,
    deferral_of,
    event_of,
    execute,
    in_the_triggerer,
    resume,
    run,
    to_the_end,
)

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")


def attempt(number: int) -> Context:
    return context_of(TaskInstance(try_number=number, max_tries=number))


def prompt_of(store: Store, uri: str) -> str:
    prompt: str = json.loads(store.read(f"{uri}.json"))["request"]["prompt"]
    return prompt


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    dag = Dag(s3, bucket)
    dag.add("clip")
    return dag


@pytest.fixture
def result(bucket: str) -> str:
    """Where the batch's only clip lands."""
    return f"s3://{bucket}/out/clip.mp4"


@pytest.mark.slow
def test_a_batch(dag: Dag, result: str, store: Store, engine: WatchedEngine, gate: threading.Event) -> None:
    late = deferral_of(dag(), attempt(1))
    dag.arguments["prompt"] = "a wolf"
    newer = deferral_of(dag(), attempt(2))
    gate.set()
    assert to_the_end(dag, newer, attempt(2))["landed"] == 1
    landed = store.read(result)
    with pytest.raises(BatchSupersededError):
        to_the_end(dag, late, attempt(1))
    assert (store.read(result), prompt_of(store, result)) == (landed, "a wolf")
    assert execute(dag(), attempt(3))["landed"] == 1  # by the second try
    assert len(engine.submitted) == 2


@pytest.mark.slow
def test_another_run_says_so_and_pays_for_no_third(
    dag: Dag, result: str, store: Store, engine: WatchedEngine, gate: threading.Event
) -> None:
    """Two runs want different results in one place: the one who asked first does not ask again by itself."""
    today = [context_of(TaskInstance(try_number=number, max_tries=1)) for number in (1, 2)]
    tomorrow = context_of(TaskInstance(run_id="tomorrow"))
    dag.arguments |= {"max_failed": None, "retries": 1}
    first = deferral_of(dag(), today[0])
    dag.arguments["prompt"] = "a wolf"
    second = deferral_of(dag(), tomorrow)
    gate.set()
    assert to_the_end(dag, second, tomorrow)["landed"] == 1
    (told,) = to_the_end(dag, first, today[0])["errors"]
    assert "submission 2" in told["message"]
    assert told["code"] == "changed_request"
    dag.arguments |= {"prompt": "a fox", "deferrable": False}
    (told,) = execute(dag(), today[1])["errors"]
    assert told["code"] == "changed_request"
    assert prompt_of(store, result) == "a wolf"
    assert len(engine.submitted) == 2


def test_a_task_of_its_own(restyle: Restyle, store: Store, engine: WatchedEngine, gate: threading.Event) -> None:
    late = deferral_of(restyle(deferrable=True), attempt(1))
    newer = deferral_of(restyle(deferrable=True, prompt="a wolf"), attempt(2))
    gate.set()
    manifest = resume(restyle(prompt="a wolf"), newer, event_of(in_the_triggerer(newer)), attempt(2))
    landed = store.read(manifest["uri"])
    with pytest.raises(ChangedRequestError, match="submission 2"):
        resume(restyle(), late, event_of(in_the_triggerer(late)), attempt(1))
    assert (store.read(manifest["uri"]), prompt_of(store, manifest["uri"])) == (landed, "a wolf")
    assert len(engine.submitted) == 2


@pytest.mark.slow
def test_what_somebody_else_put_in_its_place_is_not_the_result(
    restyle: Restyle, store: Store, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    manifest = run(restyle, attempt(1))
    key = manifest["uri"].removeprefix(f"s3://{bucket}/")
    s3.put_object(Bucket=bucket, Key=key, Body=b"")
    again = run(restyle, attempt(2))
    assert again["bytes"] == len(store.read(manifest["uri"])) == manifest["bytes"]
    assert len(engine.submitted) == 1  # the job is paid for, so it is landed again
