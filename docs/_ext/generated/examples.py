"""The example Dags: which there are, where each is explained, and those that no page shows yet."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from functools import cache
from pathlib import Path

from generated.markdown import DOCS, ROOT, from_rst, table

__all__ = ["blocks", "example_dags", "not_shown_elsewhere", "overview", "shown"]

_START = re.compile(r"# \[START (\w+)\]")
_SHOWN = re.compile(
    r"\{literalinclude\} \S*dags_examples/(\w+\.py)\n(?::[^\n]*\n)*?:start-after:\s*['\"]?(?:# )?\[START (\w+)\]"
)


def example_dags() -> list[Path]:
    """The files."""
    return sorted((ROOT / "dags_examples").glob("modelslab_*.py"))


def blocks(path: Path) -> list[str]:
    """The names of the parts that a file marks with ``# [START name]`` and ``# [END name]``."""
    text = path.read_text()
    names = _START.findall(text)
    open_ones = [name for name in names if text.count(f"# [END {name}]") != 1]
    if not names or open_ones:
        raise LookupError(f"{path.name}: needs a marked part, and an end for {', '.join(open_ones) or 'each'}")
    return names


@cache
def shown() -> dict[tuple[str, str], str]:
    """The parts that a page written by hand includes, with the page's name."""
    pages = [path for path in DOCS.rglob("*.md") if "_build" not in path.parts]
    return {found: path.relative_to(DOCS).as_posix() for path in pages for found in _SHOWN.findall(path.read_text())}


def overview() -> str:
    """One line for each Dag: what it shows and the page that explains it."""
    rows = []
    for path in example_dags():
        pages = sorted({page for (name, _), page in shown().items() if name == path.name})
        links = ", ".join(f"[](/{page})" for page in pages) or "below"
        rows.append([f"`dags_examples/{path.name}`", _first_paragraph(path), links])
    return table(["file", "what it does", "how-to"], rows)


def not_shown_elsewhere() -> str:
    """A section for each Dag with parts that no other page includes."""
    left: dict[Path, list[str]] = defaultdict(list)
    for path in example_dags():
        for name in blocks(path):
            if (path.name, name) not in shown():
                left[path].append(name)
    return "\n\n".join(
        "\n\n".join([f"## {path.stem}", _first_paragraph(path), *(_include(path, name) for name in names)])
        for path, names in left.items()
    )


def _include(path: Path, name: str) -> str:
    place = f"/../dags_examples/{path.name}"
    options = [":language: python", f":start-after: '[START {name}]'", f":end-before: '[END {name}]'", ":dedent:"]
    return "\n".join([f"```{{literalinclude}} {place}", *options, "```"])


def _first_paragraph(path: Path) -> str:
    return from_rst((ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0])
