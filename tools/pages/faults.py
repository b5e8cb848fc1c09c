"""The faults that the served endpoint can inject, from the module that defines them."""

from __future__ import annotations

import ast
import inspect
import json
import re
from itertools import pairwise

from airflow_provider_modelslab.endpoint.faults import kinds
from tools.pages import markdown
from tools.pages.markdown import code, from_rst

__all__ = ["table"]

_ROW = re.compile(r"^(\w+) {2,}(.+?)(?=^\w|^=|\Z)", re.MULTILINE | re.DOTALL)


def table() -> str:
    """Name, meaning, and the options with their defaults."""
    meanings = dict(_ROW.findall(_description()))
    missing = [name for name in kinds.FAULTS if name not in meanings]
    if missing:
        raise LookupError(f"the table below FAULTS has no row for {', '.join(missing)}")
    return markdown.table(
        ["fault", "effect", "options and defaults"],
        (
            [code(name), from_rst(meanings[name]), code(json.dumps(options)) if options else ""]
            for name, options in ((name, dict(options)) for name, options in kinds.FAULTS.items())
        ),
    )


def _description() -> str:
    """The text below ``FAULTS``, which Python itself does not keep.

    :raises LookupError: when there is none.
    """
    body = ast.parse(inspect.getsource(kinds)).body
    for assignment, text in pairwise(body):
        is_faults = isinstance(assignment, ast.AnnAssign) and ast.unparse(assignment.target) == "FAULTS"
        if is_faults and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            return inspect.cleandoc(str(text.value.value))
    raise LookupError("FAULTS has no description")
