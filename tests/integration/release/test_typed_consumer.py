"""``py.typed`` keeps its promise: mypy checks a user's Dag against the wheel, with no plugin and no settings."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tools.release.dist import Distributions

pytestmark = pytest.mark.slow

GOOD = """
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor
from airflow_provider_modelslab.testing import Bucket, DagRunner, ServedEndpoint

request = Video2VideoRequest(model_id="m", prompt="a fox", init_video="https://example.com/a.mp4", seed=3)
seed: int | None = request.seed
body: dict[str, object] = request.wire()
ModelsLabVideo2VideoOperator(task_id="a", model_id="m", prompt="p", init_video="u", seed="{{ params.seed }}")
ModelsLabVideo2VideoSensor(task_id="b", job="7", deferrable=True)
ModelsLabHook(modelslab_conn_id="mine")

def test_a_dag(modelslab_dag_runner: DagRunner, modelslab_endpoint: ServedEndpoint, modelslab_bucket: Bucket) -> None:
    modelslab_endpoint.inject("late_links", seconds=1)
    run = modelslab_dag_runner.run(ModelsLabVideo2VideoSensor(task_id="c", job="7"), conf={"clip": "a.mp4"})
    video: bytes = modelslab_bucket.read(run.result("c")["uri"])
    paid: list[int] = [bill.job_id for bill in modelslab_endpoint.bills()]
"""

# Each line with the code of the one error that mypy is to find in it.
WRONG = """
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.testing import DagRunner

request = Video2VideoRequest(model_id="m", prompt="a fox", init_video="https://example.com/a.mp4")
Video2VideoRequest(model_id="m", prompt=3, init_video="https://example.com/a.mp4")  # arg-type
Video2VideoRequest(model_id="m", prompt="a fox")  # call-arg
Video2VideoRequest(model_id="m", prompt="a fox", init_video="u", output_type="avi")  # arg-type
Video2VideoRequest(model_id="m", prompt="a fox", init_video="u", sead=1)  # call-arg
request.seed = 4  # misc
name: str = request.seed  # assignment
ModelsLabVideo2VideoOperator(task_id="a", model_id="m", prompt="p", init_video="u", deferrable="yes")  # arg-type
ModelsLabHook(modelslab_conn_id=7)  # arg-type
DagRunner().run("restyle")  # arg-type
"""


@pytest.fixture(scope="module")
def python(distributions: Distributions, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has the wheel of its own, and what it requires from this environment."""
    folder = tmp_path_factory.mktemp("consumer") / "venv"
    venv.create(folder)
    [site] = folder.glob("lib/python*/site-packages")
    command = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", str(site)]
    subprocess.run([*command, str(distributions.wheel)], check=True, capture_output=True)
    # Folders named in a .pth are searched, but their own .pth files are not read: the editable install stays unseen.
    (site / "requirements.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "bin" / "python"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests of this file, since the first run reads all of Airflow's types."""
    return tmp_path_factory.mktemp("mypy-cache")


def mypy(text: str, python: Path, cache: Path, folder: Path) -> list[tuple[int, str]]:
    """The lines and the codes of all errors."""
    (folder / "consumer.py").write_text(text)
    # In a folder of its own: from the root of the repository, mypy would take the sources instead of the wheel.
    settings = ("--strict", "--config-file=", "--no-pretty", "--no-color-output")
    places = ("--python-executable", str(python), "--cache-dir", str(cache))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *settings, *places, "consumer.py"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},  # it may name the sources
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    assert "airflow_provider_modelslab/" not in done.stdout, done.stdout
    found = re.findall(r"^consumer\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    return [(int(line), code) for line, code in found]


def test_right_uses_pass(python: Path, cache: Path, tmp_path: Path) -> None:
    assert mypy(GOOD, python, cache, tmp_path) == []


def test_wrong_uses_are_found(python: Path, cache: Path, tmp_path: Path) -> None:
    lines = enumerate(WRONG.splitlines(), start=1)
    expected = [(number, line.rpartition("# ")[2]) for number, line in lines if "  # " in line]
    assert mypy(WRONG, python, cache, tmp_path) == expected


def test_without_py_typed_nothing_would_be_checked(python: Path, cache: Path, tmp_path: Path) -> None:
    # The control: it is the wheel's marker, and not this repository, that the other tests rest on.
    [marker] = python.parents[1].glob("lib/python*/site-packages/airflow_provider_modelslab/py.typed")
    marker.rename(marker.with_suffix(".away"))
    try:
        found = mypy(GOOD, python, tmp_path / "cache", tmp_path)
    finally:
        marker.with_suffix(".away").rename(marker)
    assert {code for _, code in found} >= {"import-untyped"}
