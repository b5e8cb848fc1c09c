"""Parses the claim in a webhook's body and checks its token. Pure: no I/O, no Airflow."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MAX_BODY_BYTES", "BadClaimError", "Claim", "owner_of", "read_claim"]

MAX_BODY_BYTES = 64 * 1024
"""The vendor's webhook is some 3 kB: a status, an id, links, and the attributes once more."""

_JOB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}", re.ASCII)
_MOST_TRACK_ID = 1000
_NOT_DONE = frozenset({"processing", "queued", "pending"})


class BadClaimError(ValueError):
    """The body is no claim. The text is for the log; nothing of it goes back to the caller."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the caller states; none of it is trusted.

    :param job_id: the job that the claim is about; its state is fetched from the endpoint.
    :param track_id: sent with the submit; names the run in which to search first for the waiting task.
    :param says_running: the claim itself says that the job is not done, so nothing is fetched.
    """

    job_id: str
    track_id: str | None = None
    says_running: bool = False


def read_claim(body: bytes) -> Claim:
    """Read a body: a JSON object with the job's ``id``, as number or text.

    :raises BadClaimError: for everything else: no JSON, bad UTF-8, arrays, nesting without end, an id of another type.
    """
    try:
        data = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise BadClaimError("the body is not JSON in UTF-8") from None
    if not isinstance(data, dict):
        raise BadClaimError(f"the body is a JSON {type(data).__name__}, not an object")
    meta = data.get("meta")
    job_id = next(filter(None, map(_job_id, (data.get("id"), data.get("request_id"), _of(meta, "id")))), None)
    if job_id is None:
        raise BadClaimError("the body has no usable job id")
    status = data.get("status")
    return Claim(
        job_id,
        _track_id(data.get("track_id")) or _track_id(_of(meta, "track_id")),
        says_running=isinstance(status, str) and status.strip().lower() in _NOT_DONE,
    )


def owner_of(token: str, served: Mapping[str, Iterable[str]]) -> str | None:
    """The connection that a token belongs to, compared in constant time.

    :param served: the tokens of each connection.
    """
    given = _digest(token)
    found = None
    for conn_id, tokens in served.items():
        for known in tokens:
            if hmac.compare_digest(given, _digest(known)):
                found = conn_id
    return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _of(value: object, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _job_id(value: object) -> str | None:
    text = _text(value)
    return text if text is not None and _JOB_ID.fullmatch(text) else None


def _track_id(value: object) -> str | None:
    text = _text(value)
    return text if text and len(text) <= _MOST_TRACK_ID and text.isprintable() else None


def _text(value: object) -> str | None:
    """Numbers count as text; one with thousands of digits, which Python refuses to print, as nothing."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    try:
        return str(value).strip()
    except ValueError:
        return None
