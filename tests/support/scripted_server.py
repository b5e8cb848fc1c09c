"""A real HTTP server on 127.0.0.1 that follows a script: answers, hangs, resets, cuts its answers short, redirects.

It counts what arrived, which is what tests of a paid call are about.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    """A whole answer.

    :param body: a dict is sent as JSON.
    :param cut: how many bytes of the body to send before the connection is closed; ``None`` for all.
    :param hang_up: close the connection after an answer that promised to keep it open.
    """

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang_up: bool = False


@dataclass(frozen=True)
class Hang:
    """Read the request and answer nothing until the client goes away."""


@dataclass(frozen=True)
class Reset:
    """Reset the connection: before the body was read (only the headers were), or after."""

    before_body: bool = False


@dataclass(frozen=True)
class HangUp:
    """Read the request and close the connection properly, without an answer."""


@dataclass(frozen=True)
class Drip:
    """Send bytes as they are, then a few more at a time until the client goes away.

    :param start: what is sent at once; the status line and so on.
    :param piece: what is sent again and again; nothing closes the connection after ``start``.
    :param every: seconds between two pieces.
    :param pieces: how many; ``None`` for no end.
    """

    start: bytes
    piece: bytes = b"x"
    every: float = 0.02
    pieces: int | None = None


Step = Answer | Hang | Reset | HangUp | Drip


@dataclass(frozen=True)
class Received:
    """One request. ``body`` is ``None`` where the script did not read it. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None

    def json(self) -> Any:
        """The body, parsed."""
        assert self.body is not None
        return json.loads(self.body)


class ScriptedServer:
    """Plays one step per request; the last one is played again for every further request.

    :param tls: a server context, for https.
    :param silent: accept connections and never read from them, as a server does that hangs before the handshake.
    """

    def __init__(self, *steps: Step, tls: ssl.SSLContext | None = None, silent: bool = False) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self._steps = list(steps)
        self._tls = tls
        self._silent = silent
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def posts(self) -> int:
        return sum(request.method == "POST" for request in self.requests)

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def wait_for_requests(self, count: int) -> None:
        """Block until so many requests have arrived; a client that gave up may be ahead of them."""
        self._wait_until(lambda: len(self.requests) >= count)

    def wait_for_connections(self, count: int) -> None:
        """Block until so many connections have been accepted."""
        self._wait_until(lambda: self.connections >= count)

    def _wait_until(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout=60)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._shut(self._listener)
        with self._lock:
            still_open = list(self._open)
        for connection in still_open:
            self._shut(connection)
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive()

    def _start(self, work: Any, *args: Any) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    @staticmethod
    def _shut(sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with self._changed:
                self.connections += 1
                self._open.add(connection)
                self._changed.notify_all()
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        stream = connection
        try:
            if self._silent:
                while connection.recv(4096):
                    pass
                return
            if self._tls is not None:
                stream = self._tls.wrap_socket(connection, server_side=True)
                with self._lock:
                    self._open.add(stream)
            with stream.makefile("rb") as reader:
                while self._one(stream, reader):
                    pass
        except (OSError, ValueError):
            pass  # the client or the test went away
        finally:
            with self._lock:
                self._open -= {connection, stream}
            stream.close()

    def _one(self, stream: socket.socket, reader: Any) -> bool:
        first = reader.readline().decode("latin-1").split()
        if len(first) < 2:
            return False
        headers: dict[str, str] = {}
        while line := reader.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        with self._lock:
            step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        unread = isinstance(step, Reset) and step.before_body
        body = None if unread else reader.read(int(headers.get("content-length", 0)))
        with self._changed:
            self.requests.append(Received(first[0], first[1], headers, body))
            self._changed.notify_all()
        match step:
            case Answer():
                stream.sendall(_bytes(step))
                return step.cut is None and not step.hang_up
            case Hang():
                reader.read(1)
            case Reset():
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            case HangUp():
                pass
            case Drip():
                self._drip(stream, step)
        return False

    @staticmethod
    def _drip(stream: socket.socket, step: Drip) -> None:
        stream.sendall(step.start)
        for _ in range(step.pieces) if step.pieces is not None else itertools.count():
            if not step.piece:
                return
            stream.sendall(step.piece)
            time.sleep(step.every)


def _bytes(answer: Answer) -> bytes:
    raw = isinstance(answer.body, str | bytes)
    text = answer.body if raw else json.dumps(answer.body)
    body = text.encode() if isinstance(text, str) else text
    headers = {
        "Content-Type": "text/html" if raw else "application/json",
        "Content-Length": str(len(body)),
        **answer.headers,
    }
    lines = [f"HTTP/1.1 {answer.status} Scripted", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body[: answer.cut]
