"""What the pages say about code comes from the code: ``<!-- generate: NAME -->`` in a page becomes Markdown made here.

A name may be followed by arguments. Each generator is a function that takes them and returns Markdown; one that cannot
find what it describes raises, and the build fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from sphinx.errors import ExtensionError

from generated import (
    attributes,
    commands,
    connection,
    errors,
    examples,
    figures,
    images,
    references,
    told,
)

if TYPE_CHECKING:
    from sphinx.application import Sphinx

__all__ = ["GENERATORS", "expand", "setup"]

GENERATORS: dict[str, Callable[..., str]] = {
    "attributes": attributes.ranges,
    "attribute-origins": attributes.origins,
    "connection": connection.fields,
    "exceptions": errors.table,
    "endpoint-flags": commands.endpoint_flags,
    "cli": commands.cli,
    "examples": examples.overview,
    "other-examples": examples.not_shown_elsewhere,
    "other-images": images.not_shown_elsewhere,
    "run-facet": told.run_facet,
    "settings": connection.settings,
    "task-links": told.task_links,
    "performance": figures.pages,
}

_MARK = re.compile(r"^<!-- generate: ([\w-]+)((?: \S+)*) -->$", re.MULTILINE)


def expand(text: str) -> str:
    """``text`` with each mark replaced.

    :raises ExtensionError: for a mark that nothing here answers.
    """

    def made(mark: re.Match[str]) -> str:
        generator = GENERATORS.get(mark[1])
        if generator is None:
            raise ExtensionError(f"<!-- generate: {mark[1]} -->: there is {', '.join(sorted(GENERATORS))}")
        return generator(*mark[2].split())

    return _MARK.sub(made, text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""

    def read(app: Sphinx, page: str, source: list[str]) -> None:
        if _MARK.search(source[0]):
            app.env.note_reread()  # what it is made of may have changed, whatever the page's own date
            source[0] = expand(source[0])

    app.connect("source-read", read)
    app.connect("autodoc-process-signature", references.shorten_signature)
    app.connect("missing-reference", references.resolve_short_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
