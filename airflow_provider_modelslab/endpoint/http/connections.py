"""How long a connection may take for a request, and how many there may be. uvicorn bounds neither.

uvicorn's ``limit_concurrency`` would answer 503 to everybody once one caller holds so many connections. Here the
connections that hold no request give way to new ones instead.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter, OrderedDict
from dataclasses import dataclass
from typing import Any

__all__ = ["ConnectionLimits", "Connections", "guarded", "raise_file_limit"]

_MAX_HEAD_BYTES = 1 << 16
_RESERVED_FILES = 128  # for the queue, results, clips and calls of others
_MOST_FILES = 65_536
_MOST_CONNECTIONS = 2_000


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Times are seconds.

    :param request_s: from the accept, or the end of the last answer, to the last byte of a request.
    :param write_s: that a client may read nothing of an answer.
    :param most: connections at a time. Beyond it the one closes that has waited longest without a whole request, of
        the address with the most such connections. Where all have a request in work, the new one gets HTTP 503.
    """

    request_s: float = 20.0
    write_s: float = 30.0
    most: int = _MOST_CONNECTIONS


def raise_file_limit() -> int:
    """Allow this process as many open files as the system lets it; returns how many connections leave enough over."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    # Each may have a file open beside its socket.
    return (
        _MOST_CONNECTIONS if soft == resource.RLIM_INFINITY else min((soft - _RESERVED_FILES) // 2, _MOST_CONNECTIONS)
    )


class Connections:
    """The open connections of a server, used in its event loop."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._open: set[Any] = set()
        self._idle: OrderedDict[Any, str] = OrderedDict()

    def add(self, connection: Any) -> bool:
        """A new connection; ``False`` when there is no room for it."""
        self._open.add(connection)
        if len(self._open) <= self.limits.most:
            return True
        if not self._idle:
            return False
        (peer, _), *_ = Counter(self._idle.values()).most_common(1)
        next(other for other, address in self._idle.items() if address == peer).give_way()
        return True

    def set_idle(self, connection: Any, peer: str, *, idle: bool) -> None:
        """Whether the connection may be closed for others."""
        self._idle.pop(connection, None)
        if idle:
            self._idle[connection] = peer

    def remove(self, connection: Any) -> None:
        """The connection is closed, or about to be."""
        self._open.discard(connection)
        self._idle.pop(connection, None)


class _Guard:
    """What :func:`guarded` adds to one of uvicorn's HTTP protocols."""

    # Of uvicorn's protocols, both of which have them.
    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    cycle: Any
    client: tuple[str, int] | None

    registry: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)  # type: ignore[misc]
        self._timer: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._unread = 0
        if self.registry.add(self):
            self._expect_request()
        else:
            self._refuse(b"503 Service Unavailable")

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel()
        self.registry.remove(self)
        super().connection_lost(exc)  # type: ignore[misc]

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self._unread += len(data)
        super().data_received(data)  # type: ignore[misc]
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()  # type: ignore[misc]
        if not self.transport.is_closing():
            self._expect_request()
            self._look()  # the next request may have come already

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._stalled = self.loop.call_later(self.registry.limits.write_s, self.transport.abort)
        self.registry.set_idle(self, self._peer, idle=True)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        self.registry.set_idle(self, self._peer, idle=self._timer is not None)

    def give_way(self) -> None:
        """Close for another connection."""
        self._cancel()
        self.registry.remove(self)
        self.transport.abort()

    @property
    def _peer(self) -> str:
        return self.client[0] if self.client else ""

    @property
    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        if self._has_request:
            self._unread = 0
            if not self.cycle.more_body and self._timer is not None:
                self._timer.cancel()
                self._timer = None
                self.registry.set_idle(self, self._peer, idle=False)
        elif self._unread > _MAX_HEAD_BYTES:
            self._refuse(b"431 Request Header Fields Too Large")

    def _expect_request(self) -> None:
        self._unread = 0
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.registry.limits.request_s, self._is_late)
        self.registry.set_idle(self, self._peer, idle=True)

    def _is_late(self) -> None:
        answer = self._unread > 0 or (self._has_request and not self.cycle.response_started)
        self._refuse(b"408 Request Timeout" if answer else None)

    def _refuse(self, status: bytes | None) -> None:
        self._cancel()
        self.registry.remove(self)
        if self.transport.is_closing():
            return
        if self.transport.get_write_buffer_size():
            self.transport.abort()  # a client that does not read would never let it close
            return
        if status is not None:
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        self.transport.close()

    def _cancel(self) -> None:
        for timer in (self._timer, self._stalled):
            if timer is not None:
                timer.cancel()
        self._timer = self._stalled = None


def guarded(protocol: type[asyncio.Protocol], connections: Connections) -> type[asyncio.Protocol]:
    """One of uvicorn's HTTP protocols whose connections keep to the limits.

    :param connections: where those of one server are counted.
    """
    return type(f"Guarded{protocol.__name__}", (_Guard, protocol), {"registry": connections})
