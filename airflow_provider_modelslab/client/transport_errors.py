"""Classifies an HTTP library's exception: whether the request was sent, and whether a repeat can help."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from airflow_provider_modelslab.client.config import NoResponse, Timeouts
from airflow_provider_modelslab.net.call_limit import CallLimitError

__all__ = ["no_response"]


def no_response(
    error: BaseException, *, sent: bool, retriable: bool, timed_out: bool, timeouts: Timeouts
) -> NoResponse:
    """Translate a library's exception.

    :param sent: whether the body may have been sent.
    :param retriable: whether it is one of the library's exceptions for connections and proxies.
    :param timed_out: whether it is one for time-outs.
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
        text = _explain(chain)
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
