"""Names that somebody may have meant."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable
from typing import Any

__all__ = ["SuggestArguments", "with_suggestions"]


class SuggestArguments:
    """Stands before Airflow's class in an operator: the error for a misspelt argument says which one was meant."""

    def __init__(self, **kwargs: Any) -> None:
        try:
            super().__init__(**kwargs)
        except TypeError as error:
            raise with_suggestions(error, type(self), kwargs) from None


def with_suggestions(error: TypeError, cls: type, given: Iterable[str]) -> TypeError:
    """The error of an operator's base class for arguments that nobody takes, with the arguments that were meant.

    :param error: any; one that is about something else is returned as it is.
    :param cls: the operator's class.
    :param given: names of arguments that were passed on to the base class.
    """
    known: set[str] = set()
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object:
            known.update(inspect.signature(inspect.unwrap(vars(base)["__init__"])).parameters)
    known -= {"self", "args", "kwargs", "attributes", "arguments"}
    unknown = [name for name in given if name not in known]
    near = {name: difflib.get_close_matches(name, known, n=1) for name in unknown}
    meant = [f"{name}: did you mean {found[0]}?" for name, found in near.items() if found]
    return TypeError(f"{error} {' '.join(meant)}") if meant else error
