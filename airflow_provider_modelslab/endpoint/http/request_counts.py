"""``/admin``: what was paid, and how often each call was made. For tests and load runs."""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_modelslab.endpoint.http.responses import API_PREFIX
from airflow_provider_modelslab.endpoint.results.publish import FOLDERS

__all__ = ["RequestCounts", "add_admin"]

_UNCOUNTED = ("admin", "healthz")


class RequestCounts:
    """How many requests came for each route since the start, refused ones too.

    Those of ``/admin`` and ``/healthz`` do not count.

    :param calls: paths of the API below its prefix. One is counted by its name, the last part that is no parameter:
        ``video2video``, ``fetch``, ``system_details``... Reads of results are ``files``, what the endpoint does not
        have is ``other``.
    """

    def __init__(self, calls: Iterable[str]) -> None:
        self._names = {_name(path) for path in calls}
        self._lock = threading.Lock()
        self.reset()

    def around(self, app: ASGIApp) -> ASGIApp:
        """The app, counted."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self._count(scope["path"])
            await app(scope, receive, send)

        return counted

    def figures(self) -> dict[str, int]:
        """The counts."""
        with self._lock:
            return dict(self._counts)

    def reset(self) -> None:
        """Begin again at zero."""
        with self._lock:
            self._counts = Counter(dict.fromkeys((*sorted(self._names), "files", "other"), 0))

    def _count(self, path: str) -> None:
        folder = path.split("/", 2)[1] if path.startswith("/") else ""
        if folder in _UNCOUNTED:
            return
        name = "files" if folder in FOLDERS else _name(path.removeprefix(f"{API_PREFIX}/"))
        with self._lock:
            self._counts[name if name == "files" or name in self._names else "other"] += 1


def add_admin(
    app: FastAPI,
    counts: RequestCounts,
    *,
    key: str | None,
    bills: Callable[[], dict[str, Any]],
    reset: Callable[[], None],
) -> None:
    """Add the routes.

    :param key: has to come as ``Authorization: Bearer <key>``, where there is one.
    :param bills: what to answer, besides the counts of requests.
    :param reset: forgets it.
    """

    def check_key(request: Request) -> None:
        given = request.headers.get("authorization", "")
        if key is not None and not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
            raise HTTPException(401, "The admin key is needed as a Bearer token", {"WWW-Authenticate": "Bearer"})

    guard = [Depends(check_key)]

    @app.get("/admin/bills", response_model=None, dependencies=guard)
    async def show() -> JSONResponse:
        figures = await asyncio.to_thread(bills)
        return JSONResponse({"accepted": len(figures["jobs"]), "requests": counts.figures(), **figures})

    @app.post("/admin/reset", response_model=None, dependencies=guard)
    async def forget() -> JSONResponse:
        await asyncio.to_thread(reset)
        counts.reset()
        return JSONResponse({"message": "The bills and counts are reset", "status": "success"})

    app.add_middleware(counts.around)


def _name(path: str) -> str:
    parts = path.split("/")
    return parts[1] if parts[0] == "video" and len(parts) > 1 else parts[0]
