"""Every example Dag, run by a real Airflow against the real endpoint and a real S3 over TLS."""

from __future__ import annotations

import hashlib
import io
import json
import re
from typing import Any
from urllib.parse import parse_qsl, urlencode

import av
import pytest

from tests.support.dag_runs import content, require_success, run, start
from tests.support.samples import small_mp4
from tests.system.conftest import BLOCKING_DAG
from tools.stack.process import wait_until
from tools.stack.whole import LOCAL_KEY, WholeStack

pytestmark = pytest.mark.system

SMALL = {"model_id": "tiny", "width": 96, "height": 64, "num_frames": 8, "num_inference_steps": 2, "seed": 11}


def frames_of(video: bytes) -> list[tuple[int, int]]:
    with av.open(io.BytesIO(video), "r") as container:
        return [(frame.width, frame.height) for frame in container.decode(video=0)]


@pytest.mark.parametrize("dag_id", ["modelslab_video2video", BLOCKING_DAG])
def test_main_dag_lands_a_checked_video_before_the_next_task(stack: WholeStack, dag_id: str) -> None:
    run_id = run(stack, dag_id, SMALL)

    manifest = stack.airflow.xcom(dag_id, run_id, "restyle")
    video = content(stack, manifest["uri"])
    sidecar = json.loads(content(stack, manifest["sidecar_uri"]))
    assert frames_of(video) == [(96, 64)] * 8
    assert hashlib.sha256(video).hexdigest() == sidecar["sha256"] == manifest["sha256"]
    assert manifest["uri"].startswith("s3://system-tests/landed/restyled/")
    assert sidecar["request"]["prompt"] == "an oil painting, warm colours"
    assert sidecar["seed"] == manifest["seed"] == 11
    # The task after it saw the object in S3.
    used = stack.airflow.xcom(dag_id, run_id, "use")
    assert used == {"uri": manifest["uri"], "bytes": len(video), "seed": 11}
    deferred = "Waiting in the triggerer" in stack.airflow.task_log(dag_id, run_id, "restyle")
    assert deferred == (dag_id != BLOCKING_DAG)


@pytest.mark.slow
def test_sensor_between_two_tasks(stack: WholeStack) -> None:
    dag_id = "modelslab_video2video_sensor"
    run_id = run(stack, dag_id, {"model_id": "tiny", "width": 64, "height": 64, "num_frames": 4})

    submitted = stack.airflow.xcom(dag_id, run_id, "submit")
    waited = stack.airflow.xcom(dag_id, run_id, "wait")
    landed = stack.airflow.xcom(dag_id, run_id, "land")
    assert [m["status"] for m in (submitted, waited, landed)] == ["submitted", "finished", "landed"]
    assert submitted["job_id"] == waited["job_id"] == landed["job_id"]
    assert landed["uri"].startswith("s3://system-tests/landed/drawn/")
    assert landed["content_type"] == "image/gif"
    assert frames_of(content(stack, landed["uri"])) == [(64, 64)] * 4


def put_clips(stack: WholeStack, prefix: str, count: int) -> str:
    for number in range(count):
        stack.s3.client().put_object(Bucket="system-tests", Key=f"{prefix}clip{number}.mp4", Body=small_mp4())
    return f"s3://system-tests/{prefix}"


BATCH = {"model_id": "tiny", "width": 64, "height": 64, "num_frames": 4, "num_inference_steps": 2}


@pytest.mark.slow
def test_a_batch_lands_a_prefix_before_the_next_task(stack: WholeStack) -> None:
    source = put_clips(stack, "in/one/", 5)
    run_id = run(stack, "modelslab_batch", {**BATCH, "source": source, "destination": "batch/"})
    summary = stack.airflow.xcom("modelslab_batch", run_id, "restyle")
    assert (summary["found"], summary["landed"], summary["failed"]) == (5, 5, 0)
    used = stack.airflow.xcom("modelslab_batch", run_id, "use")
    assert used == [f"s3://system-tests/landed/batch/clip{i}.mp4" for i in range(5)]
    assert frames_of(content(stack, used[0])) == [(64, 64)] * 4


