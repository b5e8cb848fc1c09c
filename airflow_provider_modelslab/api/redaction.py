"""Keeping secrets out of everything that is written down: messages, sidecars, events, reprs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

__all__ = ["SECRET_FIELDS", "redact", "scrub", "strip_query"]

SECRET_FIELDS = frozenset({"key", "api_key", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
"""Body fields of the API that hold a credential."""

_MASK = "***"


def redact(text: str, secrets: Iterable[str | None]) -> str:
    """``text`` with every secret replaced. Secrets under 4 characters are left: replacing them would only mangle."""
    for secret in secrets:
        if secret and len(secret) >= 4:
            text = text.replace(secret, _MASK)
    return text


def strip_query(url: str) -> str:
    """A URL without user, password, query and fragment: what is left of a presigned link holds no signature.

    Text that is no URL with a host comes back unchanged.
    """
    try:
        parts = urlsplit(url)
        if not parts.scheme or not parts.netloc:
            return url
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return url


def scrub(value: Any) -> Any:
    """A JSON value safe to store: secret fields masked, URLs without their query, at any depth."""
    if isinstance(value, Mapping):
        return {k: _MASK if k in SECRET_FIELDS and v else scrub(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    if isinstance(value, str) and value[:8].lower().startswith(("http://", "https://")):
        return strip_query(value)
    return value
