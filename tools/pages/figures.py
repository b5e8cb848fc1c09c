"""The performance page: tables from ``benchmarks/results/*.json``, with the command that made each file."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.pages.layouts import LAYOUTS, Layout
from tools.pages.markdown import ROOT, code, from_rst, table

__all__ = ["budget_calls", "command", "pages", "results", "shown"]


def results() -> list[Path]:
    """The kept results."""
    return sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def pages() -> str:
    """A section for each kept result."""
    return "\n\n".join(_section(path) for path in results())


def budget_calls() -> str:
    """How many S3 calls a budget adds, and whether it was ever over-spent."""
    stores = json.loads((ROOT / "benchmarks" / "results" / "budget.json").read_text())["stores"]
    rows = [
        [store, *(shown(kinds[kind]["calls_per_grant"]) for kind in ("batches", "single"))]
        for store, kinds in stores.items()
    ]
    return table(["S3 calls for each job that a budget grants", "batches", "tasks of one clip"], rows)


def command(path: Path, data: Any) -> str:
    """What made a result: as it says itself, else as the benchmark's own description starts it."""
    recorded = _head(data).get("command")
    if recorded:
        return str(recorded)
    for line in _description(path).splitlines():
        if line.startswith("    python -m benchmarks."):
            return line.strip()
    raise LookupError(f"{path.name}: neither it nor benchmarks/{_benchmark(path)}.py says how it was made")


def _section(path: Path) -> str:
    data = json.loads(path.read_text())
    title, _, rest = from_rst(_description(path).splitlines()[0]).partition(": ")
    parts = [f"## {title.rstrip('.')}"]
    if rest:
        parts.append(f"{rest[0].upper()}{rest[1:]}")
    head = _head(data)
    made = [str(head[name]) for name in ("machine", "date") if isinstance(head.get(name), str)]
    made = [text.partition("T")[0] if text.endswith("+00:00") else text for text in made]
    unknown = [] if head.get("command") else ["the file does not name the command that wrote it"]
    parts.append(f"Command: {code(command(path, data))}")
    parts.append("; ".join([f"Result: `benchmarks/results/{path.name}`", *made, *unknown]) + ".")
    layout = LAYOUTS.get(path.stem) or LAYOUTS.get(_benchmark(path))
    parts += [_laid_out(part, data) for part in layout] if layout else _as_it_is(data)
    return "\n\n".join(parts)


def _head(data: Any) -> Mapping[str, Any]:
    """What a result says of itself: at its top, or, where it is a list, in the first of its rows."""
    head: Mapping[str, Any] = data if isinstance(data, Mapping) else data[0]
    return head


def _laid_out(layout: Layout, data: Any) -> str:
    rows = [[label, *(shown(_at(figures, key)) for _, key in layout.columns)] for label, figures in layout.rows(data)]
    if not rows:
        raise LookupError(f"no rows for the table of {layout.what}")
    return table([layout.what, *(head for head, _ in layout.columns)], rows)


def _at(figures: Mapping[str, Any], key: str) -> Any:
    value: Any = figures
    for step in key.split("."):
        value = value.get(step) if isinstance(value, Mapping) else None
    return value


def _as_it_is(data: Any, name: str = "result") -> Iterator[str]:
    """A file that has no layout: its figures by their own names, a table for whatever has several of a kind."""
    if isinstance(data, list):
        rows = [item for item in data if isinstance(item, Mapping)]
        if rows:
            yield _grid(name, [(str(number), row) for number, row in enumerate(rows, 1)])
        return
    hidden = {"machine", "date", "command"}
    scalars = [(key, value) for key, value in data.items() if _is_scalar(value) and key not in hidden]
    groups = [(key, value) for key, value in data.items() if isinstance(value, Mapping)]
    flat = [(key, value) for key, value in groups if all(_is_scalar(item) for item in value.values())]
    if scalars:
        yield table([name, "figure"], ([code(key), shown(value)] for key, value in scalars))
    if len(flat) > 1 and len({frozenset(value) for _, value in flat}) == 1:
        yield _grid(name, flat)
        groups = [pair for pair in groups if pair not in flat]
    for key, value in groups:
        yield from _as_it_is(value, key)
    for key, value in data.items():
        if isinstance(value, list):
            yield from _as_it_is(value, key)


def _grid(name: str, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    rows = list(rows)
    keys = list(dict.fromkeys(key for _, row in rows for key, value in row.items() if _is_scalar(value)))
    body = ([code(label), *(shown(row.get(key)) for key in keys)] for label, row in rows)
    return table([name, *(key.replace("_", " ") for key in keys)], body)


def shown(value: Any) -> str:
    """A figure for people: three significant digits, whole numbers in full."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def _benchmark(path: Path) -> str:
    return path.stem.partition("-")[0]


def _description(path: Path) -> str:
    module = ROOT / "benchmarks" / f"{_benchmark(path)}.py"
    text = ast.get_docstring(ast.parse(module.read_text()), clean=True)
    if not text:
        raise LookupError(f"{module} says nothing about itself")
    return text