def uris_of(stack: WholeStack, summary: dict[str, Any]) -> dict[str, str]:
    lines = [json.loads(line) for line in content(stack, summary["manifest"]).splitlines()]
    return {line["uri"]: line["job_id"] for line in lines}


@pytest.fixture(scope="module")
def sampled(stack: WholeStack) -> dict[str, str]:
    """The runs that make a sample and ask a person, by the answer they are going to get."""
    conf = {**BATCH, "sample": 2}
    return {
        answer: start(
            stack,
            "modelslab_sample_then_approve",
            {**conf, "source": put_clips(stack, f"in/{answer}/", 4), "destination": f"approved/{answer}/"},
        )
        for answer in ("Approve", "Reject")
    }


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["Approve", "Reject"])
def test_a_sample_is_made_before_a_person_is_asked_about_the_rest(
    stack: WholeStack, sampled: dict[str, str], answer: str
) -> None:
    dag_id, run_id = "modelslab_sample_then_approve", sampled[answer]
    question = stack.airflow.wait_for_question(dag_id, run_id, "approve")
    sample = stack.airflow.xcom(dag_id, run_id, "sample")
    assert (sample["found"], sample["landed"], sample["jobs"], sample["ignored"]) == (2, 2, 2, {"not in the sample": 2})
    made = uris_of(stack, sample)
    assert list(made) == [f"s3://system-tests/landed/approved/{answer}/clip{number}.mp4" for number in (1, 3)]
    page = re.search(r"\]\((modelslab/gallery/)\?(\S+)\)", question["body"])
    assert page is not None
    named = dict(parse_qsl(page[2]))
    assert named == {"dag_id": dag_id, "run_id": run_id, "task_id": "sample", "map_index": "-1"}
    assert stack.airflow.get(f"/{page[1]}").status_code == 200
    shown = stack.airflow.get(f"/{page[1]}api/dags/{dag_id}/tasks/sample/-1?{urlencode({'run_id': run_id})}").json()
    assert shown["batch"]["summary"]["landed"] == len(shown["batch"]["rows"]) == 2

    stack.airflow.answer(dag_id, run_id, "approve", answer)
    require_success(stack, dag_id, run_id)
    if answer == "Reject":
        assert stack.airflow.task(dag_id, run_id, "rest")["state"] == "skipped"
        landed = stack.s3.client().list_objects_v2(Bucket="system-tests", Prefix="landed/approved/Reject/clip")
        assert len([item for item in landed["Contents"] if item["Key"].endswith(".mp4")]) == 2
        return
    rest = stack.airflow.xcom(dag_id, run_id, "rest")
    assert (rest["found"], rest["landed"], rest["skipped"], rest["jobs"]) == (4, 2, 2, 2)
    assert made.items() <= uris_of(stack, rest).items()  # the sample's own jobs


@pytest.mark.slow
def test_a_mapped_batch_lands_every_chunk(stack: WholeStack) -> None:
    source = put_clips(stack, "in/two/", 3)
    run_id = run(stack, "modelslab_batch_mapped", {**BATCH, "source": source, "destination": "mapped/"})
    summary = stack.airflow.xcom("modelslab_batch_mapped", run_id, "restyle", map_index=0)
    assert (summary["found"], summary["landed"]) == (3, 3)


@pytest.mark.slow
def test_a_batch_on_this_machine_lands_a_prefix(stack: WholeStack) -> None:
    source = put_clips(stack, "in/three/", 2)
    run_id = run(stack, "modelslab_local_batch", {**BATCH, "source": source, "destination": "local/"})
    summary = stack.airflow.xcom("modelslab_local_batch", run_id, "restyle")
    assert (summary["found"], summary["landed"]) == (2, 2)
    assert frames_of(content(stack, "s3://system-tests/landed/local/clip1.mp4")) == [(64, 64)] * 4


