"""moto's S3 over TLS, which keeps connections open as every S3 does, and goes wrong when a request asks for it.

What may go wrong is in :data:`.plan.S3_FAULTS`. A fault is of the task that asked for it, and of no other.
"""

from __future__ import annotations

import argparse
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from benchmarks.fault_campaign.journal import FAULT, Journal
from benchmarks.fault_campaign.orders import HEADER, TASK_HEADER, Order
from tools.stack.s3 import S3Server

__all__ = ["go_wrong"]

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, after 0 seconds
_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>'
_REFUSALS = {"503": ("503 Slow Down", "SlowDown"), "denied": ("403 Forbidden", "AccessDenied")}

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def go_wrong(server: S3Server, journal: Path) -> None:
    """Have an S3 server that is not started yet run this module instead of moto's own."""
    given = server.process.command
    more = given[given.index("moto.server") + 1 :]
    server.process.command = [*given[: given.index("-m")], "-m", __name__, *more, "--journal", str(journal)]
    server.process.cwd = Path(__file__).parents[2]


class Faulty:
    """A WSGI application around S3's."""

    def __init__(self, app: Application, journal: Journal) -> None:
        self._app = app
        self._journal = journal
        self._lock = threading.Lock()
        self._refused: dict[str, tuple[str, float, int]] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        text = environ.get(_variable(HEADER))
        task = environ.get(_variable(TASK_HEADER), "")
        order = Order.load(text) if text else None
        if order is not None and order.how != "hold":
            self._journal.note(FAULT, kind=f"s3 {order.how}", run=task, phase=order.phase, pid=order.pid)
            self._begin(task, order)
        refused = self._refusal(task)
        if refused is not None or (order is not None and order.how == "reset before"):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        if refused is not None:
            status, code = _REFUSALS[refused]
            body = b"" if environ["REQUEST_METHOD"] == "HEAD" else _ERROR.format(code=code).encode()
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        if order is None:
            return self._app(environ, start_response)
        if order.how == "reset before":
            return _reset(environ)
        answer = list(self._app(environ, start_response))
        if order.how == "reset after":
            return _reset(environ)
        time.sleep(order.value)  # "hold", or "late": beyond the client's time-out
        return answer

    def _begin(self, task: str, order: Order) -> None:
        with self._lock:
            if order.how == "503":
                self._refused[task] = ("503", float("inf"), int(order.value))
            elif order.how == "denied":
                self._refused[task] = ("denied", time.monotonic() + order.value, 1 << 30)

    def _refusal(self, task: str) -> str | None:
        with self._lock:
            how, until, left = self._refused.get(task, ("", 0.0, 0))
            if left <= 0 or time.monotonic() > until:
                self._refused.pop(task, None)
                return None
            self._refused[task] = (how, until, left - 1)
            return how


class _Patient(ssl.SSLContext):
    """Shakes hands in the thread of a connection: one client that is frozen in the middle of it must not stop all."""

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        return super().wrap_socket(*args, **{**options, "do_handshake_on_connect": False})


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body of each answer waits 40 ms for an acknowledgement of its headers

    def log(self, *_: object) -> None:
        """Nothing: the journal has what matters."""


def _variable(header: str) -> str:
    return f"HTTP_{header.upper().replace('-', '_')}"


def _reset(environ: dict[str, Any]) -> Iterable[bytes]:
    connection = environ["werkzeug.socket"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.shutdown(socket.SHUT_RD)
    connection.close()
    raise ConnectionResetError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-H", dest="host")
    parser.add_argument("-p", dest="port", type=int)
    parser.add_argument("-c", dest="certificate")
    parser.add_argument("-k", dest="key")
    parser.add_argument("--journal", type=Path)
    given = parser.parse_args()
    app = Faulty(DomainDispatcherApplication(create_backend_app), Journal(given.journal))
    context = _Patient(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(given.certificate, given.key)
    make_server(
        given.host, given.port, app, threaded=True, ssl_context=context, request_handler=_Handler
    ).serve_forever()


if __name__ == "__main__":
    main()
