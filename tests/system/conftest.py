"""One real Airflow for all system tests: scheduler, triggerer, Dag processor, API server, LocalExecutor."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.stack.whole import WholeStack

EXAMPLES = Path(__file__).resolve().parents[2] / "dags_examples"
OWN_DAGS = Path(__file__).parent / "dags"
BLOCKING_DAG = "modelslab_video2video_blocking"


@pytest.fixture(scope="package")
def dags_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples as they are, the main one once more with the wait on the worker, and the Dags of these tests."""
    folder = tmp_path_factory.mktemp("airflow") / "dags"
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    example = (EXAMPLES / "modelslab_video2video.py").read_text()
    for old, new in (('"modelslab_video2video"', f'"{BLOCKING_DAG}"'), ("deferrable=True", "deferrable=False")):
        assert example.count(old) == 1
        example = example.replace(old, new)
    (folder / "blocking.py").write_text(example)
    shutil.copytree(OWN_DAGS, folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return folder


# A part that was killed is noticed within half a minute. Sooner, and one that is slow on a busy machine loses tasks.
QUICK = {
    "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
    "AIRFLOW__CORE__PARALLELISM": "8",
    "AIRFLOW__SCHEDULER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "30",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "3",
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "30",
}


@pytest.fixture(scope="package")
def stack(dags_folder: Path) -> Iterator[WholeStack]:
    """Everything started, and stopped after the last test."""
    with WholeStack(dags_folder.parent, dags_folder=dags_folder, bucket="system-tests", airflow_env=QUICK) as whole:
        whole.launch()
        whole.start_s3()
        whole.start_endpoint()
        whole.airflow.start()
        connect(whole)
        yield whole


def connect(stack: WholeStack) -> None:
    """Make the connections with which the examples run."""
    stack.connect(prefix="landed", public_url=f"{stack.s3.endpoint_url}/system-tests")
