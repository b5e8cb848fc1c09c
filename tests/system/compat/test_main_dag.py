"""The main Dags on the Airflow at hand, whichever it is, where torch is not installed; ``tools/compat/run.sh`` runs it.

The endpoint answers with the echo engine: what is tested is Airflow's part, not the video.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.dag_runs import bills, content, run
from tests.support.samples import small_mp4
from tools.stack.whole import LOCAL_KEY, WholeStack

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        os.environ.get("MODELSLAB_TEST_COMPAT") != "1",
        reason="tools/compat/run.sh runs it on other versions; test_examples.py does on this one",
    ),
]

EXAMPLES = Path(__file__).resolve().parents[3] / "dags_examples"
DAGS = (
    "modelslab_video2video.py",
    "modelslab_video2video_sensor.py",
    "modelslab_batch.py",
    "modelslab_loop.py",
    "media",
)
BUCKET = "compat-tests"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeStack]:
    """S3, the endpoint and Airflow with three example Dags."""
    folder = tmp_path_factory.mktemp("compat")
    for name in DAGS:
        copy = shutil.copytree if (EXAMPLES / name).is_dir() else shutil.copy
        (folder / "dags").mkdir(exist_ok=True)
        copy(EXAMPLES / name, folder / "dags" / name)
    # No job is done before its submit is answered, so that tasks defer themselves.
    echo = ("--engine", "echo", "--echo-seconds", "0.5", "--admin")
    whole = WholeStack(folder, dags_folder=folder / "dags", bucket=BUCKET, endpoint_arguments=echo)
    with whole:
        whole.start(prefix="landed")
        yield whole


def test_the_main_dag_waits_in_the_triggerer_and_lands(stack: WholeStack) -> None:
    run_id = run(stack, "modelslab_video2video", {"seed": 11})
    manifest = stack.airflow.xcom("modelslab_video2video", run_id, "restyle")
    video = content(stack, manifest["uri"])
    sidecar = json.loads(content(stack, manifest["sidecar_uri"]))
    assert hashlib.sha256(video).hexdigest() == sidecar["sha256"] == manifest["sha256"]
    used = stack.airflow.xcom("modelslab_video2video", run_id, "use")
    assert used == {"uri": manifest["uri"], "bytes": len(video), "seed": 11}
    log = stack.airflow.task_log("modelslab_video2video", run_id, "restyle")
    assert "Waiting in the triggerer" in log
    assert LOCAL_KEY not in log


def test_the_sensor_between_two_tasks(stack: WholeStack) -> None:
    run_id = run(stack, "modelslab_video2video_sensor", {})
    tasks = ("submit", "wait", "land")
    told = [stack.airflow.xcom("modelslab_video2video_sensor", run_id, task) for task in tasks]
    assert [m["status"] for m in told] == ["submitted", "finished", "landed"]
    assert content(stack, told[2]["uri"])


def test_a_batch(stack: WholeStack) -> None:
    for number in range(3):
        stack.s3.client().put_object(Bucket=BUCKET, Key=f"in/clip{number}.mp4", Body=small_mp4())
    conf = {"source": f"s3://{BUCKET}/in/", "destination": "batch/"}
    run_id = run(stack, "modelslab_batch", conf)
    summary = stack.airflow.xcom("modelslab_batch", run_id, "restyle")
    assert (summary["found"], summary["landed"], summary["failed"]) == (3, 3, 0)
    used = stack.airflow.xcom("modelslab_batch", run_id, "use")
    assert used == [f"s3://{BUCKET}/landed/batch/clip{i}.mp4" for i in range(3)]


def test_a_dag_that_is_tried_in_one_process_pays_once(stack: WholeStack) -> None:
    """``airflow dags test`` runs the trigger itself; Airflow 3.1 to 3.3 then lose the arguments of the deferral."""
    dag_id = "modelslab_video2video"
    stack.airflow.wait_for_dag(dag_id)
    before = len(bills(stack))
    command = [sys.executable, "-m", "airflow", "dags", "test", dag_id]
    done = subprocess.run(command, env=stack.airflow.env, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "execute_complete() missing" not in done.stdout + done.stderr
    assert len(bills(stack)) == before + 1
