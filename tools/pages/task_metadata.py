"""The links on a task, and the fields of OpenLineage's run facet."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from typing import Any

from airflow_provider_modelslab import get_provider_info
from tools.pages.markdown import ROOT, code, from_rst, table

__all__ = ["run_facet", "task_links"]

_PARAM = re.compile(r":param (\w+): (.+?)(?=\n\s*:param|\Z)", re.DOTALL)


def task_links() -> str:
    """The link's text, and where it leads."""
    info: Any = get_provider_info()
    classes = []
    for path in info["extra-links"]:
        module, _, name = path.rpartition(".")
        classes.append(getattr(import_module(module), name))
    return table(["link", "leads"], ([cls.name, from_rst(inspect.getdoc(cls) or "")] for cls in classes))


def run_facet() -> str:
    """The facet's fields. Its module is read, not imported: that would need OpenLineage's own provider."""
    source = (ROOT / "airflow_provider_modelslab" / "lineage" / "openlineage.py").read_text()
    facets = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name.endswith("Facet")]
    fields = [field for facet in facets for field in _PARAM.findall(ast.get_docstring(facet) or "")]
    if not fields:
        raise LookupError("no fields of the run facet are described")
    return table(["field", "meaning"], ([code(name), from_rst(text)] for name, text in fields))
