"""moto's S3 over TLS, which keeps connections open as every S3 does, and goes wrong when a request asks for it.

What may go wrong is in :data:`.plan.S3_FAULTS`. A fault is of the task that asked for it, and of no other.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import struct
import time
from pathlib import Path
from typing import Any

import uvicorn
from a2wsgi import WSGIMiddleware
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from benchmarks.fault_campaign.journal import FAULT, Journal
from benchmarks.fault_campaign.orders import HEADER, TASK_HEADER, Order
from tools.stack.s3 import S3Server

__all__ = ["go_wrong"]

_THREADS = 32
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, after 0 seconds
_ERROR = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>{}</Code><Message>on purpose</Message></Error>'
_REFUSALS = {"503": (503, "SlowDown"), "denied": (403, "AccessDenied")}
_TRANSPORT = "campaign_transport"


def go_wrong(server: S3Server, journal: Path) -> None:
    """Have an S3 server that is not started yet run this module instead of moto's own."""
    given = server.process.command
    more = given[given.index("moto.server") + 1 :]
    server.process.command = [*given[: given.index("-m")], "-m", __name__, *more, "--journal", str(journal)]
    server.process.cwd = Path(__file__).parents[2]


class Faulty:
    """An ASGI application around S3's."""

    def __init__(self, app: ASGIApp, journal: Journal) -> None:
        self._app = app
        self._journal = journal
        self._refused: dict[str, tuple[str, float, float]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        task = headers.get(TASK_HEADER.lower().encode(), b"").decode()
        text = headers.get(HEADER.lower().encode())
        order = Order.load(text.decode()) if text else None
        if order is not None and order.how != "hold":
            self._journal.note(FAULT, kind=f"s3 {order.how}", run=task, phase=order.phase, pid=order.pid)
            self._begin(task, order)
        how = self._refusal(task)
        if how is not None:
            status, code = _REFUSALS[how]
            await _read(receive)
            body = "" if scope["method"] == "HEAD" else _ERROR.format(code)
            await Response(body, status, media_type="application/xml")(scope, receive, send)
        elif order is None or order.how not in {"hold", "late", "reset before", "reset after"}:
            await self._app(scope, receive, send)
        elif order.how == "reset before":
            _reset(scope)
        else:
            answer: list[Message] = []

            async def keep(message: Message) -> None:
                answer.append(message)

            await self._app(scope, receive, keep)
            if order.how == "reset after":
                _reset(scope)
                return
            await asyncio.sleep(order.value)  # "hold", or "late": beyond the client's time-out
            for message in answer:
                await send(message)

    def _begin(self, task: str, order: Order) -> None:
        if order.how == "503":
            self._refused[task] = ("503", float("inf"), order.value)
        elif order.how == "denied":
            self._refused[task] = ("denied", time.monotonic() + order.value, float("inf"))

    def _refusal(self, task: str) -> str | None:
        how, until, left = self._refused.get(task, ("", 0.0, 0.0))
        if left <= 0 or time.monotonic() > until:
            self._refused.pop(task, None)
            return None
        self._refused[task] = (how, until, left - 1)
        return how


class _Protocol(HttpToolsProtocol):
    """uvicorn's, which lets the app at the connection: ASGI has no word for dropping one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, _TRANSPORT: transport}


def _reset(scope: Scope) -> None:
    transport = scope["state"][_TRANSPORT]
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


async def _read(receive: Receive) -> None:
    """A body to its end."""
    while (await receive()).get("more_body"):
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-H", dest="host")
    parser.add_argument("-p", dest="port", type=int)
    parser.add_argument("-c", dest="certificate")
    parser.add_argument("-k", dest="key")
    parser.add_argument("--journal", type=Path)
    given = parser.parse_args()
    moto: Any = DomainDispatcherApplication(create_backend_app)
    app: Any = WSGIMiddleware(moto, workers=_THREADS)
    uvicorn.run(
        Faulty(app, Journal(given.journal)),
        host=given.host,
        port=given.port,
        ssl_certfile=given.certificate,
        ssl_keyfile=given.key,
        http=_Protocol,
        lifespan="off",
        timeout_keep_alive=60,
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
