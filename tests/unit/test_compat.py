"""One module knows Airflow's versions, its tables and its private names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import airflow_provider_modelslab

PACKAGE = Path(airflow_provider_modelslab.__file__).parent
KNOWS = "compat.py"

# Tables, sessions on them, and versions. The rest that is imported of Airflow is its public interface, or, for the
# command line and the API server's own login, the way that Airflow's providers use it.
INNER = re.compile(
    r"airflow\.(models|assets|settings|dag_processing|serialization|executors|jobs|api_fastapi\.execution_api)\b"
    r"|airflow\.utils\.(session|retries|db)\b|airflow\.__version__|airflow\.version\b|packaging\.version\b"
)
PRIVATE = re.compile(r"_AIRFLOW_|SUPERVISOR_COMMS")


def named_in(file: Path) -> Iterator[str]:
    """What a module imports, and the texts and attributes in it that could name something private."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value if len(node.value) < 60 else ""
        elif isinstance(node, ast.Attribute):
            yield node.attr


def test_only_one_module_names_what_differs_between_versions() -> None:
    found = {
        file.relative_to(PACKAGE).as_posix(): name
        for file in PACKAGE.rglob("*.py")
        for name in named_in(file)
        if INNER.match(name) or PRIVATE.search(name)
    }
    assert set(found) == {KNOWS}, found
