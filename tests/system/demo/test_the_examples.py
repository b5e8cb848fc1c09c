"""Every example Dag in the running demo, with the defaults of its form: it ends green and lands what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.airflow_versions import AIRFLOW
from tests.support.s3 import content_of
from tests.system.demo.conftest import KeptDemo

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(3600)]

VIDEOS = {
    "modelslab_assets": 1,
    "modelslab_batch": 2,
    "modelslab_batch_mapped": 2,
    "modelslab_gpu_pool": 2,
    "modelslab_local_batch": 2,
    "modelslab_sample_then_approve": 2,
    "modelslab_taskflow": 4,
    "modelslab_video2video": 1,
    "modelslab_video2video_sensor": 1,
    **({"modelslab_loop": 1} if AIRFLOW >= (3, 4) else {}),
}
"""How many each one lands; of a loop, those of the last iteration."""

STARTED_BY = {"modelslab_assets_downstream": "modelslab_assets", "modelslab_webhook_land": "modelslab_webhook_submit"}
"""What an event of another one starts."""

SETTINGS = "modelslab_update_s3"


@pytest.fixture(scope="module")
def runs(demo: KeptDemo, request: pytest.FixtureRequest) -> dict[str, str]:
    """A run of each that the chosen tests look at, all at once."""
    found = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = {spec.params.get("starter") or spec.params.get("dag_id") for spec in found if spec is not None}
    return {dag_id: demo.airflow.trigger(dag_id) for dag_id in {*VIDEOS, *STARTED_BY.values()} & chosen}


def require_success(demo: KeptDemo, dag_id: str, run_id: str) -> None:
    airflow = demo.airflow
    demo.wait(lambda: airflow.run_state(dag_id, run_id) in {"success", "failed"}, f"the end of {dag_id}")
    assert airflow.run_state(dag_id, run_id) == "success", demo.logs(dag_id, run_id)


def returned(demo: KeptDemo, dag_id: str, run_id: str) -> list[Any]:
    """What the tasks of a run returned."""
    airflow = demo.airflow
    places = [(task["task_id"], task["map_index"]) for task in airflow.tasks(dag_id, run_id)]
    return [airflow.xcom(dag_id, run_id, task_id, map_index=map_index) for task_id, map_index in places]


def landed(demo: KeptDemo, dag_id: str, run_id: str) -> set[str]:
    """The URIs in manifests and reports of batches that the tasks returned."""
    found = set()
    for value in returned(demo, dag_id, run_id):
        if not isinstance(value, dict):
            continue
        if "landed" in value and "manifest" in value:
            lines = content_of(demo.s3, value["manifest"]).splitlines()
            found |= {line["uri"] for line in map(json.loads, lines) if line["status"] in {"landed", "skipped"}}
        elif value.get("status") == "landed":
            found.add(value["uri"])
    return found


def require_stored(demo: KeptDemo, uri: str) -> dict[str, Any]:
    """The object is as large as its sidecar says, which the function returns; the model of the demo made it."""
    sidecar: dict[str, Any] = json.loads(content_of(demo.s3, f"{uri}.json"))
    place = S3Uri.parse(uri)
    assert demo.s3.head_object(Bucket=place.bucket, Key=place.key)["ContentLength"] == sidecar["bytes"]
    assert sidecar["meta"]["model_id"] == "demo"
    assert sidecar["generation_time_s"] is not None
    return sidecar


def test_these_are_all(demo: KeptDemo) -> None:
    dags = demo.airflow.call("GET", "dags?tags=example&limit=100")["dags"]
    assert {dag["dag_id"] for dag in dags} == {*VIDEOS, *STARTED_BY, *STARTED_BY.values(), SETTINGS}


@pytest.mark.parametrize("dag_id", VIDEOS)
def test_it_lands_its_videos(demo: KeptDemo, runs: dict[str, str], dag_id: str) -> None:
    run_id = runs[dag_id]
    if dag_id == "modelslab_sample_then_approve":
        demo.wait_for_task(dag_id, run_id, "approve", "deferred")
        demo.airflow.answer(dag_id, run_id, "approve", "Approve")
    require_success(demo, dag_id, run_id)
    uris = landed(demo, dag_id, run_id)
    assert len(uris) == VIDEOS[dag_id]
    for uri in uris:
        require_stored(demo, uri)
    assert demo.warnings(dag_id, run_id) == []


@pytest.mark.parametrize(("dag_id", "starter"), STARTED_BY.items())
def test_an_event_starts_what_follows(demo: KeptDemo, runs: dict[str, str], dag_id: str, starter: str) -> None:
    require_success(demo, starter, runs[starter])
    job_ids = {value["job_id"] for value in returned(demo, starter, runs[starter]) if isinstance(value, dict)}
    assert len(job_ids) == 1
    found: list[tuple[str, dict[str, Any]]] = []

    def is_there() -> bool:
        for run in demo.airflow.call("GET", f"dags/{dag_id}/dagRuns?order_by=-id")["dag_runs"]:
            for value in returned(demo, dag_id, run["dag_run_id"]):
                videos = value if isinstance(value, list) else [value]
                found.extend((run["dag_run_id"], video) for video in videos if isinstance(video, dict))
        return any(video.get("job_id") in job_ids and "uri" in video for _, video in found)

    demo.wait(is_there, f"a run of {dag_id} with the video")
    run_id, video = next(one for one in found if one[1].get("job_id") in job_ids and "uri" in one[1])
    require_stored(demo, video["uri"])
    require_success(demo, dag_id, run_id)
    assert [demo.warnings(starter, runs[starter]), demo.warnings(dag_id, run_id)] == [[], []]


def test_jobs_that_a_task_waits_for_start_nothing_else(demo: KeptDemo) -> None:
    runs = demo.airflow.call("GET", "dags/modelslab_webhook_land/dagRuns")["dag_runs"]
    submitted = demo.airflow.call("GET", "dags/modelslab_webhook_submit/dagRuns")["dag_runs"]
    assert len(runs) <= len(submitted)


def test_from_then_on_the_server_stores_results_in_the_bucket(demo: KeptDemo) -> None:
    """Last: what runs at the same time would be stored here or there."""
    run_id = demo.airflow.trigger(SETTINGS)
    require_success(demo, SETTINGS, run_id)
    assert demo.warnings(SETTINGS, run_id) == []
    small = {"width": 96, "height": 64, "num_frames": 4, "num_inference_steps": 4, "seed": 12}
    run_id = demo.airflow.trigger("modelslab_video2video", small)
    require_success(demo, "modelslab_video2video", run_id)
    (uri,) = landed(demo, "modelslab_video2video", run_id)
    assert require_stored(demo, uri)["source_url"].startswith(f"https://127.0.0.1:{demo.ports['s3']}/modelslab-demo/")
