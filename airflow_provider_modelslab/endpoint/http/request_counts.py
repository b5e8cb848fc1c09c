"""How often each call was made, for ``/admin``."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable

from starlette.types import ASGIApp, Receive, Scope, Send

from airflow_provider_modelslab.endpoint.http.responses import API_PREFIX
from airflow_provider_modelslab.endpoint.results.publish import FOLDERS

__all__ = ["RequestCounts"]

_UNCOUNTED = ("admin", "docs", "healthz", "openapi.json")


class RequestCounts:
    """How many requests came for each route since the start, refused ones too.

    Those of ``/admin``, ``/docs``, ``/openapi.json`` and ``/healthz`` do not count.

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


def _name(path: str) -> str:
    parts = path.split("/")
    return parts[1] if parts[0] == "video" and len(parts) > 1 else parts[0]
