"""How the benchmarks show what they measured: an aligned table for people, a JSON file for programs."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

__all__ = ["about", "add_json_option", "machine", "print_table", "write_json"]


def about(benchmark: str, arguments: Sequence[str] | None = None) -> dict[str, str]:
    """What a result says of itself: when, by which command and where it was made.

    :param benchmark: the module's name below ``benchmarks``.
    :param arguments: of its command line; by default this process's.
    """
    given = sys.argv[1:] if arguments is None else arguments
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *given]),
        "machine": machine(),
    }


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--json FILE``."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")


def machine() -> str:
    """One line about where this runs, for the head of a table."""
    return f"{os.cpu_count()} CPUs, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[float | str]]) -> None:
    """Print rows under their columns: texts to the left, numbers to the right with one decimal."""
    cells = [[value if isinstance(value, str) else f"{value:.1f}" for value in row] for row in rows]
    widths = [max(len(column), *(len(row[i]) for row in cells)) for i, column in enumerate(columns)]
    to_right = [bool(rows) and not isinstance(rows[0][i], str) for i in range(len(columns))]

    def line(values: Sequence[str]) -> str:
        padded = [v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, to_right, strict=True)]
        return "  ".join(padded).rstrip()

    print(f"{title}\n{machine()}\n")
    print(line(columns))
    print(line(["-" * width for width in widths]))
    for row in cells:
        print(line(row))


def write_json(path: Path | None, figures: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Write the figures when a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(figures, indent=2) + "\n")
