"""The API pages: classes that docstrings name without their module, and signatures that people can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docutils import nodes
from pydantic import BaseModel
from sphinx.util.nodes import make_refnode

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

__all__ = ["resolve_short_name", "shorten_signature"]

_PACKAGE = "airflow_provider_modelslab"


def resolve_short_name(app: Sphinx, env: BuildEnvironment, node: pending_xref, content: Element) -> Element | None:
    """The one documented object whose name ends like this.

    What the package has and the API pages do not show stays as text; a name that is nowhere is left to Sphinx.
    """
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip(".").removeprefix("~")
    objects = env.domains.python_domain.objects
    found = [name for name in objects if name == target or name.endswith(f".{target}")]
    if len(found) == 1:
        place = objects[found[0]]
        return make_refnode(app.builder, node["refdoc"], place.docname, place.node_id, content, found[0])
    if target.startswith(f"{_PACKAGE}.") and _exists(target):
        return nodes.inline("", "", content)
    return None


def shorten_signature(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str, None] | None:
    """A model's signature would show the validators of each field; the page of attributes tells of them in words."""
    if what == "class" and isinstance(thing, type) and issubclass(thing, BaseModel):
        return "(**attributes)", None
    return None


def _exists(target: str) -> bool:
    """Whether the package has what a full name says; the module is imported for it."""
    from importlib import import_module

    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-signature", shorten_signature)
    app.connect("missing-reference", resolve_short_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
