"""Foreign JSON made fit for everything downstream: XCom, trigger events, ledger entries, logs and S3 sidecars.

Airflow's database, its serializer and the triggerer refuse what JSON text may hold: lone surrogates, NUL (PostgreSQL),
integers of more than 64 bits, NaN, deep nesting. One such answer would end a task whose job is paid for, or the whole
triggerer, so every answer passes here once, where it is parsed. An unreadable part costs that part.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["bounded", "parse_json", "plain"]

_MAX_DEPTH = 16
_MAX_INT = 2**63 - 1
_MAX_DIGITS = 19
_MAX_ENTRIES, _MAX_ENTRY_BYTES = 200, 8192
_MARK = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)


def parse_json(body: bytes | str) -> Any:
    """Parse a JSON text; ``None`` for what is none. See :func:`plain` for what comes back."""
    text = (body.decode("utf-8", "replace") if isinstance(body, bytes) else body).removeprefix("\ufeff")
    try:
        return plain(_load(text))
    except RecursionError:
        pass
    except ValueError:
        return None
    try:
        return plain(_load(_shallow(text)))
    except (ValueError, RecursionError):
        return None


def plain(value: Any, *, depth: int = _MAX_DEPTH) -> Any:
    """A parsed JSON value with text that is UTF-8, 64-bit integers, finite floats and text as names.

    Larger integers become text, other floats ``None``, lone surrogates and NUL ``?``; what is nested deeper than 16
    levels is left out.
    """
    if isinstance(value, str):
        return value.replace("\0", "?").encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if -_MAX_INT <= value <= _MAX_INT else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if depth == 0:
        return None
    if isinstance(value, Mapping):
        return {plain(str(name)): plain(item, depth=depth - 1) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth=depth - 1) for item in value]
    return None


def bounded(values: Mapping[str, Any]) -> dict[str, Any]:
    """A mapping without the entries that are too large to travel: over 8 kB of JSON each, or beyond the first 200."""
    kept = ((name, item) for name, item in values.items() if len(json.dumps([name, item])) <= _MAX_ENTRY_BYTES)
    return dict(entry for entry, _ in zip(kept, range(_MAX_ENTRIES), strict=False))


def _load(text: str) -> Any:
    return json.loads(text, parse_int=_parse_int)


def _shallow(text: str) -> str:
    """A JSON text with ``null`` for what is nested too deep for Python's parser: the id beside it is worth keeping."""
    kept: list[str] = []
    depth = start = 0
    for found in _MARK.finditer(text):
        mark = found[0]
        if mark in "[{":
            depth += 1
            if depth == _MAX_DEPTH + 1:
                kept += [text[start : found.start()], "null"]
        elif mark in "]}":
            depth -= 1
            if depth == _MAX_DEPTH:
                start = found.end()
    return "".join(kept) + text[start:]


def _parse_int(digits: str) -> int | str:
    # Python refuses to convert very long texts, and a number of this size is an identifier if anything.
    return int(digits) if len(digits) <= _MAX_DIGITS and abs(int(digits)) <= _MAX_INT else digits
