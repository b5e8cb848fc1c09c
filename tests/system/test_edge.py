"""Beyond one machine: EdgeExecutor, whose workers only call the API server, and workers that are lost."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dag_runs import content, require_success, start
from tests.support.samples import small_mp4
from tests.system.conftest import QUICK
from tests.system.executors import PATIENCE, lines_about, run_gpu_pool, started
from tests.system.paid_once import LANDED, Batch, Clip, EchoEndpoint, connected_echo
from tools.stack.edge import EdgeStack, missing

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(2400),  # several real waits, of which each may take minutes on a busy machine
    pytest.mark.skipif(
        os.environ.get("MODELSLAB_TEST_EDGE") != "1", reason="needs MODELSLAB_TEST_EDGE=1, see `make edge`"
    ),
    pytest.mark.skipif(bool(missing()), reason=f"not installed: {', '.join(missing())}; see `make edge`"),
]

BUCKET = "edge-tests"
CLIPS = 3
SMALL = {"model_id": "tiny", "num_frames": 4, "num_inference_steps": 2}


@pytest.fixture(scope="module")
def edge(dags_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EdgeStack]:
    folder = tmp_path_factory.mktemp("edge")
    with started(EdgeStack(folder, dags_folder=dags_folder, bucket=BUCKET, airflow_env=QUICK | PATIENCE)) as made:
        yield made


@pytest.fixture(scope="module")
def echo(edge: EdgeStack) -> Iterator[EchoEndpoint]:
    with connected_echo(edge) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def source(edge: EdgeStack) -> str:
    """The clips of a batch."""
    for number in range(CLIPS):
        edge.s3.client().put_object(Bucket=BUCKET, Key=f"in/clip{number}.mp4", Body=small_mp4())
    return f"s3://{BUCKET}/in/"


def received(stack: EdgeStack, worker: str, run_id: str) -> list[str]:
    """The lines of a worker's log about the tasks that it was given of this run."""
    return lines_about(stack, worker, run_id, "Received job")


def test_each_task_runs_on_the_worker_of_its_queue_and_lands(edge: EdgeStack, source: str) -> None:
    clip = start(edge, "modelslab_video2video", SMALL | {"width": 64, "height": 64})
    batch = start(
        edge, "modelslab_batch", SMALL | {"width": 64, "height": 64, "source": source, "destination": "batch/"}
    )
    pool = run_gpu_pool(edge)
    require_success(edge, "modelslab_video2video", clip)
    require_success(edge, "modelslab_batch", batch)

    on_gpu, on_default = (received(edge, worker, pool) for worker in ("worker-gpu", "worker-default"))
    assert len(on_gpu) == 1
    assert "task_id=own_gpu" in on_gpu[0]
    # Once to submit and once to land: in between it was in the triggerer, and no worker had it.
    assert len(on_default) == 2
    assert all("task_id=endpoint" in line for line in on_default)
    assert received(edge, "worker-gpu", clip) == received(edge, "worker-gpu", batch) == []
    # What runs after a clip has landed sees it in S3.
    used = edge.airflow.xcom("modelslab_video2video", clip, "use")
    assert used["bytes"] == len(content(edge, used["uri"]))
    landed = edge.airflow.xcom("modelslab_batch", batch, "use")
    assert landed == [f"s3://{BUCKET}/landed/batch/clip{number}.mp4" for number in range(CLIPS)]


def test_what_a_lost_worker_had_is_landed_by_another_and_was_paid_for_once(
    edge: EdgeStack, echo: EchoEndpoint, source: str
) -> None:
    for dag_id in ("paid_once", "paid_once_batch"):
        edge.airflow.wait_for_dag(dag_id)
    # One of each waits in the triggerer, one is landing: all bytes of a clip are there, and it is not in S3 yet.
    waits = Clip.start(edge, echo, "waits", held=True)
    batch_waits = Batch.start(edge, echo, "batch waits", held=True, source=source)
    lands = Clip.start(edge, echo, "lands", die_at="while landing", how="wait")
    batch_lands = Batch.start(edge, echo, "batch lands", die_at="while landing", how="wait", source=source)
    waits.wait_for_log("Waiting for job")
    batch_waits.wait_for_log(f"Waiting for {CLIPS} of {CLIPS} jobs")
    for clip in (lands, batch_lands):
        clip.wait_for_marker()
    for clip in (waits, batch_waits):
        clip.wait_for("deferred")

    edge.airflow.lose("worker-default")
    echo.release()
    edge.add_worker("default", "another-worker")

    for clip in (waits, lands):
        clip.require_landed(*LANDED)
    for batch in (batch_waits, batch_lands):
        batch.require_all_landed(CLIPS)
    for clip, tries in ((waits, 1), (batch_waits, 1), (lands, 2), (batch_lands, 2)):
        assert clip.task["try_number"] == tries  # the lost worker did not have those that waited
        # Edge also hands out the try that was lost, and the API server refuses to start it.
        assert any(line.count(f"try_number={tries}") for line in received(edge, "another-worker", clip.run_id))
    assert "Continuing with job" in lands.log
    assert len(echo.bills()) == 2 + 2 * CLIPS


def test_a_task_outlives_its_worker(edge: EdgeStack, echo: EchoEndpoint) -> None:
    edge.wait_for_worker("another-worker")
    clip = Clip.start(edge, echo, "outlives", die_at="while landing", how="wait")
    clip.wait_for_marker()
    edge.airflow.kill("another-worker")  # and nothing below it
    clip.go()
    clip.require_landed(*LANDED)
    assert clip.task["try_number"] == 1
