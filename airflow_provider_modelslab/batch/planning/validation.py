"""Everything that is wrong with a batch, told at once: 10,000 clips are not corrected one run at a time."""

from __future__ import annotations

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.redaction import hide_queries

__all__ = ["SHOWN", "Problems"]

SHOWN = 20
"""How many problems a message spells out; the rest are counted."""


class Problems:
    """Collects what is wrong.

    :param what: what is being read or planned, for the head of the message.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._first: list[tuple[str, str, str]] = []
        self.count = 0

    def add(self, place: str, field: str, text: str) -> None:
        """One problem.

        :param place: of which clip: file and line, list item or object.
        :param field: the attribute or column at fault.
        :param text: what was given and what is allowed; queries of links are left out of it.
        """
        self.count += 1
        if len(self._first) < SHOWN:
            self._first.append((hide_queries(place), field, hide_queries(text)))

    def raise_if_any(self) -> None:
        """Raise when something was added.

        :raises InvalidRequestError: with the first 20 problems, one a line, and their number.
        """
        if not self.count:
            return
        left = self.count - len(self._first)
        lines = [f"{place}: {field}: {text}" for place, field, text in self._first]
        if left:
            lines.append(f"... and {left} more")
        head = f"{self._what}: {self.count} problem{'' if self.count == 1 else 's'}; nothing was submitted"
        fields: dict[str, list[str]] = {}
        for place, field, text in self._first:
            fields.setdefault(field, []).append(f"{place}: {text}")
        raise InvalidRequestError("\n  ".join([head, *lines]), fields=fields)
