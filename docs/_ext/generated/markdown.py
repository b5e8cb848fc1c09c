"""Small pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["DOCS", "ROOT", "code", "from_rst", "table"]

DOCS = Path(__file__).resolve().parents[2]
"""The folder of the pages."""

ROOT = DOCS.parent
"""The repository."""

_ROLE = re.compile(r":(?:py:)?(\w+):`([^`]+)`")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; line breaks and bars in cells do no harm."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def code(value: object) -> str:
    """``value`` in the typeface of code; text is shown as it is typed."""
    return f"`{value}`"


def from_rst(text: str) -> str:
    """A docstring's paragraph: its roles and literals in MyST's form."""
    text = _ROLE.sub(r"{py:\1}`\2`", text)
    return re.sub(r"``(.+?)``", r"`\1`", text)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
