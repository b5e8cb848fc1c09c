"""What the tests of executors on more than one machine share: the pools of the example Dag, and its two videos."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import av

from tests.support.dag_runs import content, require_success, start
from tools.stack.whole import WholeStack

__all__ = ["PATIENCE", "lines_about", "run_gpu_pool", "started"]

Stack = TypeVar("Stack", bound=WholeStack)

DAG_ID = "modelslab_gpu_pool"
SMALL = {"model_id": "tiny", "width": 64, "height": 64, "num_frames": 4, "num_inference_steps": 2}
# As in docs/howto/executors.md and in the example.
POOLS = (
    ("gpus", "1", "one slot for each GPU"),
    ("--include-deferred", "modelslab", "5", "jobs that the account may have in its queue"),
)
# A task whose worker is gone is given to another one within a minute, not within five; a wait lasts as long as usual.
PATIENCE = {
    "AIRFLOW__MODELSLAB__MIN_DEFERRAL": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
}


@contextmanager
def started(stack: Stack) -> Iterator[Stack]:
    """Everything started, with the pools of the example, and stopped at the end."""
    with stack:
        stack.start(prefix="landed")
        _add_pools(stack)
        yield stack


def _add_pools(stack: WholeStack) -> None:
    """Make the pools of the example with the commands of the documentation."""
    for pool in POOLS:
        subprocess.run(
            [sys.executable, "-m", "airflow", "pools", "set", *pool],
            env=stack.airflow.env,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    pools = {p["name"]: (p["slots"], p["include_deferred"]) for p in stack.airflow.call("GET", "pools")["pools"]}
    assert pools == {"default_pool": (128, False), "gpus": (1, False), "modelslab": (5, True)}


def run_gpu_pool(stack: WholeStack) -> str:
    """Run the example Dag, whose two videos have to be in S3, whole and decodable; the run's id."""
    run_id = start(stack, DAG_ID, SMALL)
    require_success(stack, DAG_ID, run_id)
    tasks = {task["task_id"]: task for task in stack.airflow.tasks(DAG_ID, run_id)}
    assert {name: (task["queue"], task["pool"]) for name, task in tasks.items()} == {
        "own_gpu": ("gpu", "gpus"),
        "endpoint": ("default", "modelslab"),
    }
    log = stack.airflow.task_log(DAG_ID, run_id, "endpoint")
    assert "Waiting in the triggerer" in log
    assert "Waiting for job" in log
    for name in tasks:
        manifest = stack.airflow.xcom(DAG_ID, run_id, name)
        assert manifest["uri"].startswith(f"s3://{stack.bucket}/landed/{name}/")
        video = content(stack, manifest["uri"])
        assert hashlib.sha256(video).hexdigest() == manifest["sha256"]
        with av.open(io.BytesIO(video), "r") as container:
            assert [(frame.width, frame.height) for frame in container.decode(video=0)] == [(64, 64)] * 4
    return run_id


def lines_about(stack: WholeStack, worker: str, run_id: str, event: str) -> list[str]:
    """The lines of a worker's log with this event and this run: one for each task process that it was given."""
    lines = (stack.airflow.home / f"{worker}.log").read_text(errors="replace").splitlines()
    return [line for line in lines if event in line and run_id in line]
