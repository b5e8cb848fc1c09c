"""An HTTP server on 127.0.0.1 that answers with any bytes, and keeps connections open where that is possible."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

__all__ = ["OddServer", "RawAnswer"]


@dataclass(frozen=True)
class RawAnswer:
    """What is written to the connection: status line, headers and body as they are.

    :param close: close the connection afterwards; for an answer that is cut, or whose end the headers do not tell.
    """

    content: bytes
    close: bool = False


Answering = Callable[[str, bytes], RawAnswer]
"""Given the path and the body of a request."""


class OddServer:
    """Answers each POST with what :attr:`answer` returns; called in the connection's own thread."""

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.odd = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(60)
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    odd: OddServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The client went away."""


class _Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    server: _Server

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            while self._one():
                pass

    def _one(self) -> bool:
        start = self.rfile.readline().split()
        if len(start) < 2:
            return False
        length = 0
        while line := self.rfile.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = self.rfile.read(length)
        answer = self.server.odd.answer(start[1].decode("latin-1"), body)
        self.wfile.write(answer.content)
        return not answer.close
