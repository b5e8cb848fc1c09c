"""Keeping secrets out of everything that is written down: messages, sidecars, events, reprs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from airflow_provider_modelslab.api.links import is_http_link

__all__ = ["SECRET_FIELDS", "hide_queries", "holds_secret", "redact", "scrub", "strip_path", "strip_query"]

SECRET_FIELDS = frozenset({"key", "api_key", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
"""Body fields of the API that hold a credential."""

_MASK = "***"

# A slash may be escaped, as in JSON that is quoted.
_LINK = re.compile(r"(https?:(?:\\?/){2})(?:[^\s/\\?#\"'<>]*@)?([^\s?#\"'<>]*)(?:\?[^\s\"'<>]*)?", re.IGNORECASE)

_MALFORMED = re.compile(r"(https?://)(?:[^/?#]*@)?([^?#]*).*", re.IGNORECASE | re.DOTALL)


def redact(text: str, secrets: Iterable[str | None]) -> str:
    """``text`` with every secret replaced. Secrets under 4 characters are left: replacing them would only mangle."""
    for secret in secrets:
        if secret and len(secret) >= 4:
            text = text.replace(secret, _MASK)
    return text


def strip_query(url: str) -> str:
    """A URL without user, password, query and fragment: what is left of a presigned link holds no signature.

    Text that is no URL with a host comes back unchanged, unless it begins as an http(s) link does.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme and parts.netloc:
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return _MALFORMED.sub(r"\1\2", url, count=1) if is_http_link(url) else url


def hide_queries(text: str) -> str:
    """Text with user, password and query of all links in it left out: they may open something."""
    return _LINK.sub(r"\1\2", text)


def strip_path(url: str) -> str:
    """What is left of a webhook: its host. A receiver has no way to tell who calls but a secret in the URL itself."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return _MASK
    if not parts.netloc:
        return _MASK
    host = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    return host if parts.path in {"", "/"} else f"{host}/{_MASK}"


def scrub(value: Any) -> Any:
    """A JSON value safe to store: secret fields masked, URLs without their query, at any depth.

    Of a ``webhook`` only the host is left, in requests and where an answer repeats them.
    """
    if isinstance(value, Mapping):
        return {k: _scrub_field(k, v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [scrub(item) for item in value]
    if isinstance(value, str) and is_http_link(value):
        return strip_query(value)
    return value


def holds_secret(value: Any) -> bool:
    """Whether :func:`scrub` would take something out of a JSON value."""
    return bool(scrub(value) != _with_lists(value))


def _with_lists(value: Any) -> Any:
    """The value in the form that :func:`scrub` gives back, with nothing taken out."""
    if isinstance(value, Mapping):
        return {key: _with_lists(item) for key, item in value.items()}
    return [_with_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _scrub_field(name: object, value: Any) -> Any:
    if name in SECRET_FIELDS and value:
        return _MASK
    return strip_path(value) if name == "webhook" and isinstance(value, str) and value else scrub(value)
