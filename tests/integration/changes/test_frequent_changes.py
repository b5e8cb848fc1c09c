"""The five frequent changes of ``CONTRIBUTING.md``: each still applies to the repository, and its tests pass."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.house.frequent_changes import FrequentChange, frequent_changes

ROOT = Path(__file__).resolve().parents[3]
COPIED = (
    *("airflow_provider_modelslab", "benchmarks", "dags_examples", "docs", "tests", "tools", ".github"),
    *("pyproject.toml", "Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "AGENTS.md", "SECURITY.md"),
)
pytestmark = pytest.mark.slow


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository without its history and what was built."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "_build"))
        else:
            shutil.copy2(ROOT / name, tmp_path / name)
    return tmp_path


def apply(copy: Path, change: FrequentChange, *options: str) -> None:
    """Make the change; one that the repository has is taken out first."""
    new = [line.removeprefix("+++ b/") for line in _new_files(change)]
    if any((copy / name).exists() for name in new):
        _git_apply(copy, change, "--reverse")
    _git_apply(copy, change, *options)


def _new_files(change: FrequentChange) -> list[str]:
    lines = change.patch.read_text().splitlines()
    return [following for line, following in itertools.pairwise(lines) if line == "--- /dev/null"]


def _git_apply(copy: Path, change: FrequentChange, *options: str) -> None:
    command = ["git", "apply", *options, str(change.patch)]
    subprocess.run(command, cwd=copy, check=True)


def passes(copy: Path, tests: list[str]) -> bool:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")}
    found = subprocess.run(command, cwd=copy, env={**environment, "PYTHONPATH": str(copy)}, check=False)
    return found.returncode == 0


@pytest.mark.parametrize("change", frequent_changes(), ids=lambda change: change.name)
def test_it_applies_and_its_tests_pass(copy: Path, change: FrequentChange) -> None:
    apply(copy, change)
    assert passes(copy, change.tests)


@pytest.mark.parametrize("change", frequent_changes(), ids=lambda change: change.name)
def test_its_tests_fail_without_it(copy: Path, change: FrequentChange) -> None:
    apply(copy, change, "--include=tests/*")
    assert not passes(copy, [test for test in change.tests if test in change.files])
