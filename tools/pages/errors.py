"""The exceptions: meaning, code, scope, and what the retry policy does."""

from __future__ import annotations

import inspect

from airflow_provider_modelslab.api import errors
from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy
from tools.pages import markdown
from tools.pages.markdown import code, from_rst

__all__ = ["public", "table"]

_DECISIONS = {"fail": "fails at once", "retry": "waits as long as asked", "default": "retries with the task's settings"}


def public() -> list[type[ModelsLabError]]:
    """Every exception with a code, in the order of the codes' names."""
    named = (getattr(errors, name) for name in errors.__all__)
    found = {cls for cls in named if isinstance(cls, type) and issubclass(cls, ModelsLabError)} - {ModelsLabError}
    return sorted(found, key=lambda cls: cls.code.value)


def table() -> str:
    """One row for each code."""
    return markdown.table(
        ["code", "exception", "meaning", "scope", "`ModelsLabRetryPolicy`"],
        (
            [code(cls.code.value), code(cls.__name__), _meaning(cls), cls.scope.value, _decision(cls)]
            for cls in public()
        ),
    )


def _meaning(cls: type[ModelsLabError]) -> str:
    return from_rst((inspect.getdoc(cls) or "").partition("\n\n:param")[0].replace("\n\n", " "))


def _decision(cls: type[ModelsLabError]) -> str:
    return _DECISIONS[ModelsLabRetryPolicy().evaluate(cls("for the table"), 1, 2).action.value]
