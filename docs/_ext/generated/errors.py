"""The exceptions, from their docstrings, and what the retry policy makes of each."""

from __future__ import annotations

import inspect

from airflow_provider_modelslab.api import errors
from airflow_provider_modelslab.api.errors import ModelsLabError
from generated import markdown
from generated.markdown import code, from_rst

__all__ = ["public", "table"]


def public() -> list[type[ModelsLabError]]:
    """Every exception that a task may end with, the base first."""
    named = [getattr(errors, name) for name in errors.__all__]
    found = [cls for cls in named if isinstance(cls, type) and issubclass(cls, ModelsLabError)]
    return [ModelsLabError, *(cls for cls in found if cls is not ModelsLabError)]


def table() -> str:
    """Exception, meaning, code, scope, retry."""
    return markdown.table(["exception", "meaning", "code", "scope", "`ModelsLabRetryPolicy`"], map(_row, public()))


def _row(cls: type[ModelsLabError]) -> list[str]:
    concrete = hasattr(cls, "code")
    return [
        f"{{py:exc}}`~{cls.__module__}.{cls.__qualname__}`",
        from_rst((inspect.getdoc(cls) or "").partition("\n\n:param")[0].replace("\n\n", " ")),
        code(cls.code.value) if concrete else "",
        cls.scope.value if concrete else "",
        _decision(cls) if concrete else "",
    ]


def _decision(cls: type[ModelsLabError]) -> str:
    from airflow_provider_modelslab.retry_policy import ModelsLabRetryPolicy

    decision = ModelsLabRetryPolicy().evaluate(cls("what happened"), 1, 2)
    words = {"fail": "fails at once", "retry": "waits as asked", "default": "as the task says"}
    return words[decision.action.value]
