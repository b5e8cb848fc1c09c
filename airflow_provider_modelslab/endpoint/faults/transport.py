"""What faults do to the socket: resets, silence, cut files. Only while faults are switched on."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from fastapi.responses import FileResponse, Response
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_provider_modelslab.endpoint.faults.injector import BrokenFile

__all__ = ["FaultyProtocol", "Hang", "Malformed", "Reset", "file_response"]

_CONNECTION = "modelslab_endpoint_connection"
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, after 0 seconds
_ERROR_PAGE = "<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head><body>Bad Gateway</body></html>"


@dataclass(frozen=True, slots=True)
class _Connection:
    """The TCP connection of a request."""

    transport: asyncio.Transport

    def reset(self) -> None:
        """Drop it with a RST, and what was not sent yet."""
        sock = cast("socket.socket", self.transport.get_extra_info("socket"))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.transport.abort()

    def close(self) -> None:
        """Send what there is, then end it."""
        self.transport.close()


class FaultyProtocol(H11Protocol):
    """uvicorn's protocol, which lets the app at the connection: ASGI has no word for dropping one."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the connection where requests find it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, _CONNECTION: _Connection(transport)}


class Reset(Response):
    """A TCP reset in place of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Drop the connection."""
        _connection(scope).reset()
        await _gone(receive)


class Hang(Response):
    """No answer at all, and in the end a closed connection.

    :param wait: returns when it has been long enough, or when the awaitable that it gets, the client's going, is done.
    """

    def __init__(self, wait: Callable[[Awaitable[Any]], Awaitable[None]]) -> None:
        super().__init__()
        self._wait = wait

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait, and close the connection."""
        await self._wait(_gone(receive))
        _connection(scope).close()
        await _gone(receive)


class Malformed(Response):
    """The first half of a JSON body, as if it were all."""

    media_type = "application/json"

    def __init__(self, body: dict[str, Any], status: int) -> None:
        text = json.dumps(body)
        super().__init__(text[: len(text) // 2], status)


class _Truncated(FileResponse):
    """A file's headers and its beginning; then the connection is closed."""

    keep = 1.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send less than was announced."""
        left = 0

        async def cut(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                length = int(dict(message["headers"])[b"content-length"])
                left = min(int(length * self.keep), length - 1)
                await send(message)
            elif left > 0:
                part = message["body"][:left]
                left -= len(part)
                await send({**message, "body": part, "more_body": True})

        if scope["method"] == "HEAD":
            await super().__call__(scope, receive, send)
            return
        await super().__call__(scope, receive, cut)
        _connection(scope).close()
        await _gone(receive)


def file_response(path: Path, media_type: str, broken: BrokenFile | None) -> Response:
    """A file, or what is sent in its place."""
    if broken is None:
        return FileResponse(path, media_type=media_type)
    if broken.how == "truncated":
        response = _Truncated(path, media_type=media_type)
        response.keep = broken.keep
        return response
    if broken.how == "html":
        return Response(_ERROR_PAGE, media_type="text/html")
    return Response(random.Random(broken.token).randbytes(path.stat().st_size), media_type=media_type)


def _connection(scope: Scope) -> _Connection:
    connection = scope.get("state", {}).get(_CONNECTION)
    if not isinstance(connection, _Connection):
        raise TypeError("Faults of the connection need the server of this package (EndpointServer)")
    return connection


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
