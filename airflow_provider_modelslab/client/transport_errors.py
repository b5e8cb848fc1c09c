"""Classifies an HTTP library's exception: whether the request was sent, and whether a repeat can help."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from airflow_provider_modelslab.client.config import NoResponse, Timeouts
from airflow_provider_modelslab.net.call_limit import CallLimitError

__all__ = ["no_response"]

_TLS_ALERT = "\x15\x03"
"""How a TLS server begins its response to plain HTTP."""


def no_response(
    error: BaseException, *, sent: bool, retriable: bool, timed_out: bool, timeouts: Timeouts, url: str = ""
) -> NoResponse:
    """Translate a library's exception.

    :param sent: whether the body may have been sent.
    :param retriable: whether it is one of the library's exceptions for connections and proxies.
    :param timed_out: whether it is one for time-outs.
    :param url: that was called: its scheme may be the wrong one for the port.
    """
    chain = list(_causes(error))
    # A handshake that the peer aborted is a lost connection; any other TLS error needs a change of settings.
    tls = any(
        isinstance(e, ssl.SSLError) and not isinstance(e, ssl.SSLEOFError | ssl.SSLZeroReturnError) for e in chain
    )
    over = next((e for e in chain if isinstance(e, CallLimitError)), None)
    if over:
        text = str(over.strerror)
    elif timed_out:
        text = f"no answer within {timeouts.read:g} s" if sent else f"no connection within {timeouts.connect:g} s"
    else:
        text = _explain(chain) + _wrong_scheme(chain, url)
    return NoResponse(text, sent=sent, permanent=not sent and (tls or not retriable) and not timed_out)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and its causes. ``__context__`` is left out, since it may be the caller's own error."""
    seen: set[int] = set()
    todo = [error]
    while todo:
        found = todo.pop(0)
        if id(found) not in seen:
            seen.add(id(found))
            yield found
            inner = (*found.args, getattr(found, "reason", None), getattr(found, "os_error", None), found.__cause__)
            todo += [e for e in inner if isinstance(e, BaseException)]


def _explain(chain: list[BaseException]) -> str:
    """The innermost cause: its class and the operating system's text; never ``str(error)``, which may contain URLs."""
    cause = chain[-1]
    reason = ""
    for error in chain:
        text = getattr(error, "verify_message", None) or (error.strerror if isinstance(error, OSError) else None)
        if isinstance(text, str) and text:
            cause, reason = error, text
    return f"{type(cause).__name__}: {reason}" if reason else type(cause).__name__


def _wrong_scheme(chain: list[BaseException], url: str) -> str:
    """Advice where https was spoken to an http port, or probably the other way round."""
    if any(getattr(error, "reason", None) == "WRONG_VERSION_NUMBER" for error in chain):
        return ". The port uses http, not https: begin the base URL (host) with http://"
    if any(_TLS_ALERT in str(error) for error in chain if type(error).__name__.startswith("BadStatusLine")):
        return ". The port uses https, not http: begin the base URL (host) with https://"
    if url.startswith("http://") and any(isinstance(error, ConnectionResetError) for error in chain):
        return ". If the port uses https, begin the base URL (host) with https://"
    return ""