@pytest.mark.slow
def test_a_landed_video_starts_the_next_dag(stack: WholeStack) -> None:
    downstream = "modelslab_assets_downstream"
    stack.airflow.wait_for_dag(downstream)
    run_id = run(stack, "modelslab_assets", {**BATCH, "seed": 21})
    manifest = stack.airflow.xcom("modelslab_assets", run_id, "restyle")

    def runs() -> list[str]:
        return [
            str(found["dag_run_id"]) for found in stack.airflow.call("GET", f"dags/{downstream}/dagRuns")["dag_runs"]
        ]

    parts = list(stack.airflow.parts.values())
    wait_until(lambda: bool(runs()), parts, what=f"a run of {downstream}", interval=0.5)
    (started,) = runs()  # nobody triggered it
    assert stack.airflow.finish(downstream, started) == "success"
    (video,) = stack.airflow.xcom(downstream, started, "publish")
    assert (video["uri"], video["seed"], video["model_id"]) == (manifest["uri"], 21, "tiny")
    assert hashlib.sha256(content(stack, video["uri"])).hexdigest() == video["sha256"]


@pytest.mark.slow
def test_functions_that_return_requests(stack: WholeStack) -> None:
    dag_id = "modelslab_taskflow"
    run_id = run(stack, dag_id, BATCH)
    for index, style in enumerate(("an oil painting", "a woodcut")):
        manifest = stack.airflow.xcom(dag_id, run_id, "restyle", map_index=index)
        sidecar = json.loads(content(stack, manifest["sidecar_uri"]))
        assert sidecar["request"]["prompt"] == f"{style}, warm colours"
        assert (sidecar["request"]["strength"], sidecar["seed"]) == (0.5, len(style))
        assert frames_of(content(stack, manifest["uri"])) == [(64, 64)] * 4
    summary = stack.airflow.xcom(dag_id, run_id, "again")
    assert (summary["found"], summary["landed"]) == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dag_id", "task_id"),
    [
        ("modelslab_video2video", "restyle"),
        ("modelslab_video2video_sensor", "land"),
        ("modelslab_assets", "restyle"),
        ("modelslab_batch", "restyle"),
        ("modelslab_local_batch", "restyle"),
        ("modelslab_gpu_pool", "own_gpu"),
        ("modelslab_taskflow", "again"),
    ],
)
def test_an_example_runs_with_the_defaults_of_its_form(stack: WholeStack, dag_id: str, task_id: str) -> None:
    """The model of the vendor's page is an alias of the demo model here, and the manifest says what made the video."""
    stack.upload_clips()
    run_id = run(stack, dag_id, {"num_inference_steps": 2} if dag_id != "modelslab_video2video_sensor" else {})
    returned = stack.airflow.xcom(dag_id, run_id, task_id)
    manifest = returned if "uri" in returned else json.loads(content(stack, returned["manifest"]).splitlines()[0])
    size = (288, 192) if dag_id == "modelslab_local_batch" else (384, 256)
    assert frames_of(content(stack, manifest["uri"])) == [size] * 16
    assert json.loads(content(stack, f"{manifest['uri']}.json"))["meta"]["model_id"] == "demo"


@pytest.mark.slow
def test_update_s3_makes_the_server_store_to_the_bucket(stack: WholeStack) -> None:
    run(stack, "modelslab_update_s3")

    run_id = run(stack, "modelslab_video2video", SMALL | {"seed": 12})
    sidecar = json.loads(content(stack, stack.airflow.xcom("modelslab_video2video", run_id, "restyle")["sidecar_uri"]))
    assert sidecar["source_url"].startswith(f"{stack.s3.endpoint_url}/system-tests/landed/")


@pytest.mark.slow
def test_the_key_is_nowhere_but_in_the_connection(stack: WholeStack) -> None:
    """After all runs of this module: in no log and in no XCom."""
    run_id = run(stack, "modelslab_video2video", SMALL | {"seed": 13})
    assert LOCAL_KEY not in json.dumps(stack.airflow.xcom("modelslab_video2video", run_id, "restyle"))
    secrets = (LOCAL_KEY, stack.s3.secret_key)
    written = [path for path in stack.folder.rglob("*.log*") if path.is_file()]
    assert len(written) > 5
    leaks = [path for path in written if any(secret in path.read_text(errors="replace") for secret in secrets)]
    assert leaks == []
