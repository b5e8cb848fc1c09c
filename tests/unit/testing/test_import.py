"""What pytest pays for the plugin, and who gets it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

HEAVY = {"airflow", "boto3", "botocore", "moto", "flask", "trustme", "fastapi", "av", "numpy", "PIL", "torch"}


def test_heavy_packages_are_imported_by_the_fixtures_that_need_them() -> None:
    text = f"import airflow_provider_modelslab.testing, sys; print(*{HEAVY!r}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_other_pytest_run_loads_the_plugin() -> None:
    assert [point for point in entry_points(group="pytest11") if "modelslab" in point.value] == []
