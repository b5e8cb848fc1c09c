"""Parses responses and redacts the secrets of their requests.

A server may repeat a request in its response, so no text of a response reaches a log, an exception or a caller
unredacted.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

from airflow_provider_modelslab.api.errors import EndpointSettingsError, TransportError
from airflow_provider_modelslab.api.plain import parse_json
from airflow_provider_modelslab.api.redaction import hide_queries, redact
from airflow_provider_modelslab.api.response import Answer, Failed, Processing, read_answer, read_body
from airflow_provider_modelslab.client.config import HttpResponse, NoResponse, Outcome, is_redirect
from airflow_provider_modelslab.client.requests import ApiRequest

__all__ = ["clean", "read", "read_admin", "read_message"]

_MAX_TEXT = 2000
_ESCAPE = re.compile("%[0-9A-F]{2}")
_MIN_SECRET = 8  # characters; a shorter one may be in an id or a link by chance


def clean(text: str, call: ApiRequest) -> str:
    """``text`` without the request's secrets and the queries of links, at most 2000 characters."""
    # In this order: a secret may itself be a link, and is recognised by its whole text only.
    text = hide_queries(_redacted(text, call))
    return text if len(text) <= _MAX_TEXT else text[:_MAX_TEXT] + "..."


def read(outcome: Outcome, call: ApiRequest, *, polling: bool = False) -> Answer:
    """Parse the response to a submit or a fetch; refusals and failures are answers too.

    :param polling: whether the request was a fetch, see :func:`~airflow_provider_modelslab.api.response.read_answer`.
    :raises TransportError: when there was no response, or a redirect.
    """
    reply = _reply(outcome, call)
    data = _json(reply)
    if isinstance(data, dict):
        answer = read_body(
            data,
            http_status=reply.status,
            retry_after_header=reply.retry_after,
            polling=polling,
            is_usable=partial(_is_usable, call=call),
        )
    else:
        # Redacted before it is parsed: the parser truncates such text, and half a key would not be recognised.
        text = clean(reply.body.decode("utf-8", "replace"), call)
        answer = read_answer(reply.status, text, retry_after_header=reply.retry_after, polling=polling)
    return _clean_answer(answer, call)


def read_admin(outcome: Outcome, call: ApiRequest) -> dict[str, Any]:
    """The JSON of a response to a request that administers the server or reads its state.

    :raises ModelsLabError: the subclass for the response; :class:`TransportError` when it is unknown.
    """
    answer = read(outcome, call)
    if isinstance(answer, Failed):
        raise answer.to_error()
    data = _json(_reply(outcome, call))
    status = str(data.get("status") or "").strip().lower()
    if status not in {"ok", "success"}:
        raise TransportError(
            f"{call.host} answered {clean(f'status {status!r}', call) if status else 'without a status'}, but ok or "
            f"success was expected, so the outcome is unknown. {_advice_to_repeat(call)}",
            http_status=outcome.status if isinstance(outcome, HttpResponse) else None,
        )
    cleaned: dict[str, Any] = _clean_value(data, call)
    return cleaned


def _advice_to_repeat(call: ApiRequest) -> str:
    if call.url.endswith(("/restart_server", "/clear_queue")):
        return "Check the server before you repeat it: jobs may be lost again, and their retries pay for new jobs"
    return "It is safe to repeat the request"


def read_message(outcome: Outcome, call: ApiRequest) -> str:
    """The message of a response; ``"ok"`` or ``"success"`` for requests without a documented message."""
    data = read_admin(outcome, call)
    return str(data.get("message") or data.get("messege") or data["status"])


def _reply(outcome: Outcome, call: ApiRequest) -> HttpResponse:
    if isinstance(outcome, NoResponse):
        raise TransportError(clean(f"No response from {call.host}: {outcome.text}", call))
    if is_redirect(outcome.status):
        raise EndpointSettingsError(
            clean(
                f"{call.host} answered HTTP {outcome.status}, a redirect to {_target(outcome.location)}. It was not "
                "followed, because the call contains the API key. Set the base URL (the host of the Airflow "
                "connection) to a server that does not redirect",
                call,
            ),
            http_status=outcome.status,
        )
    return outcome


def _target(location: str | None) -> str:
    """Scheme and host of a ``Location`` header: its path and query may hold the request's secrets."""
    try:
        parts = urlsplit(location or "")
        # Not in lower case: a secret would not be recognised.
        host = parts.hostname and parts.netloc.rpartition("@")[2].removesuffix(f":{parts.port}")
    except ValueError:
        host = None
    if host and parts.scheme in {"http", "https", ""}:
        return f"{parts.scheme or 'http(s)'}://{host}"
    return "somewhere else" if location else "nowhere"


def _json(reply: HttpResponse) -> Any:
    return parse_json(reply.body)


def _clean_answer(answer: Answer, call: ApiRequest) -> Answer:
    if isinstance(answer, Failed):
        fields = {clean(name, call): [clean(text, call) for text in texts] for name, texts in answer.fields.items()}
        return replace(answer, message=clean(answer.message, call), fields=fields)
    meta: dict[str, Any] = _clean_value(answer.meta, call)
    if isinstance(answer, Processing):
        return replace(answer, status=clean(answer.status, call), message=clean(answer.message, call), meta=meta)
    return replace(answer, meta=meta)


def _clean_value(value: Any, call: ApiRequest) -> Any:
    if isinstance(value, Mapping):
        return {_redacted(str(name), call): _clean_value(item, call) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean_value(item, call) for item in value]
    return _redacted(value, call) if isinstance(value, str) else value


def _is_usable(text: str, call: ApiRequest) -> bool:
    """Whether an id or link of a response contains no secret. With a part redacted it would be useless."""
    forms = [form.casefold() for form in _forms(call.secrets) if len(form) >= _MIN_SECRET]
    return not any(form in spelling.casefold() for spelling in _spellings(text) for form in forms)


def _redacted(text: str, call: ApiRequest) -> str:
    """Without the secrets in any encoding that a server may use, and without lone surrogates: they cannot be logged."""
    forms = _forms(call.secrets)
    text = redact(text, forms)
    if any(form in spelling for spelling in _spellings(text) for form in forms if len(form) >= _MIN_SECRET):
        return "***"  # in a mixed form, which cannot be cut out
    return text.encode("utf-8", "replace").decode()


def _spellings(text: str) -> set[str]:
    """A text and its decoded forms, if it is encoded as in URLs, JSON or HTML."""
    if not any(mark in text for mark in "%&+\\"):
        return {text}
    found = {text}
    for _ in range(2):  # a link within a query is encoded twice
        found |= {html.unescape(spelling).replace("\\/", "/") for spelling in found}
        found |= {decoded for spelling in found for decoded in (unquote(spelling), unquote_plus(spelling))}
    return found


@lru_cache(maxsize=16)
def _forms(secrets: tuple[str, ...]) -> tuple[str, ...]:
    forms: set[str] = set()
    for secret in secrets:
        as_json = json.dumps(secret)[1:-1]
        in_json_text = json.dumps(as_json)[1:-1]  # JSON as a text within JSON
        encoded = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
        encoded |= {_ESCAPE.sub(lambda found: found.group().lower(), form) for form in encoded}
        in_json = {as_json, in_json_text}
        forms |= {secret, html.escape(secret), *encoded, *in_json, *(form.replace("/", "\\/") for form in in_json)}
    return tuple(sorted(forms, key=len, reverse=True))
