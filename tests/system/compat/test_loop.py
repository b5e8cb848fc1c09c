"""A task loop of Airflow 3.4: each iteration pays for its own result, and a clear of one pays for nothing."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.airflow_versions import AIRFLOW
from tests.support.dag_runs import bills, content, run
from tools.stack.whole import WholeStack

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(AIRFLOW < (3, 4), reason="Airflow has task loops since 3.4"),
]

DAG_ID = "modelslab_loop"
TASK = "regenerate.restyle"
KILLED_DAG = "paid_once_loop"
KILLED_TASK = "again.clip"


def iterations(stack: WholeStack, dag_id: str, run_id: str, task_id: str) -> list[dict[str, Any]]:
    """The task's instances, one for each iteration."""
    found = [task for task in stack.airflow.tasks(dag_id, run_id) if task["task_id"] == task_id]
    return sorted(found, key=lambda task: int(task["region_index"]))


def results(stack: WholeStack, dag_id: str, run_id: str) -> list[str]:
    """The videos of a run, by their keys in S3."""
    listed = stack.s3.client().list_objects_v2(Bucket=stack.bucket, Prefix=f"landed/{dag_id}/").get("Contents", [])
    return sorted(item["Key"] for item in listed if item["Key"].endswith(".mp4") and f"/{run_id}/" in item["Key"])


def require_three_paid_and_landed(stack: WholeStack, dag_id: str, run_id: str, task_id: str) -> list[bytes]:
    """Three bills, three objects, each under the name of its iteration; what the objects hold."""
    assert sorted(job["track_id"] for job in bills(stack, run_id)) == [
        f"{dag_id}.{task_id}/{run_id}/loop{index}/submission1" for index in range(3)
    ]
    landed = results(stack, dag_id, run_id)
    assert [key.rpartition("/")[2] for key in landed] == ["loop0.mp4", "loop1.mp4", "loop2.mp4"]
    assert [task["state"] for task in iterations(stack, dag_id, run_id, task_id)] == ["success"] * 3
    return [content(stack, f"s3://{stack.bucket}/{key}") for key in landed]


@pytest.mark.parametrize(
    ("dag_id", "task_id", "end", "tries"),
    [(DAG_ID, TASK, "failed", 1), (KILLED_DAG, KILLED_TASK, "success", 2)],
    ids=["undisturbed", "each worker is killed once"],
)
def test_three_iterations_pay_three_times_and_a_clear_of_one_pays_for_nothing(
    stack: WholeStack, runs: dict[str, str], dag_id: str, task_id: str, end: str, tries: int
) -> None:
    run_id = runs[dag_id]
    assert stack.airflow.finish(dag_id, run_id) == end
    before = require_three_paid_and_landed(stack, dag_id, run_id, task_id)
    ran = iterations(stack, dag_id, run_id, task_id)
    assert [task["try_number"] for task in ran] == [tries] * 3

    stack.airflow.clear_instances(dag_id, run_id, [ran[1]["id"]])
    assert stack.airflow.finish(dag_id, run_id) == end
    assert iterations(stack, dag_id, run_id, task_id)[1]["id"] != ran[1]["id"]
    assert require_three_paid_and_landed(stack, dag_id, run_id, task_id) == before


@pytest.fixture(scope="module")
def accepted(stack: WholeStack) -> str:
    """The run of a loop whose first result passes the check."""
    return run(stack, DAG_ID, {"min_bytes": 1})


def test_a_loop_ends_with_the_result_that_is_accepted(stack: WholeStack, accepted: str) -> None:
    assert [task["state"] for task in iterations(stack, DAG_ID, accepted, TASK)] == ["success"]
    assert len(bills(stack, accepted)) == 1


def test_the_gallery_and_the_links_show_each_iteration(stack: WholeStack, accepted: str) -> None:
    place = f"dags/{DAG_ID}/tasks/{TASK}/-1"
    airflow = stack.airflow
    newest = airflow.get(f"/modelslab/gallery/api/{place}?run_id={accepted}").json()
    assert (newest["task"]["loop_index"], newest["task"]["iterations"]) == (0, [0])
    assert newest["single"]["outcome"] == "landed"
    assert airflow.get(f"/modelslab/gallery/api/{place}?run_id={accepted}&loop_index=1").status_code == 404
    recent = airflow.get("/modelslab/gallery/api/recent").json()["items"]
    assert {item["loop_index"] for item in recent if item["run_id"] == accepted} == {0}
    links = airflow.get(f"/modelslab/gallery/api/{place}/links?run_id={accepted}&clips=0").json()["links"]
    assert links["0"]["result"]["url"]
    named = {"dag_id": DAG_ID, "run_id": accepted, "task_id": TASK, "what": "result"}
    for index, status in ((0, 200), (1, 404)):
        query = urlencode({**named, "loop_index": index})
        assert airflow.get(f"/modelslab/media/?{query}").status_code == status
