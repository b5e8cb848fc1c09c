"""The main Dags on the Airflow at hand, whichever it is, where torch is not installed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.airflow_versions import AIRFLOW
from tests.support.dag_runs import bills, content, require_success
from tools.stack.whole import LOCAL_KEY, WholeStack

pytestmark = pytest.mark.system


def test_the_main_dag_waits_in_the_triggerer_and_lands(stack: WholeStack, runs: dict[str, str]) -> None:
    dag_id = "modelslab_video2video"
    run_id = require_success(stack, dag_id, runs[dag_id])
    manifest = stack.airflow.xcom(dag_id, run_id, "restyle")
    video = content(stack, manifest["uri"])
    sidecar = json.loads(content(stack, manifest["sidecar_uri"]))
    assert hashlib.sha256(video).hexdigest() == sidecar["sha256"] == manifest["sha256"]
    used = stack.airflow.xcom(dag_id, run_id, "use")
    assert used == {"uri": manifest["uri"], "bytes": len(video), "seed": 11}
    log = stack.airflow.task_log(dag_id, run_id, "restyle")
    assert "Waiting in the triggerer" in log
    assert LOCAL_KEY not in log


def test_the_sensor_between_two_tasks(stack: WholeStack, runs: dict[str, str]) -> None:
    dag_id = "modelslab_video2video_sensor"
    run_id = require_success(stack, dag_id, runs[dag_id])
    manifests = [stack.airflow.xcom(dag_id, run_id, task) for task in ("submit", "wait", "land")]
    assert [manifest["status"] for manifest in manifests] == ["submitted", "finished", "landed"]
    assert content(stack, manifests[2]["uri"])


def test_a_batch(stack: WholeStack, runs: dict[str, str]) -> None:
    run_id = require_success(stack, "modelslab_batch", runs["modelslab_batch"])
    summary = stack.airflow.xcom("modelslab_batch", run_id, "restyle")
    assert (summary["found"], summary["landed"], summary["failed"]) == (3, 3, 0)
    used = stack.airflow.xcom("modelslab_batch", run_id, "use")
    assert used == [f"s3://{stack.bucket}/landed/batch/clip{i}.mp4" for i in range(3)]


def test_a_killed_worker_pays_once(stack: WholeStack, runs: dict[str, str]) -> None:
    run_id = runs["paid_once"]
    if AIRFLOW < (3, 2):  # it does not retry a task whose process was killed, so a person has to clear it
        assert stack.airflow.finish("paid_once", run_id) == "failed"
        stack.airflow.clear("paid_once", run_id, "clip")
    require_success(stack, "paid_once", run_id)
    assert stack.airflow.task("paid_once", run_id, "clip")["try_number"] == 2
    [bill] = bills(stack, run_id)
    manifest = stack.airflow.xcom("paid_once", run_id, "clip")
    assert manifest["job_id"] == str(bill["id"])
    assert hashlib.sha256(content(stack, manifest["uri"])).hexdigest() == manifest["sha256"]


@pytest.mark.skipif(AIRFLOW < (3, 3), reason="Airflow has retry policies since 3.3")
def test_a_rate_limit_is_waited_for_and_spends_a_retry_below_3_4_only(stack: WholeStack, runs: dict[str, str]) -> None:
    run_id = require_success(stack, "rate_limited", runs["rate_limited"])
    assert stack.airflow.task("rate_limited", run_id, "clip")["try_number"] == (1 if AIRFLOW >= (3, 4) else 2)
    assert len([job for job in bills(stack) if job["track_id"] == "rate-limited"]) == 1


@pytest.fixture
def no_scheduler(stack: WholeStack) -> Iterator[None]:
    """A scheduler would run the tasks of ``airflow dags test`` too, since both read the same database."""
    stack.airflow.kill("scheduler")
    yield
    stack.airflow.add("scheduler")


@pytest.mark.usefixtures("no_scheduler")
def test_a_dag_that_is_tried_in_one_process_pays_once(stack: WholeStack, runs: dict[str, str]) -> None:
    """``airflow dags test`` runs the trigger itself, with a supervisor that cannot do all that Airflow's does."""
    dag_id = "modelslab_video2video"
    command = [sys.executable, "-m", "airflow", "dags", "test", dag_id]
    done = subprocess.run(command, env=stack.airflow.env, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "execute_complete() missing" not in done.stdout + done.stderr  # Airflow 3.1 to 3.3 lose arguments
    assert "could not be read" not in done.stdout + done.stderr  # Airflow 3.3.2 and later find no connection
    paid = [job["track_id"] for job in bills(stack) if job["track_id"].startswith(f"{dag_id}.restyle/")]
    assert len([name for name in paid if f"/{runs[dag_id]}/" not in name]) == 1
