"""Beyond one machine: CeleryExecutor with Redis and PostgreSQL, a worker for each queue, and a worker that is lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.conftest import QUICK
from tests.system.executors import PATIENCE, lines_about, run_gpu_pool, started
from tests.system.paid_once import LANDED, Clip, EchoEndpoint, connected_echo
from tools.stack.celery import CeleryStack, missing

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(2400),  # several real waits, of which each may take minutes on a busy machine
    pytest.mark.skipif(
        os.environ.get("MODELSLAB_TEST_CELERY") != "1", reason="needs MODELSLAB_TEST_CELERY=1, see `make celery`"
    ),
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}; see `make celery`"),
]


@pytest.fixture(scope="module")
def celery(dags_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CeleryStack]:
    folder = tmp_path_factory.mktemp("celery")
    with started(
        CeleryStack(folder, dags_folder=dags_folder, bucket="celery-tests", airflow_env=QUICK | PATIENCE)
    ) as made:
        yield made


@pytest.fixture(scope="module")
def echo(celery: CeleryStack) -> Iterator[EchoEndpoint]:
    with connected_echo(celery) as endpoint:
        yield endpoint


def executed(stack: CeleryStack, worker: str, run_id: str) -> list[str]:
    """The lines of a worker's log about the tasks that it was given of this run."""
    return lines_about(stack, worker, run_id, "Executing workload in Celery")


def test_each_task_runs_on_the_worker_of_its_queue_and_lands(celery: CeleryStack) -> None:
    run_id = run_gpu_pool(celery)
    on_gpu, on_default = (executed(celery, worker, run_id) for worker in ("worker-gpu", "worker-default"))
    assert len(on_gpu) == 1
    assert "task_id='own_gpu'" in on_gpu[0]
    # Once to submit and once to land: in between it was in the triggerer, and no worker had it.
    assert len(on_default) == 2
    assert all("task_id='endpoint'" in line for line in on_default)


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
    assert "Continuing with job" in lands.log
    for clip in (waits, lands):
        assert len(executed(celery, "another-worker", clip.run_id)) == 1
    assert len(echo.bills()) == 2
