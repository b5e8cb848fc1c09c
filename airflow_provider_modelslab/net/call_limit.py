"""Blocking HTTP calls that end in time, however slowly the answer comes.

The time-outs of requests bound each read alone, so a server that sends a byte now and then holds a call for ever, and
many of these reads happen within one line of a header or one chunk of a body. So the limit is checked where the
socket is read: before each read the socket's time-out is lowered to the time that is left.
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

__all__ = ["CallLimit", "CallLimitError", "LimitedSession"]


class CallLimitError(TimeoutError):
    """A call took longer than it may, or its answer came too slowly; ``strerror`` says which."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.ETIMEDOUT, text)


class CallLimit:
    """How long one call may take, and how slowly its answer may come.

    It holds for the calls that a :class:`LimitedSession` makes within :meth:`applied`, and for reading their answers,
    then or later. The look-up of a host's name is the one thing that it cannot cut short.

    :param seconds: from now to the last byte of the answer.
    :param min_speed: bytes per second. The time between the caller's reads does not count, nor does the wait for the
        first byte.
    :param speed_time: seconds of waiting over which the speed is measured.
    """

    def __init__(
        self,
        seconds: float,
        *,
        min_speed: float = 0.0,
        speed_time: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._min_speed = min_speed
        self._speed_time = speed_time
        self._clock = clock
        self._ends_at = clock() + seconds
        self._has_begun = False
        self._waited = 0.0
        self._received = 0

    @property
    def left(self) -> float:
        """Seconds that are left, 0 or less when the time is over."""
        return self._ends_at - self._clock()

    def timeouts(self, connect: float, read: float) -> tuple[float, float]:
        """The time-outs for requests, each address of the host and each read: no longer than what is left."""
        left = max(self.left, 0.001)  # urllib3 refuses 0
        return min(connect, left), min(read, left)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Apply it to the calls of this thread."""
        token = _limit.set(self)
        try:
            yield
        finally:
            _limit.reset(token)

    def check(self) -> float:
        """Seconds that are left.

        :raises CallLimitError: when there are none.
        """
        left = self.left
        if left <= 0:
            raise CallLimitError(f"no whole answer within {max(self._seconds, 0):g} s")
        return left

    def read(self, receive: Callable[[], int | None], sock: Any) -> int | None:
        """Receive bytes within the limit.

        :param receive: reads from ``sock``, which has a time-out; returns how many bytes came, 0 at the end.
        :raises CallLimitError: when the time is over, or the bytes come too slowly.
        """
        left, began = self.check(), self._clock()
        silence = sock.gettimeout()
        if silence is None or left < silence:
            sock.settimeout(left)  # urllib3 sets it anew for each call
        try:
            size = receive()
        except TimeoutError:
            self.check()
            raise
        if size and self._has_begun:
            self._measure(size, self._clock() - began)
        self._has_begun = True
        return size

    def _measure(self, size: int, waited: float) -> None:
        self._received += size
        self._waited += waited
        if self._waited < self._speed_time:
            return
        if self._received < self._min_speed * self._waited:
            raise CallLimitError(f"slower than {self._min_speed:g} bytes/s for {self._waited:.0f} s")
        self._received, self._waited = 0, 0.0


_limit: ContextVar[CallLimit | None] = ContextVar("call_limit", default=None)


class LimitedSession(requests.Session):
    """A session whose calls keep to a :class:`CallLimit`, without ``.netrc``, authorization and cookies.

    Proxies and CA bundles of the environment are honoured. Redirects are left to the caller.
    """

    def __init__(self) -> None:
        super().__init__()
        self.auth = _NoAuth()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def get_redirect_target(self, resp: requests.Response) -> None:
        """Nowhere: even with ``allow_redirects=False`` requests reads a redirect's whole body and parses its target."""


class _NoAuth(AuthBase):
    """Being set, it keeps requests from looking into ``~/.netrc`` and into ``user:password@`` of a link."""

    def __call__(self, r: requests.PreparedRequest) -> requests.PreparedRequest:
        return r


class _Adapter(HTTPAdapter):
    # Any: requests' own types differ between its versions.
    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _limited(pool.ConnectionCls)
        return pool


@cache
def _limited(connection_class: Any) -> Any:
    """A class of connections, of whatever kind the proxy needs, whose answers keep to the limit of their call."""
    if connection_class.response_class is _Response:
        return connection_class
    return type(connection_class.__name__, (connection_class,), {"response_class": _Response})


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        limit = _limit.get()
        if limit is not None:
            self.fp: Any = io.BufferedReader(_LimitedReader(self.fp.detach(), sock, limit))

    def begin(self) -> None:
        super().begin()
        # urllib3 logs headers that cannot be parsed, with the whole link, and they may repeat what the call sent.
        self.msg.defects = []
        self.msg.set_payload("")


class _LimitedReader(io.RawIOBase):
    def __init__(self, raw: Any, sock: Any, limit: CallLimit) -> None:
        self._raw = raw
        self._sock = sock
        self._limit = limit

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return self._limit.read(lambda: self._raw.readinto(buffer), self._sock)

    def fileno(self) -> int:
        return int(self._raw.fileno())

    def close(self) -> None:
        try:
            self._raw.close()
        finally:
            super().close()
