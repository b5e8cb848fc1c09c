"""The steps that spend money, and the landing, are each called from one module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import airflow_provider_modelslab

PACKAGE = Path(airflow_provider_modelslab.__file__).parent


def callers(method: str, receiver: str) -> set[str]:
    """The modules with a call ``...receiver.method(...)``."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == method:
                name = ast.unparse(node.func.value).removesuffix("()")
                if name.rpartition(".")[2].endswith(receiver):
                    found.add(file.relative_to(PACKAGE).as_posix())
    return found


@pytest.mark.parametrize(
    ("method", "receiver", "modules"),
    [
        ("claim", "ledger", {"jobs/paid_job.py"}),
        ("record", "ledger", {"jobs/paid_job.py"}),
        ("record_error", "ledger", {"jobs/paid_job.py"}),
        ("submit", "hook", {"jobs/paid_job.py"}),
        ("submit", "get_conn", {"hooks/modelslab.py"}),
        ("land", "hook", {"jobs/paid_job.py"}),
        ("adopt", "ledger", {"jobs/paid_job.py", "cli/resolve.py"}),  # spends nothing: a person has found the job
    ],
)
def test_a_step_is_called_from_one_module(method: str, receiver: str, modules: set[str]) -> None:
    assert callers(method, receiver) == modules


def test_the_look_finds_calls() -> None:
    assert "jobs/batch_jobs.py" in callers("acquire", "")
