"""What a transport library's exception means for a call: did it leave, and is repeating it of any use."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

from airflow_provider_modelslab.client.config import NoResponse, Timeouts
from airflow_provider_modelslab.net.call_limit import CallLimitError

__all__ = ["no_response"]


def no_response(
    error: BaseException, *, sent: bool, retriable: bool, timed_out: bool, timeouts: Timeouts
) -> NoResponse:
    """What a library's exception means.

    :param sent: whether the body may have left.
    :param retriable: whether the exception is one of the library's for connections and proxies.
    :param timed_out: whether it is one for time-outs.
    """
    chain = list(_causes(error))
    # A handshake that the other side cut short is a lost connection; any other TLS fault is a matter of settings.
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
    """The error and what it wraps; ``__context__`` is left out, since it may be the caller's own trouble."""
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
    """The innermost cause by its name and the operating system's words; never ``str(error)``, which may hold URLs."""
    told = chain[-1]
    words = ""
    for error in chain:
        text = getattr(error, "verify_message", None) or (error.strerror if isinstance(error, OSError) else None)
        if isinstance(text, str) and text:
            told, words = error, text
    return f"{type(told).__name__}: {words}" if words else type(told).__name__
