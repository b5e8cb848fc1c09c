"""The real endpoint in a process of its own that is forked from one that has loaded it: it is killed often.

A call goes wrong when its client asks for it, see :data:`.plan.ENDPOINT_FAULTS`: the app is the package's own, and what
is done to its calls and answers is done around it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import requests
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_modelslab.endpoint import __main__ as program
from airflow_provider_modelslab.endpoint.faults.transport import Reset
from airflow_provider_modelslab.endpoint.http.app import create_app
from benchmarks.fault_campaign.journal import FAULT, Journal
from benchmarks.fault_campaign.orders import HEADER, TASK_HEADER, Order

__all__ = ["Endpoint"]

_PAGE = b"<!DOCTYPE html><html><head><title>{}</title></head><body><h1>{}</h1>On purpose</body></html>"
_ANSWERS: dict[str, tuple[int, str, bytes]] = {
    "error in 200": (200, "application/json", b'{"status": "error", "message": "Something went wrong"}'),
    "html 403": (403, "text/html", _PAGE.replace(b"{}", b"403 Forbidden")),
    "html 502": (502, "text/html", _PAGE.replace(b"{}", b"502 Bad Gateway")),
    "500": (500, "application/json", b'{"status": "error", "message": "Server error"}'),
    "429": (429, "application/json", b'{"status": "error", "message": "Rate limit exceeded"}'),
    "empty": (200, "application/json", b""),
}
_DRIPS, _DRIP_S = 6, 0.1
_WAIT_S = 60.0


class Endpoint:
    """Start it as often as it was killed; it goes on with what is in its folder.

    :param arguments: of its command line.
    """

    def __init__(self, folder: Path, *, key: str, arguments: Sequence[str], url: str, journal: Path) -> None:
        self.folder = folder
        self.pid = 0
        self._key = key
        self._arguments = [*arguments, "--state-dir", str(folder / "state"), "--allow-private-addresses"]
        self._arguments += ["--log-level", "warning"]
        self._url = url
        self._journal = journal
        folder.mkdir(parents=True, exist_ok=True)

    def start(self) -> None:
        """Fork; returns at once."""
        self.pid = os.fork()
        if self.pid:
            return
        try:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            log = os.open(self.folder / "endpoint.log", os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.environ[program.KEY_VARIABLE] = self._key
            setattr(program, "create_app", self._faulty_app)  # noqa: B010 - it imported the name
            program.main(self._arguments)
        finally:
            os._exit(0)

    def wait(self) -> None:
        """Until it answers.

        :raises TimeoutError: when that takes a minute.
        """
        until = time.monotonic() + _WAIT_S
        while True:
            try:
                requests.get(f"{self._url}/healthz", timeout=5).raise_for_status()
            except requests.RequestException:
                if time.monotonic() > until:
                    raise TimeoutError(f"The endpoint does not start; see {self.folder}") from None
                time.sleep(0.05)
            else:
                return

    def ended(self) -> None:
        """It was killed."""
        os.waitpid(self.pid, 0)
        self.pid = 0

    def stop(self) -> None:
        """Kill it; does nothing when it does not run."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.ended()

    def _faulty_app(self, *arguments: Any, **options: Any) -> Any:
        app = create_app(*arguments, **options)
        app.add_middleware(partial(_Faulty, journal=Journal(self._journal)))
        return app


class _Faulty:
    """What is done to calls and answers."""

    def __init__(self, app: ASGIApp, *, journal: Journal) -> None:
        self._app = app
        self._journal = journal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        text = headers.get(HEADER.lower().encode())
        if text is None:
            await self._app(scope, receive, send)
            return
        order = Order.load(text.decode())
        if order.how != "hold":
            self._note(order, headers.get(TASK_HEADER.lower().encode(), b"").decode())
        await self._do(order, scope, receive, send)

    async def _do(self, order: Order, scope: Scope, receive: Receive, send: Send) -> None:
        if order.how == "kill before":
            os.kill(os.getpid(), signal.SIGKILL)
        elif order.how == "kill after":
            await self._app(scope, receive, _kill)
        elif order.how == "freeze":
            _freeze(order.value)
            await self._app(scope, receive, send)
        elif order.how == "hold":
            await self._app(scope, receive, _Slowly(send, order.value))
        elif order.how == "drip":
            await self._app(scope, receive, partial(_drip, send))
        elif order.how == "cut":
            await self._app(scope, receive, partial(_cut, scope, receive, send))
        elif order.how == "reset":
            await Reset()(scope, receive, send)
        else:
            status, kind, body = _ANSWERS[order.how]
            headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _note(self, order: Order, task: str) -> None:
        kind = {"kill before": "endpoint kill", "kill after": "endpoint kill", "freeze": "endpoint freeze"}.get(
            order.how, f"answer: {order.how}"
        )
        self._journal.note(FAULT, kind=kind, run=task, phase=order.phase, pid=order.pid)


def _freeze(seconds: float) -> None:
    """Stop this process, and have it woken by a process that needs nobody: the runner may be waiting for an answer."""
    wake = f"sleep {seconds}; kill -CONT {os.getpid()}"
    os.posix_spawn("/bin/sh", ["sh", "-c", wake], os.environ)
    os.kill(os.getpid(), signal.SIGSTOP)


async def _kill(_: Message) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class _Slowly:
    """Keeps the beginning of an answer back for a while."""

    def __init__(self, send: Send, seconds: float) -> None:
        self._send = send
        self._seconds = seconds

    async def __call__(self, message: Message) -> None:
        await asyncio.sleep(self._seconds)
        self._seconds = 0.0
        await self._send(message)


async def _drip(send: Send, message: Message) -> None:
    body = message.get("body", b"")
    if len(body) < 2:
        await send(message)
        return
    size = -(-len(body) // _DRIPS)
    for start in range(0, len(body), size):
        part = body[start : start + size]
        more = message.get("more_body", False) or start + size < len(body)
        await send({"type": "http.response.body", "body": part, "more_body": more})
        await asyncio.sleep(_DRIP_S)


async def _cut(scope: Scope, receive: Receive, send: Send, message: Message) -> None:
    """Half of a body, and then a reset; what the app sends after it goes nowhere."""
    if message["type"] == "http.response.start":
        await send(message)
        return
    body = message.get("body", b"")
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    await Reset()(scope, receive, send)
