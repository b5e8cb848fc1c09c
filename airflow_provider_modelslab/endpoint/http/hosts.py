"""Which names the endpoint answers to, so that no web page reaches it through the browser of somebody who can.

A page can have its own name resolve to 127.0.0.1 or to an address of the private network (DNS rebinding); its calls
then carry that name in ``Host``. And a page may post to any address, which ``Origin`` tells.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_modelslab.endpoint.settings import Settings

__all__ = ["HostCheck", "allowed_names", "is_allowed_host"]

_AUTHORITY = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9_-][a-z0-9_.-]*)(:[0-9]{1,5})?")
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")


def allowed_names(settings: Settings) -> frozenset[str]:
    """The names in lower case that the endpoint answers to, beside those that :func:`is_allowed_host` always allows.

    ``*`` stands for all, ``*.example.com`` for those below example.com, ``*.`` for every name without a dot.
    """
    public = urlsplit(settings.public_url).hostname if settings.public_url else None
    own = {socket.gethostname(), socket.getfqdn(), "*."} if settings.is_exposed else set[str]()
    given = {settings.host, *settings.allowed_hosts, *own, *([public] if public else ())}
    return frozenset(name.lower().rstrip(".") if name != "*." else name for name in given)


def is_allowed_host(authority: str | None, names: Collection[str]) -> bool:
    """Whether a ``Host`` header names this endpoint.

    Addresses always do, since a page cannot make them resolve to another one, and so do ``localhost`` and the names
    below it, which never leave the machine.

    :param names: see :func:`allowed_names`.
    """
    if "*" in names:
        return True
    found = _AUTHORITY.fullmatch((authority or "").lower())
    if found is None:
        return False
    host = found["name"].strip("[]").rstrip(".")
    if host == "localhost" or host.endswith(".localhost") or host in names or _is_address(host):
        return True
    if "." not in host:
        return "*." in names
    return any(host.endswith(name[1:]) for name in names if name.startswith("*.") and len(name) > len("*."))


class HostCheck:
    """Middleware: HTTP 400 for another name, 403 for a call that a page of another site makes."""

    def __init__(self, app: ASGIApp, *, names: Collection[str]) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host"), headers.get("origin")
        if not is_allowed_host(host, self._names):
            message = "the name in the Host header is not allowed; allow it with --allowed-host or --public-url"
            await _error(400, message)(scope, receive, send)
        elif origin is not None and scope["method"] not in _SAFE_METHODS and not _is_same(origin, host):
            await _error(403, "web pages of other sites may not call this endpoint")(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str | None) -> bool:
    scheme, separator, authority = origin.partition("://")
    return bool(separator) and scheme in {"http", "https"} and authority.lower() == (host or "").lower()


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"status": "error", "message": message}, status)
