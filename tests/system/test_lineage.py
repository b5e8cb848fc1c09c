"""The events that the OpenLineage provider sends from a running Airflow, as its own file transport writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.samples import small_mp4
from tools.stack.process import wait_until
from tools.stack.whole import LOCAL_KEY, WholeStack

pytestmark = [pytest.mark.system, pytest.mark.slow]

DAGS = Path(__file__).parent / "lineage_dags"
BUCKET = "lineage-tests"
STATES = {"clip": "success", "batch": "success", "function": "success", "fails": "failed"}


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    """Everything started, with lineage written to ``events/``, and stopped after the last test."""
    folder = tmp_path_factory.mktemp("lineage")
    (folder / "events").mkdir()
    transport = {"type": "file", "log_file_path": str(folder / "events" / "event"), "append": False}
    stack = WholeStack(
        folder,
        dags_folder=DAGS,
        bucket=BUCKET,
        endpoint_arguments=("--engine", "echo", "--allow-request-faults"),
        airflow_env={
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport),
            "AIRFLOW__OPENLINEAGE__NAMESPACE": "tests",
            "AIRFLOW__OPENLINEAGE__EXECUTION_TIMEOUT": "600",
        },
    )
    with stack:
        stack.start(prefix="landed")
        yield stack


@pytest.fixture(scope="module")
def run_id(lineage: WholeStack) -> str:
    """One run of the Dag to its end."""
    put = lineage.s3.client().put_object
    put(Bucket=BUCKET, Key="in/clip.mp4", Body=small_mp4())
    for number in range(3):
        put(Bucket=BUCKET, Key=f"in/many/clip{number}.mp4", Body=small_mp4())
    lineage.airflow.wait_for_dag("lineage")
    conf = {"clip": f"s3://{BUCKET}/in/clip.mp4", "source": f"s3://{BUCKET}/in/many/"}
    run = lineage.airflow.trigger("lineage", conf)
    lineage.airflow.finish("lineage", run)
    assert {task["task_id"]: task["state"] for task in lineage.airflow.tasks("lineage", run)} == STATES
    return run


@pytest.fixture(scope="module")
def events(lineage: WholeStack, run_id: str) -> list[dict[str, Any]]:
    """All events, oldest first; a task's last one may come after Airflow has seen its end."""
    ends = {(f"lineage.{task}", "COMPLETE" if state == "success" else "FAIL") for task, state in STATES.items()}
    found: list[dict[str, Any]] = []

    def whole() -> bool:
        with suppress(json.JSONDecodeError):  # one that is being written
            found[:] = [json.loads(file.read_text()) for file in sorted((lineage.folder / "events").iterdir())]
        return ends <= {(event["job"]["name"], event["eventType"]) for event in found}

    wait_until(whole, list(lineage.airflow.parts.values()), what="the last events of all tasks")
    return found


def of(events: list[dict[str, Any]], task_id: str, kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["job"]["name"] == f"lineage.{task_id}" and event["eventType"] == kind]


def names(datasets: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(dataset["namespace"], dataset["name"]) for dataset in datasets]


def told(event: dict[str, Any]) -> dict[str, Any]:
    facet: dict[str, Any] = event["run"]["facets"]["modelslab"]
    return facet


def test_a_clip_from_its_start_to_the_landed_object(
    lineage: WholeStack, run_id: str, events: list[dict[str, Any]]
) -> None:
    manifest = lineage.airflow.xcom("lineage", run_id, "clip")
    starts, (complete,) = of(events, "clip", "START"), of(events, "clip", "COMPLETE")
    assert starts  # another one when the task resumes
    assert {event["run"]["runId"] for event in starts} == {complete["run"]["runId"]}
    for event in (*starts, complete):
        assert names(event["inputs"]) == [(f"s3://{BUCKET}", "in/clip.mp4")]
        assert told(event)["request"].items() >= {"prompt": "a fox", "num_frames": 4, "seed": 7}.items()
    assert names(starts[0]["outputs"]) == []
    key = manifest["uri"].removeprefix(f"s3://{BUCKET}/")
    assert names(complete["outputs"]) == [(f"s3://{BUCKET}", key)]
    statistics = complete["outputs"][0]["outputFacets"]["outputStatistics"]
    assert (statistics["size"], statistics["fileCount"]) == (manifest["bytes"], 1)
    wanted = {"model_id": "tiny", "seed": 7, "job_id": manifest["job_id"], "status": "landed", "reused": False}
    assert told(complete).items() >= {**wanted, "conn_id": "modelslab_default", "bytes": manifest["bytes"]}.items()


def test_a_batch_is_a_prefix_with_counts(lineage: WholeStack, run_id: str, events: list[dict[str, Any]]) -> None:
    summary = lineage.airflow.xcom("lineage", run_id, "batch")
    (complete,) = of(events, "batch", "COMPLETE")
    assert names(complete["inputs"]) == [(f"s3://{BUCKET}", "in/many/")]
    assert names(complete["outputs"]) == [(f"s3://{BUCKET}", "landed/many/")]
    assert complete["outputs"][0]["outputFacets"]["outputStatistics"]["fileCount"] == 3
    assert told(complete)["counts"] == {"found": 3, "landed": 3, "skipped": 0, "failed": 0, "pending": 0}
    assert told(complete)["manifest"] == summary["manifest"]


def test_what_a_function_returned_is_told_after_the_deferral(events: list[dict[str, Any]]) -> None:
    (complete,) = of(events, "function", "COMPLETE")
    assert names(complete["inputs"]) == [(f"s3://{BUCKET}", "in/clip.mp4")]
    assert (told(complete)["seed"], told(complete)["request"]["prompt"]) == (9, "a fox")


def test_a_failure_names_the_job_that_was_paid_for(events: list[dict[str, Any]]) -> None:
    (failed,) = of(events, "fails", "FAIL")
    assert names(failed["inputs"]) == [(f"s3://{BUCKET}", "in/clip.mp4")]
    assert names(failed["outputs"]) == []
    assert told(failed)["job_id"]
    assert "errorMessage" in failed["run"]["facets"]


def test_no_event_holds_a_secret(lineage: WholeStack, events: list[dict[str, Any]]) -> None:
    written = json.dumps(events)
    assert len(events) >= 8
    for secret in (LOCAL_KEY, lineage.s3.secret_key, "not-to-be-told", "X-Amz-"):
        assert secret not in written
