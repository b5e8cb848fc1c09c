"""Sanitizes untrusted JSON, such as XComs, sidecars and manifests, so that it can always be sent to a browser.

The API server reads it for all users. The result has JSON types only, a limited depth, no number that JSON or
JavaScript lack, and no text that UTF-8 cannot encode.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["as_mapping", "has_too_many_values", "parse_json", "sound", "sound_fields"]

_MAX_DEPTH = 64
_MAX_VALUES = 2_000_000
_LARGEST = 2**63

_NUMBER = (int, float)
_TEXTS = (
    *("uri", "sidecar_uri", "source", "manifest", "retry", "conn_id", "model_id", "content_type", "sha256"),
    *("code", "message", "submitted_at", "landed_at", "expires_at", "claimed_at"),
)
_NUMBERS = ("found", "landed", "skipped", "failed", "pending", "duplicates", "bytes", "seconds", "seed", "http_status")
_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(_TEXTS, str),
    **dict.fromkeys((*_NUMBERS, "generation_time_s", "eta_s"), _NUMBER),
    "job_id": (str, int),
    "links": list,
    **dict.fromkeys(("request", "meta"), Mapping),
}
"""Expected types of the fields of manifests, summaries, sidecars and results lines; each field is optional."""


def has_too_many_values(text: bytes) -> bool:
    """Whether JSON has more than two million values: each may take 120 bytes, though it is written with two."""
    return sum(text.count(sign) for sign in (b"[", b"{", b",")) > _MAX_VALUES


def parse_json(text: bytes) -> Any:
    """Parse a text; see :func:`sound`.

    :raises ValueError: when it is no JSON, or is nested deeper than 64.
    """
    try:
        return sound(json.loads(text))
    except RecursionError:
        raise ValueError("nested too deep") from None


def sound(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """The value, with ``None`` for numbers that are not finite or not below 2**63, and for what is no JSON.

    :raises ValueError: when it is nested deeper than ``depth``.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, _NUMBER):
        return value if abs(value) < _LARGEST else None  # so is no NaN
    if not isinstance(value, Mapping | list | tuple):
        return None
    if not depth:
        raise ValueError("nested too deep")
    if isinstance(value, Mapping):
        return {sound(str(name)): sound(item, depth - 1) for name, item in value.items()}
    return [sound(item, depth - 1) for item in value]


def sound_fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of this provider, without the fields that have another type than this provider gives them."""
    return {name: value for name, value in record.items() if name not in _TYPES or isinstance(value, _TYPES[name])}


def as_mapping(value: Any) -> Mapping[str, Any]:
    """The value, where it is a JSON object; else an empty one."""
    return value if isinstance(value, Mapping) else {}
