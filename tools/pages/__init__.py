"""The parts of ``docs/`` that come from the code: tables, examples and figures.

A page marks such a part::

    <!-- generate: NAME ARGUMENTS -->
    Markdown, written by ``make pages``
    <!-- end generate -->

The text is in the file, so the page reads the same on GitHub and on the site. A test fails when it is out of date.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from tools.pages import attributes, commands, connection, errors, examples, families, faults, figures, task_metadata
from tools.pages.markdown import DOCS

__all__ = ["GENERATORS", "expand", "outdated", "pages"]

GENERATORS: dict[str, Callable[..., str]] = {
    "attributes": attributes.ranges,
    "attribute-origins": attributes.origins,
    "budget-calls": figures.budget_calls,
    "cli": commands.cli,
    "connection": connection.fields,
    "endpoint-flags": commands.endpoint_flags,
    "example": examples.block,
    "examples": examples.overview,
    "exceptions": errors.table,
    "family-defaults": families.defaults,
    "family-limits": families.limits,
    "faults": faults.table,
    "performance": figures.pages,
    "run-facet": task_metadata.run_facet,
    "settings": connection.settings,
    "task-links": task_metadata.task_links,
}
"""Each takes the mark's arguments and returns Markdown. One that cannot find what it describes raises LookupError."""

_PART = re.compile(
    r"^(<!-- generate: (?P<name>[\w-]+)(?P<arguments>(?: \S+)*) -->\n).*?^(<!-- end generate -->)$",
    re.MULTILINE | re.DOTALL,
)


def pages() -> Iterator[Path]:
    """The Markdown files below ``docs/``."""
    return (path for path in sorted(DOCS.rglob("*.md")) if "_build" not in path.parts)


def expand(text: str) -> str:
    """``text`` with each marked part written anew.

    :raises LookupError: for a mark with an unknown name, or one without an end.
    """

    def write(part: re.Match[str]) -> str:
        generator = GENERATORS.get(part["name"])
        if generator is None:
            raise LookupError(f"<!-- generate: {part['name']} --> is unknown; there is {', '.join(GENERATORS)}")
        return f"{part[1]}\n{generator(*part['arguments'].split())}\n\n{part[4]}"

    expanded, count = _PART.subn(write, text)
    if count != text.count("<!-- generate: "):
        raise LookupError("a <!-- generate: ... --> has no <!-- end generate -->")
    return expanded


def outdated() -> Iterator[tuple[Path, str]]:
    """The pages whose generated parts are out of date, and their new text."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        expanded = expand(text)
        if expanded != text:
            yield path, expanded
