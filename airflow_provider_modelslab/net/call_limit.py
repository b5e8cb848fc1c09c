"""A time limit for a whole blocking HTTP call, however slowly the response arrives.

The time-outs of requests apply to each read alone, so a server that sends a byte now and then can hold a call for ever;
one header line or one chunk of a body may take many reads. So the limit is applied at the socket: before each read and
write the socket's time-out is lowered to the remaining time.
"""

from __future__ import annotations

import errno
import http.client
import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase

__all__ = ["CallLimit", "CallLimitError", "LimitedAdapter", "LimitedSession"]

_MAX_HEAD_BYTES = 256 * 1024  # http.client allows 100 lines of 64 KiB, and any number of interim answers before them
_STOP_INTERVAL = 0.1  # seconds between two checks of should_stop


class CallLimitError(TimeoutError):
    """A call exceeded its time limit, was stopped, or its response was too slow or too large.

    ``strerror`` says which.
    """

    def __init__(self, text: str) -> None:
        super().__init__(errno.ETIMEDOUT, text)


class CallLimit:
    """The limits of one call: its time, and the speed and size of its response.

    They apply to the calls that a :class:`LimitedSession` makes within :meth:`applied`, and to reading the responses,
    then or later. They cannot interrupt the DNS look-up of a host.

    :param seconds: from now to the last byte of the answer.
    :param min_speed: bytes per second. The time between the caller's reads does not count, nor does the wait for the
        first byte.
    :param speed_time: seconds of waiting over which the speed is measured.
    :param max_bytes: of the whole answer as it is sent: interim answers, headers, framing and body.
    :param should_stop: called before each step of the call and every 0.1 seconds while it waits for bytes. The call
        ends once it returns ``True``; a connection attempt ends only with its own time-out.
    :ivar problem: which limit the call broke, as :attr:`CallLimitError.strerror`.
    """

    def __init__(
        self,
        seconds: float,
        *,
        min_speed: float = 0.0,
        speed_time: float = math.inf,
        max_bytes: float = math.inf,
        should_stop: Callable[[], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._min_speed = min_speed
        self._speed_time = speed_time
        self._max_bytes = max_bytes
        self._should_stop = should_stop
        self._clock = clock
        self._ends_at = clock() + seconds
        self._has_begun = False
        self._waited = 0.0
        self._received = 0
        self._total = 0
        self.problem: str | None = None

    @property
    def left(self) -> float:
        """Seconds that remain; 0 or less when the time is over."""
        return self._ends_at - self._clock()

    def timeouts(self, connect: float, read: float) -> tuple[float, float]:
        """The time-outs for requests (for each address of the host, and each read), at most the remaining time."""
        left = max(self.left, 0.001)  # urllib3 refuses 0
        return min(connect, left), min(read, left)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply the limits to the calls of this thread."""
        token = _limit.set(self)
        try:
            yield
        finally:
            _limit.reset(token)

    def check(self) -> float:
        """Seconds that remain.

        :raises CallLimitError: when none remain, or the call is to stop.
        """
        if self._should_stop is not None and self._should_stop():
            raise self.broken("the call was stopped")
        left = self.left
        if left <= 0:
            raise self.broken(f"no complete response within {max(self._seconds, 0):g} s")
        return left

    def before_send(self, sock: Any) -> None:
        """Lower the socket's time-out to the remaining time.

        :raises CallLimitError: as :meth:`check`.
        """
        left, silence = self.check(), sock.gettimeout()
        if silence is None or left < silence:
            sock.settimeout(left)

    def read(self, receive: Callable[[], int | None], sock: Any) -> int | None:
        """Receive bytes within the limit.

        :param receive: reads from ``sock``, whose time-out is the longest silence; returns how many bytes were read, 0
            at the end. It is called again after a time-out of the socket while time remains.
        :raises CallLimitError: when the time is over, the call is to stop, or the bytes are too slow or too many.
        """
        began, silence = self._clock(), sock.gettimeout()
        longest = _STOP_INTERVAL if self._should_stop else math.inf
        allowed = math.inf if silence is None else silence
        ends, timeout = began + allowed, silence
        try:
            while True:
                wanted = min(self.check(), allowed, longest)
                if wanted != timeout:  # a system call, at each of many reads
                    sock.settimeout(wanted)
                    timeout = wanted
                try:
                    size = receive()
                    break
                except TimeoutError:
                    self.check()
                    allowed = ends - self._clock()
                    if allowed <= 0:
                        raise
        finally:
            if timeout != silence:
                sock.settimeout(silence)
        if size:
            self._total += size
            if self._total > self._max_bytes:
                raise self.broken(f"more than {self._max_bytes:g} bytes")
            if self._has_begun:
                self._measure(size, self._clock() - began)
        self._has_begun = True
        return size

    def broken(self, text: str) -> CallLimitError:
        """The error for a call that exceeded a limit; also stored as :attr:`problem`."""
        self.problem = text
        return CallLimitError(text)

    def _measure(self, size: int, waited: float) -> None:
        self._received += size
        self._waited += waited
        if self._waited < self._speed_time:
            return
        if self._received < self._min_speed * self._waited:
            raise self.broken(f"slower than {self._min_speed:g} bytes/s for {self._waited:.0f} s")
        self._received, self._waited = 0, 0.0


_limit: ContextVar[CallLimit | None] = ContextVar("call_limit", default=None)


class LimitedSession(requests.Session):
    """A session that applies a :class:`CallLimit`, without ``.netrc``, authorization and cookies.

    Proxies and CA bundles of the environment are used. Redirects are not followed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.auth = _NoAuth()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self.mount(scheme, LimitedAdapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: even with ``allow_redirects=False`` requests reads a redirect's whole body and parses its target."""


class _NoAuth(AuthBase):
    """Keeps requests from reading credentials from ``~/.netrc`` and from ``user:password@`` of a link."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        return r


class LimitedAdapter(HTTPAdapter):
    """The adapter of a :class:`LimitedSession`, and the base class of other adapters for it."""

    # Any: requests' own types differ between its versions.
    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        """Overrides the hook by which requests lets a subclass choose the connection."""
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _limited(pool.ConnectionCls)
        return pool


@cache
def _limited(connection_class: Any) -> Any:
    """A subclass of the proxy's connection class that applies the limit of the call."""
    if connection_class.response_class is _Response:
        return connection_class

    def send(self: Any, data: Any) -> None:
        limit = _limit.get()
        if limit is not None and self.sock is not None:
            limit.before_send(self.sock)
        connection_class.send(self, data)

    return type(connection_class.__name__, (connection_class,), {"response_class": _Response, "send": send})


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        limit = _limit.get()
        self._reader = None if limit is None else _LimitedReader(self.fp.detach(), sock, limit)
        if self._reader is not None:
            self.fp: Any = io.BufferedReader(self._reader)

    def begin(self) -> None:
        super().begin()
        if self._reader is not None:
            self._reader.max_bytes = math.inf
        # urllib3 logs headers that cannot be parsed, with the whole link, and they may repeat what the call sent.
        self.msg.defects = []
        self.msg.set_payload("")
        lengths = ",".join(self.msg.get_all("content-length", ())).split(",")
        if len({length.strip() for length in lengths}) > 1:
            # urllib3 refuses it too, but without closing the socket.
            raise http.client.HTTPException("several Content-Length headers that differ")


class _LimitedReader(io.RawIOBase):
    """Reads the socket directly: Python's own reader cannot continue after a time-out.

    :ivar max_bytes: that may still be read, plus at most one buffer.
    """

    def __init__(self, raw: Any, sock: Any, limit: CallLimit) -> None:
        self.max_bytes: float = _MAX_HEAD_BYTES
        self._raw = raw
        self._sock = sock
        self._limit = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self.max_bytes <= 0:
            raise self._limit.broken(f"headers of more than {_MAX_HEAD_BYTES} bytes")
        size = self._limit.read(lambda: int(self._sock.recv_into(buffer)), self._sock)
        self.max_bytes -= size or 0
        return size

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()
