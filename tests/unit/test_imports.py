"""Who may import whom, and what parsing a Dag pays for."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.parse import HEAVY, Program, find_programs

ROOT = Path(__file__).resolve().parents[2]

PROGRAMS = {program.name: program for program in find_programs()}
AIRFLOW_LOADS = ("package", "links", "cli", "plugins")
"""What Airflow's own processes load of the provider, whether a Dag uses it or not."""
DAGS_LOAD = ("operators", "sensors", "decorators", "example Dag")

LATE = (
    *("client", "endpoint", "triggers", "plugins", "cli", "hooks.modelslab", "local.engine"),
    *(
        "batch.planning.plan",
        "batch.running.runner",
        "jobs.paid_job",
        "jobs.task_ledger",
        "ledger.service",
        "ledger.stores",
        "storage.inputs",
    ),
)
"""Our modules that only a running task, a triggerer or another process needs."""

# As the Dag processor does: Airflow is imported once, and each file is loaded in a fork. What a program prints is lost.
PROBE = """
import airflow.sdk, json, os, sys
known = set(sys.modules)
for name, text in json.load(sys.stdin).items():
    if os.fork() == 0:
        exec(compile(text, name, "exec"), {"__name__": name})
        print("\\n" + json.dumps([name, sorted(set(sys.modules) - known)]), flush=True)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(f"{name} cannot be loaded")
"""


def loaded_by(programs: dict[str, str]) -> dict[str, set[str]]:
    """For each program, the modules that it loads where ``airflow.sdk`` is loaded already."""
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning:multiprocessing", "-c", PROBE]
    done = subprocess.run(command, cwd=ROOT, input=json.dumps(programs), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
    return {name: set(modules) for name, modules in answers}


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[str]]:
    return loaded_by({name: program.text for name, program in PROGRAMS.items()})


def of_kind(*kinds: str) -> list[Program]:
    return [program for program in PROGRAMS.values() if program.kind in kinds]


def test_the_import_rules_of_pyproject_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_probe_sees_what_is_loaded_by_whom() -> None:
    name = "airflow_provider_modelslab.client.async_client"
    seen = loaded_by({"heavy": f"import {name}", "light": "import airflow_provider_modelslab.api.errors"})
    assert {"aiohttp", name} <= seen["heavy"]
    assert "airflow_provider_modelslab.api.errors" in seen["light"]
    assert not seen["light"] & {"aiohttp", name}


def test_everything_that_a_dag_may_use_is_looked_at() -> None:
    kinds = {program.kind for program in PROGRAMS.values()}
    assert set(DAGS_LOAD) - {"decorators"} <= kinds
    assert "airflow_provider_modelslab.operators.video2video" in PROGRAMS
    assert "dags_examples/modelslab_video2video.py" in PROGRAMS
    for name in LATE:
        assert find_spec(f"airflow_provider_modelslab.{name}"), f"{name} was renamed"


@pytest.mark.parametrize("program", of_kind(*DAGS_LOAD), ids=lambda program: str(program.name))
def test_parsing_a_dag_loads_nothing_heavy_and_nothing_that_runs(program: Program, loaded: dict[str, set[str]]) -> None:
    modules = loaded[program.name]
    if program.kind != "example Dag":  # one that only follows an asset needs nothing of ours
        assert any(name.startswith("airflow_provider_modelslab") for name in modules)
    assert modules & set(HEAVY) == set()
    late = {f"airflow_provider_modelslab.{name}" for name in LATE}
    assert modules & late == set()


@pytest.mark.parametrize("program", of_kind(*AIRFLOW_LOADS), ids=lambda program: str(program.name))
def test_what_every_airflow_process_loads_is_light(program: Program, loaded: dict[str, set[str]]) -> None:
    assert loaded[program.name] & set(HEAVY) == set()


def test_making_an_operator_loads_nothing_heavy() -> None:
    made = loaded_by(
        {
            "made": "from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator as Op\n"
            "Op(task_id='t', model_id='m', prompt='p', init_video='s3://bucket/in.mp4', destination='s3://bucket/')"
        }
    )
    assert "airflow_provider_modelslab.operators.video2video" in made["made"]
    assert made["made"] & set(HEAVY) == set()
