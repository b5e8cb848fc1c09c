"""Small pieces of Markdown that GitHub and Sphinx read in the same way."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["DOCS", "ROOT", "code", "from_rst", "table"]

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

DOCS = ROOT / "docs"
"""The folder of the pages."""

_ROLE = re.compile(r":(?:py:)?\w+:`(~?)([^`]+)`")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table. Line breaks and vertical bars in cells are made harmless."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def code(value: object) -> str:
    """``value`` as inline code."""
    return f"`{value}`"


def from_rst(text: str) -> str:
    """A paragraph of a docstring: roles and literals become inline code."""
    text = _ROLE.sub(lambda role: code(role[2].rpartition(".")[2] if role[1] else role[2]), text)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
