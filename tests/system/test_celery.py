"""Beyond one machine: CeleryExecutor with Redis and PostgreSQL, a worker for each queue, and a worker that is lost."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from airflow_provider_modelslab.storage.uri import S3Uri
from tests.system.conftest import QUICK
from tests.system.paid_once import Clip, EchoEndpoint
from tools.stack.celery import CeleryStack, missing

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        os.environ.get("MODELSLAB_TEST_CELERY") != "1", reason="needs MODELSLAB_TEST_CELERY=1, see `make celery`"
    ),
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}; see `make celery`"),
]

DAG_ID = "modelslab_gpu_pool"
SMALL = {"model_id": "tiny", "size": 64, "num_frames": 4, "num_inference_steps": 2}
# As in docs/howto/executors.md and in the example.
POOLS = (
    ("gpus", "1", "one slot for each GPU"),
    ("--include-deferred", "modelslab", "5", "jobs that the account may have in its queue"),
)
LANDED = ("0001-claim", "0001-job", "0001-landed")
# A task whose worker is gone is given to another one within half a minute, not within five.
PATIENCE = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
}


@pytest.fixture(scope="module")
def celery(dags_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryStack]:
    """Everything started, with the pools of the example, and stopped after the last test."""
    folder = tmp_path_factory.mktemp("celery")
    with CeleryStack(folder, dags_folder=dags_folder, bucket="celery-tests", airflow_env=QUICK | PATIENCE) as stack:
        stack.start(prefix="landed")
        for pool in POOLS:
            subprocess.run(
                [sys.executable, "-m", "airflow", "pools", "set", *pool],
                env=stack.airflow.env,
                stdout=subprocess.DEVNULL,
                check=True,
            )
        yield stack


@pytest.fixture(scope="module")
def echo(celery: CeleryStack) -> Iterator[EchoEndpoint]:
    """The endpoint that keeps bills."""
    endpoint = EchoEndpoint(celery.folder / "echo")
    endpoint.connect(celery)
    yield endpoint
    endpoint.stop()


def executed(stack: CeleryStack, worker: str, run_id: str) -> list[str]:
    """The lines of a worker's log about the tasks that it was given of this run."""
    lines = (stack.airflow.home / f"{worker}.log").read_text(errors="replace").splitlines()
    return [line for line in lines if "Executing workload in Celery" in line and run_id in line]


def test_each_task_runs_on_the_worker_of_its_queue_and_lands(celery: CeleryStack) -> None:
    airflow = celery.airflow
    airflow.wait_for_dag(DAG_ID)
    pools = {pool["name"]: (pool["slots"], pool["include_deferred"]) for pool in airflow.call("GET", "pools")["pools"]}
    assert pools == {"default_pool": (128, False), "gpus": (1, False), "modelslab": (5, True)}
    run_id = airflow.trigger(DAG_ID, SMALL)
    state = airflow.finish(DAG_ID, run_id)
    logs = {task: airflow.task_log(DAG_ID, run_id, task) for task in ("own_gpu", "endpoint")}
    assert state == "success", "\n".join(log[-4000:] for log in logs.values())

    tasks = {task["task_id"]: task for task in airflow.tasks(DAG_ID, run_id)}
    assert {name: (task["queue"], task["pool"]) for name, task in tasks.items()} == {
        "own_gpu": ("gpu", "gpus"),
        "endpoint": ("default", "modelslab"),
    }
    on_gpu, on_default = (executed(celery, worker, run_id) for worker in ("worker-gpu", "worker-default"))
    assert len(on_gpu) == 1
    assert "task_id='own_gpu'" in on_gpu[0]
    # Once to submit and once to land: in between it was in the triggerer, and no worker had it.
    assert len(on_default) == 2
    assert all("task_id='endpoint'" in line for line in on_default)
    assert "Waiting in the triggerer" in logs["endpoint"]
    assert "Waiting for job" in logs["endpoint"]

    for name in tasks:
        manifest = airflow.xcom(DAG_ID, run_id, name)
        place = S3Uri.parse(manifest["uri"])
        assert place.key.startswith(f"landed/{name}/")
        video = celery.s3.client().get_object(Bucket=place.bucket, Key=place.key)["Body"].read()
        assert hashlib.sha256(video).hexdigest() == manifest["sha256"]
        with av.open(io.BytesIO(video), "r") as container:
            assert [(frame.width, frame.height) for frame in container.decode(video=0)] == [(64, 64)] * 4


def test_what_a_lost_worker_had_is_landed_by_another_and_was_paid_for_once(
    celery: CeleryStack, echo: EchoEndpoint
) -> None:
    airflow = celery.airflow
    airflow.wait_for_dag("paid_once")
    # One waits for its job in the triggerer, one is landing: all bytes are there, and nothing is in S3 yet.
    waits = Clip.start(celery, echo, "waits", held=True)
    lands = Clip.start(celery, echo, "lands", die_at="while landing", how="wait")
    waits.wait_for_log("Waiting for job")
    lands.wait_for_marker()
    waits.wait_for("deferred")
    assert waits.task["triggerer_job"] is not None
    assert len(executed(celery, "worker-default", waits.run_id)) == 1

    airflow.lose("worker-default")
    echo.release()
    celery.add_worker("default", "another-worker")

    waits.require_landed(*LANDED)
    lands.require_landed(*LANDED)
    assert waits.task["try_number"] == 1  # the lost worker did not have it
    assert lands.task["try_number"] == 2
    assert "Going on with job" in lands.log
    for clip in (waits, lands):
        assert len(executed(celery, "another-worker", clip.run_id)) == 1
    assert len(echo.bills()) == 2
