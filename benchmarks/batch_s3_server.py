"""moto's S3 behind a server that keeps its connections, as every S3 does, and counts its calls.

moto's own server closes the connection after each answer. Each call then pays for a TLS handshake, which is more than
the call itself and would weigh most on whoever makes many calls in one process.
"""

from __future__ import annotations

import argparse
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from a2wsgi import WSGIMiddleware
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from tools.stack.s3 import S3Server

__all__ = ["CALLS", "keep_connections", "serve"]

CALLS = "/-/calls"
"""A path that answers, by method, how many calls were signed in their headers; reads of presigned links are none."""

_THREADS = 16


def keep_connections(server: S3Server) -> None:
    """Have an S3 server that is not started yet run this module instead of moto's own."""
    given = server.process.command
    server.process.command = [*given[: given.index("-m")], "-m", __name__, *given[given.index("moto.server") + 1 :]]
    server.process.cwd = Path(__file__).parents[1]


class _Counted:
    """Counts the signed calls to a WSGI application."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] == CALLS:
            start("200 OK", [("Content-Type", "application/json")])
            return [json.dumps(self._calls).encode()]
        if "HTTP_AUTHORIZATION" in environ:
            is_listing = "list-type=" in environ["QUERY_STRING"]
            with self._lock:
                self._calls["LIST" if is_listing else environ["REQUEST_METHOD"]] += 1
        answer: Iterable[bytes] = self._application(environ, start)
        return answer


def serve(application: Any, arguments: Sequence[str] | None = None) -> None:
    """Serve a WSGI application over TLS.

    :param arguments: as moto's server takes them.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-H", dest="host")
    parser.add_argument("-p", dest="port", type=int)
    parser.add_argument("-c", dest="certificate")
    parser.add_argument("-k", dest="key")
    given = parser.parse_args(arguments)
    uvicorn.run(
        WSGIMiddleware(application, workers=_THREADS),
        host=given.host,
        port=given.port,
        ssl_certfile=given.certificate,
        ssl_keyfile=given.key,
        timeout_keep_alive=60,
        log_level="warning",
    )


if __name__ == "__main__":
    serve(_Counted(DomainDispatcherApplication(create_backend_app)))
