"""The example Dags: the list of them, and their marked parts."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from functools import cache
from pathlib import Path

from tools.pages.markdown import DOCS, ROOT, code, from_rst, table

__all__ = ["block", "example_dags", "overview", "parts"]

_PART = re.compile(r"# \[START (\w+)\]\n(.*?)^ *# \[END \1\]", re.MULTILINE | re.DOTALL)
_SHOWN = re.compile(r"^<!-- generate: example (\w+) \w+ -->$", re.MULTILINE)


def example_dags() -> list[Path]:
    """The files."""
    return sorted((ROOT / "dags_examples").glob("modelslab_*.py"))


@cache
def parts(path: Path) -> dict[str, str]:
    """The parts of a file between ``# [START name]`` and ``# [END name]``.

    :raises LookupError: when there is none.
    """
    found = {name: _dedented(text) for name, text in _PART.findall(path.read_text(encoding="utf-8"))}
    if not found:
        raise LookupError(f"{path.name} has no marked part")
    return found


def block(stem: str, name: str) -> str:
    """One part of one file as a block of Python.

    :raises LookupError: when there is no such part.
    """
    return f"```python\n{parts(ROOT / 'dags_examples' / f'{stem}.py')[name]}\n```"


def overview() -> str:
    """One line for each Dag: what it does, and the page that explains it; links are relative to ``docs/howto/``."""
    shown = {path: set(_SHOWN.findall(path.read_text(encoding="utf-8"))) for path in sorted(DOCS.rglob("*.md"))}
    rows = []
    for path in example_dags():
        pages = [page for page, stems in shown.items() if path.stem in stems]
        links = ", ".join(f"[{_title(page)}]({page.relative_to(DOCS / 'howto')})" for page in pages)
        rows.append([code(path.name), _first_paragraph(path), links])
    return table(["file in `dags_examples/`", "what it does", "explained in"], rows)


def _dedented(text: str) -> str:
    """A part without its indentation, formatted as ``ruff format`` wants the block on the page."""
    command = [sys.executable, "-m", "ruff", "format", "--quiet", "-"]
    formatted = subprocess.run(command, input=textwrap.dedent(text), capture_output=True, text=True, check=True)
    return formatted.stdout.strip()


def _title(page: Path) -> str:
    return page.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def _first_paragraph(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return from_rst(text.partition("\n\n")[0])
