"""Who may import whom, and what parsing a Dag pays for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab import get_provider_info

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "av",
    "boto3",
    "aiohttp",
    "fastapi",
    "numpy",
    "PIL",
)


def test_the_import_rules_of_pyproject_hold() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def loaded_by(program: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after a program."""
    program += "\nimport sys; print('loaded:', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("loaded:")[2].split())


@pytest.fixture(scope="module")
def loaded_by_airflow_alone() -> set[str]:
    return loaded_by("import airflow.sdk, airflow.triggers.base, airflow.providers.common.compat.sdk")


def test_the_probe_sees_what_is_loaded() -> None:
    assert "aiohttp" in loaded_by("import airflow_provider_modelslab.client.aio")


def test_hooks_operators_sensors_and_triggers_load_nothing_heavy(loaded_by_airflow_alone: set[str]) -> None:
    info: dict[str, Any] = get_provider_info()
    entries = [entry for part in ("hooks", "operators", "sensors", "triggers") for entry in info[part]]
    loaded = loaded_by("\n".join(f"import {module}" for entry in entries for module in entry["python-modules"]))
    assert "airflow_provider_modelslab" in loaded
    assert loaded & set(HEAVY) <= loaded_by_airflow_alone
    assert not loaded & {"torch", "diffusers", "transformers", "peft", "accelerate", "av", "boto3"}


def test_making_an_operator_loads_nothing_heavy() -> None:
    loaded = loaded_by(
        "from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator as Operator\n"
        "Operator(task_id='t', model_id='m', prompt='p', init_video='s3://bucket/in.mp4', destination='s3://bucket/')"
    )
    assert not loaded & {"torch", "diffusers", "av", "boto3", "aiohttp"}
