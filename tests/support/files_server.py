"""A real HTTP file server on 127.0.0.1 whose faults are chosen per file, and which remembers what it was asked."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from types import TracebackType
from urllib.parse import urlsplit

__all__ = ["FilesServer", "SeenRequest", "ServedFile"]


@dataclass
class ServedFile:
    """One path of the server.

    :param length: whether to announce ``Content-Length``; without it the end of the connection ends the body.
    :param truncate_at: send so many bytes, then close the connection; the announced length stays the whole one.
    :param failures: statuses to answer with first, one a request.
    :param retry_after: the ``Retry-After`` header of these failures.
    :param redirect: answer 302 to this place.
    :param stall: after half of the body, wait until the server stops.
    """

    body: bytes = b""
    content_type: str = "application/octet-stream"
    length: bool = True
    truncate_at: int | None = None
    failures: list[int] = field(default_factory=list)
    retry_after: str | None = None
    redirect: str | None = None
    stall: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenRequest:
    """What came in."""

    path: str
    headers: Mapping[str, str]
    at: float


class FilesServer:
    """Use as a context manager."""

    def __init__(self) -> None:
        self.files: dict[str, ServedFile] = {}
        self.seen: list[SeenRequest] = []
        self._stopping = Event()
        owner = self

        class Handler(_Handler):
            server_state = owner

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def address(self) -> str:
        """``127.0.0.1:<port>``."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    def url(self, path: str) -> str:
        """The link to a path."""
        return f"http://{self.address}{path}"

    def add(self, path: str, file: ServedFile) -> str:
        """Serve a file and return its link."""
        self.files[path] = file
        return self.url(path)

    def requests_of(self, path: str) -> list[SeenRequest]:
        """The requests for one path, queries left out."""
        return [request for request in self.seen if urlsplit(request.path).path == path]

    def wait_stopping(self) -> None:
        """Hold a request until the server stops."""
        self._stopping.wait(30)

    def __enter__(self) -> FilesServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server_state: FilesServer
    # HTTP/1.0: each answer ends with its connection, so a body without a length has an end.

    def do_GET(self) -> None:
        state = self.server_state
        state.seen.append(SeenRequest(self.path, dict(self.headers.items()), time.time()))
        file = state.files.get(urlsplit(self.path).path)
        try:
            if file is None:
                self._answer(404, b"not here")
            elif file.failures:
                headers = {"Retry-After": file.retry_after} if file.retry_after else {}
                self._answer(file.failures.pop(0), b"not now", headers)
            elif file.redirect is not None:
                self._answer(302, b"", {"Location": file.redirect, **file.headers})
            else:
                self._send(file)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client has seen enough

    def _send(self, file: ServedFile) -> None:
        body, status, headers = file.body, 200, dict(file.headers)
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and file.length:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            end = min(int(last), len(body) - 1)
            headers["Content-Range"] = f"bytes {first}-{end}/{len(body)}"
            body, status = body[int(first) : end + 1], 206
        self.send_response(status)
        for name, value in {"Content-Type": file.content_type, **headers}.items():
            self.send_header(name, value)
        if file.length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if file.stall:
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.server_state.wait_stopping()
            return
        self.wfile.write(body if file.truncate_at is None else body[: file.truncate_at])

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet: the tests read :attr:`FilesServer.seen`."""
