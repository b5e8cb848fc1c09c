"""A task loop of Airflow 3.4: each iteration pays for its own result, and a clear of one pays for nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.airflow_versions import AIRFLOW
from tests.support.dag_runs import bills, content, run
from tools.stack.whole import WholeStack

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        os.environ.get("MODELSLAB_TEST_COMPAT") != "1" or AIRFLOW < (3, 4),
        reason="Airflow has task loops since 3.4; tools/compat/run.sh runs it there",
    ),
]

EXAMPLES = Path(__file__).resolve().parents[3] / "dags_examples"
DAG_ID = "modelslab_loop"
TASK = "regenerate.restyle"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    folder = tmp_path_factory.mktemp("loop")
    (folder / "dags").mkdir()
    shutil.copy(EXAMPLES / f"{DAG_ID}.py", folder / "dags")
    shutil.copytree(EXAMPLES / "media", folder / "dags" / "media")
    echo = ("--engine", "echo", "--echo-seconds", "0.5", "--admin")
    whole = WholeStack(folder, dags_folder=folder / "dags", bucket="loop-tests", endpoint_arguments=echo)
    with whole:
        whole.start(prefix="landed")
        yield whole


def iterations(stack: WholeStack, run_id: str) -> list[dict[str, Any]]:
    """The task's instances, one for each iteration."""
    found = [task for task in stack.airflow.tasks(DAG_ID, run_id) if task["task_id"] == TASK]
    return sorted(found, key=lambda task: int(task["region_index"]))


def results(stack: WholeStack) -> list[str]:
    listed = stack.s3.client().list_objects_v2(Bucket="loop-tests", Prefix=f"landed/{DAG_ID}/").get("Contents", [])
    return sorted(item["Key"] for item in listed if item["Key"].endswith(".mp4"))


def test_three_iterations_pay_three_times_and_a_clear_pays_for_nothing(stack: WholeStack) -> None:
    # No result is as large as that, so the loop ends at its limit, with a failed gate.
    stack.airflow.wait_for_dag(DAG_ID)
    run_id = stack.airflow.trigger(DAG_ID, {"min_bytes": 10**9})
    assert stack.airflow.finish(DAG_ID, run_id) == "failed"
    assert [task["state"] for task in iterations(stack, run_id)] == ["success"] * 3
    paid = bills(stack)
    assert sorted(job["track_id"] for job in paid) == [
        f"{DAG_ID}.{TASK}/{run_id}/loop{index}/submission1" for index in range(3)
    ]
    landed = results(stack)
    assert len(landed) == 3
    assert [key.rpartition("/")[2] for key in landed] == ["loop0.mp4", "loop1.mp4", "loop2.mp4"]
    before = [content(stack, f"s3://loop-tests/{key}") for key in landed]

    second = iterations(stack, run_id)[1]
    stack.airflow.clear_instances(DAG_ID, run_id, [second["id"]])
    assert stack.airflow.finish(DAG_ID, run_id) == "failed"
    assert iterations(stack, run_id)[1]["state"] == "success"
    assert iterations(stack, run_id)[1]["id"] != second["id"]
    assert len(bills(stack)) == 3
    assert [content(stack, f"s3://loop-tests/{key}") for key in results(stack)] == before


def test_a_loop_ends_with_the_result_that_is_accepted(stack: WholeStack) -> None:
    before = len(bills(stack))
    run_id = run(stack, DAG_ID, {"min_bytes": 1})
    assert [task["state"] for task in iterations(stack, run_id)] == ["success"]
    assert len(bills(stack)) == before + 1


def test_the_gallery_and_the_links_show_each_iteration(stack: WholeStack) -> None:
    run_id = run(stack, DAG_ID, {"min_bytes": 1})
    place = f"dags/{DAG_ID}/tasks/{TASK}/-1"
    airflow = stack.airflow
    newest = airflow.get(f"/modelslab/gallery/api/{place}?run_id={run_id}").json()
    assert (newest["task"]["loop_index"], newest["task"]["iterations"]) == (0, [0])
    assert newest["single"]["outcome"] == "landed"
    assert airflow.get(f"/modelslab/gallery/api/{place}?run_id={run_id}&loop_index=1").status_code == 404
    recent = airflow.get("/modelslab/gallery/api/recent").json()["items"]
    assert {item["loop_index"] for item in recent if item["run_id"] == run_id} == {0}
    links = airflow.get(f"/modelslab/gallery/api/{place}/links?run_id={run_id}&clips=0").json()["links"]
    assert links["0"]["result"]["url"]
    named = {"dag_id": DAG_ID, "run_id": run_id, "task_id": TASK, "what": "result"}
    for index, status in ((0, 307), (1, 404)):
        query = urlencode({**named, "loop_index": index})
        assert airflow.get(f"/modelslab/media/?{query}").status_code == status
