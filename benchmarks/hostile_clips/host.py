"""A host of clips that drips, floods, lies about lengths and sends round in circles."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

__all__ = ["BEHAVIOURS", "HostileHost"]

_LONGEST_S = 25.0  # then it gives up by itself, so that a reader that waits for ever is counted and not waited for
_DRIP_S = 0.25
_TYPE = b"Content-Type: video/mp4\r\n"

_Behaviour = Callable[["_Answer"], None]


class _Answer:
    """One connection, after its request was read."""

    def __init__(self, link: socket.socket, body: bytes, url: str, canary: str, stop: threading.Event) -> None:
        self.link, self.body, self.url, self.canary = link, body, url, canary
        self._stop, self._end = stop, time.monotonic() + _LONGEST_S

    def send(self, *parts: bytes) -> None:
        self.link.sendall(b"".join(parts))

    def plain(self, headers: bytes, body: bytes, status: bytes = b"200 OK") -> None:
        self.send(b"HTTP/1.1 ", status, b"\r\n", headers, b"\r\n", body)

    def goes_on(self) -> bool:
        """Pause; whether there is any use in more."""
        return not self._stop.wait(_DRIP_S) and time.monotonic() < self._end

    def for_ever(self, part: bytes) -> None:
        while not self._stop.is_set() and time.monotonic() < self._end:
            self.send(part)

    def drip(self, part: bytes) -> None:
        while self.goes_on():
            self.send(part)


def _length(answer: _Answer) -> bytes:
    return _TYPE + b"Content-Length: " + str(len(answer.body)).encode() + b"\r\n"


def _announced(value: bytes) -> _Behaviour:
    return lambda answer: answer.plain(_TYPE + b"Content-Length: " + value + b"\r\n", answer.body)


def _redirected(place: Callable[[_Answer], bytes]) -> _Behaviour:
    return lambda answer: answer.plain(b"Location: " + place(answer) + b"\r\nContent-Length: 0\r\n", b"", b"302 Found")


def _status(status: bytes) -> _Behaviour:
    return lambda answer: answer.plain(_length(answer), answer.body, status)


def _chunked(parts: bytes) -> _Behaviour:
    return lambda answer: answer.plain(_TYPE + b"Transfer-Encoding: chunked\r\n", parts)


def _drip_headers(answer: _Answer) -> None:
    answer.send(b"HTTP/1.1 200 OK\r\nX-A: ")
    answer.drip(b"a")


def _drip_status(answer: _Answer) -> None:
    answer.drip(b"H")


def _drip_body(answer: _Answer) -> None:
    answer.plain(_length(answer), answer.body[:20])
    for byte in answer.body[20:]:
        if not answer.goes_on():
            return
        answer.send(bytes([byte]))


def _drip_chunks(answer: _Answer) -> None:
    answer.plain(_TYPE + b"Transfer-Encoding: chunked\r\n", b"")
    answer.drip(b"1\r\na\r\n")


def _drip_chunk_extension(answer: _Answer) -> None:
    answer.plain(_TYPE + b"Transfer-Encoding: chunked\r\n", b"5;x=")
    answer.drip(b"y")


def _drip_trailers(answer: _Answer) -> None:
    size = f"{len(answer.body):x}".encode()
    answer.plain(_TYPE + b"Transfer-Encoding: chunked\r\n", size + b"\r\n" + answer.body + b"\r\n0\r\n")
    answer.drip(b"X-A: b\r\n")


def _endless_continue(answer: _Answer) -> None:
    answer.drip(b"HTTP/1.1 100 Continue\r\n\r\n")


def _flood_of_continue(answer: _Answer) -> None:
    answer.for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


def _endless_headers(answer: _Answer) -> None:
    answer.send(b"HTTP/1.1 200 OK\r\n")
    answer.for_ever(b"X-A: b\r\n" * 1000)


def _endless_header(answer: _Answer) -> None:
    answer.send(b"HTTP/1.1 200 OK\r\nX-A: ")
    answer.for_ever(b"a" * 10_000)


def _endless_body(answer: _Answer) -> None:
    answer.plain(_TYPE, answer.body)
    answer.for_ever(bytes(1 << 16))


def _silence(answer: _Answer) -> None:
    while answer.goes_on():
        pass


def _silence_after_headers(answer: _Answer) -> None:
    answer.plain(_length(answer), b"")
    _silence(answer)


def _long_cookies(answer: _Answer) -> None:
    cookies = b"".join(b"Set-Cookie: c%d=%s\r\n" % (number, b"v" * 3000) for number in range(90))
    answer.plain(_length(answer) + cookies, answer.body)


BEHAVIOURS: dict[str, _Behaviour] = {
    "whole": lambda answer: answer.plain(_length(answer), answer.body),
    "whole without a length": lambda answer: answer.plain(_TYPE, answer.body),
    "drips its status": _drip_status,
    "drips headers": _drip_headers,
    "drips the body": _drip_body,
    "drips chunks": _drip_chunks,
    "drips a chunk's extension": _drip_chunk_extension,
    "drips trailers": _drip_trailers,
    "100 Continue for ever": _endless_continue,
    "a flood of 100 Continue": _flood_of_continue,
    "headers without end": _endless_headers,
    "a header without end": _endless_header,
    "a body without end": _endless_body,
    "says nothing": _silence,
    "says nothing after its headers": _silence_after_headers,
    "long cookies": _long_cookies,
    "closes at once": lambda _: None,
    "no HTTP": lambda answer: answer.send(b"220 smtp.example.com ESMTP\r\n"),
    "HTTP/0.9": lambda answer: answer.send(answer.body),
    "a status that is none": lambda answer: answer.plain(_length(answer), answer.body, b"2x0 OK"),
    "another status": lambda answer: answer.plain(_length(answer), answer.body, b"99999 OK"),
    **{f"HTTP {code}": _status(code.encode()) for code in ("204", "206", "304", "401", "404", "429", "500", "999")},
    **{
        f"Content-Length {name}": _announced(value)
        for name, value in {
            "of another script": b"\xb2\xb3", "negative": b"-5", "hexadecimal": b"0x10", "empty": b"",
            "huge": b"9" * 18, "of 5000 digits": b"9" * 5000, "twice": b"5\r\nContent-Length: 6",
            "a list": b"5, 5", "with a sign": b"+9", "zero": b"0", "too small": b"20",
            "a float": b"1e3", "two values": b"20\r\n\t30",
        }.items()
    },
    **{
        f"chunks: {name}": _chunked(parts)
        for name, parts in {
            "no number": b"zz\r\nabc\r\n", "negative": b"-1\r\na\r\n", "huge": b"ffffffffffffffff\r\nabc",
            "empty": b"", "cut": b"400\r\nabc", "long size": b"0" * 100_000 + b"1\r\na\r\n0\r\n\r\n",
        }.items()
    },
    "gzip that is none": lambda answer: answer.plain(_length(answer) + b"Content-Encoding: gzip\r\n", answer.body),
    "an unknown encoding": lambda answer: answer.plain(_length(answer) + b"Content-Encoding: x\r\n", answer.body),
    "redirects to itself": _redirected(lambda answer: answer.url.encode()),
    "redirects to a file": _redirected(lambda answer: b"file://" + answer.canary.encode()),
    "redirects to a path": _redirected(lambda answer: answer.canary.encode() + b"?"),
    "redirects to concat": _redirected(lambda answer: b"concat:" + answer.canary.encode()),
    "redirects to gopher": _redirected(lambda _: b"gopher://127.0.0.1/"),
    "redirects to nothing": _redirected(lambda _: b""),
    "redirects to no link": _redirected(lambda _: b"http://[::1"),
    "redirects to a user": _redirected(lambda answer: answer.url.replace("://", "://a:b@").encode()),
    "redirects to bytes": _redirected(lambda _: b"/\xff\xfe\x80"),
    "redirects to a long place": _redirected(lambda answer: answer.url.encode() + b"?" + b"a" * 60_000),
}  # fmt: skip
"""What it does, by name."""


class HostileHost:
    """Listens on this machine; use as a context manager. :attr:`url` gets a number, see :meth:`serve`."""

    def __init__(self, canary: str) -> None:
        self._canary = canary
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._serves: dict[str, tuple[str, bytes]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def serve(self, number: int, behaviour: str, body: bytes) -> str:
        """The link to a clip that is served in this way."""
        path = f"/{number}.mp4"
        self._serves[path] = behaviour, body
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}{path}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while not self._stop.is_set():
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(link,), daemon=True).start()

    def _answer(self, link: socket.socket) -> None:
        with link, suppress(OSError):
            link.settimeout(_LONGEST_S)
            request = b""
            while b"\r\n\r\n" not in request:
                if not (received := link.recv(1 << 16)):
                    return
                request += received
            path = request.split(b" ")[1].decode("latin-1").partition("?")[0]
            behaviour, body = self._serves.get(path, ("HTTP 404", b"not here"))
            url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{path}"
            BEHAVIOURS[behaviour](_Answer(link, body, url, self._canary, self._stop))
            link.shutdown(socket.SHUT_WR)
