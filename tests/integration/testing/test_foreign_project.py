"""A project of somebody else, which knows the package as it is installed, tests its Dag with the fixtures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # the documentation's page "Test your own Dags" is such a project too, and runs always

ROOT = Path(__file__).resolve().parents[3]

# It imports from the plugin before pytest loads it, and has a fixture on top of one of the plugin's.
CONFTEST = """
import pytest
from airflow_provider_modelslab.testing import Bucket, small_mp4

pytest_plugins = ["airflow_provider_modelslab.testing"]

@pytest.fixture
def folder(modelslab_bucket: Bucket) -> str:
    for number in range(3):
        modelslab_bucket.put(f"in/{number}.mp4", small_mp4(frames=2 + number))
    return modelslab_bucket.uri("in/")
"""

DAG = """
from airflow.sdk import DAG, task
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

with DAG("night", schedule=None, params={"folder": "s3://nowhere/"}, render_template_as_native_obj=True) as dag:
    clips = ModelsLabPlanClipsOperator(task_id="clips", source="{{ params.folder }}", destination="out/{{ ds }}/")
    restyled = ModelsLabVideo2VideoOperator.partial(
        task_id="restyle", prompt="a poster", model_id="dark-sushi-mix", num_frames=2, deferrable=True, retries=1
    ).expand_kwargs(clips.output)

    @task
    def total(videos):
        return sum(video["bytes"] for video in videos)

    total(restyled.output)
"""

TESTS = """
import pytest
from airflow_provider_modelslab.testing import Bucket, DagRunner, ServedEndpoint
from night import dag

def test_all_clips(modelslab_dag_runner: DagRunner, modelslab_bucket: Bucket, modelslab_endpoint, folder) -> None:
    run = modelslab_dag_runner.run(dag, conf={"folder": folder})
    assert run.state == "success"
    videos = run.results("restyle")
    assert [task.deferrals for task in run.tasks if task.task_id == "restyle"] == [1, 1, 1]
    assert run.result("total") == sum(len(modelslab_bucket.read(video["uri"])) for video in videos)
    assert len(modelslab_endpoint.bills()) == 3

def test_no_payment_twice(modelslab_dag_runner: DagRunner, modelslab_endpoint: ServedEndpoint, folder) -> None:
    modelslab_endpoint.inject("reset_after")
    first = modelslab_dag_runner.run(dag, conf={"folder": folder})
    assert modelslab_endpoint.faults_acted() == {"reset_after": 1}
    assert [task.state for task in first.tasks] == ["success", "failed", "success", "success", "upstream_failed"]
    paid = modelslab_endpoint.bills()
    assert [bill.faults for bill in paid] == [("reset_after",), (), ()]
    again = modelslab_dag_runner.run(dag, conf={"folder": folder}, run_id=first.run_id, logical_date=first.logical_date)
    assert [task.state for task in again.tasks] == [task.state for task in first.tasks]
    assert modelslab_endpoint.bills() == paid

def test_each_test_has_an_endpoint_of_its_own(modelslab_endpoint: ServedEndpoint) -> None:
    assert modelslab_endpoint.bills() == []
"""

WRONG = """
def test_a_wrong_bill(modelslab_endpoint) -> None:
    assert len(modelslab_endpoint.bills()) == 1

def test_no_such_fault(modelslab_endpoint) -> None:
    modelslab_endpoint.inject("no_such_fault")
"""


def pytest_in(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the project's tests as its author does; a warning of pytest's about the plugin is an error."""
    command = [sys.executable, "-W", "error::pytest.PytestWarning", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--rootdir", str(folder)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "AIRFLOW_HOME": str(folder / "airflow")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    for name, text in {"conftest": CONFTEST, "night": DAG, "test_night": TESTS, "test_wrong": WRONG}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_the_tests_of_a_foreign_project_pass_where_they_are_right(project: Path) -> None:
    done = pytest_in(project)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "2 failed, 3 passed" in done.stdout
    assert {line.split(" ")[1] for line in done.stdout.splitlines() if line.startswith("FAILED")} == {
        "test_wrong.py::test_a_wrong_bill",
        "test_wrong.py::test_no_such_fault",
    }
