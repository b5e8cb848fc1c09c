"""Sends an S3 object through the API server, for browsers that cannot reach the bucket.

The caller has verified that the user may see the object. Memory and threads are bounded. An object is read in pieces of
half a MiB; each is a ranged GET in one of a few threads. A client that reads slowly holds neither a thread nor a
connection to S3, and nothing blocks the event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from fastapi import Response
from fastapi.responses import StreamingResponse

from airflow_provider_modelslab.plugins.media.byte_range import ByteRange, UnsatisfiableRangeError, requested_range

if TYPE_CHECKING:
    from fastapi import Request
    from mypy_boto3_s3 import S3Client
    from starlette.types import Message, Receive, Scope, Send

    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["MEDIA_HEADERS", "PIECE", "media_type", "stream_object"]

log = logging.getLogger(__name__)

PIECE = 512 * 1024
"""Bytes that are in memory of each answer."""

_OPEN_RANGE = 4 * 1024 * 1024  # bytes of the answer to a range without an end
_READERS = 8  # threads that read from S3, in each process of the API server
_MOST_ANSWERS = 64  # answers of more than one piece at a time, in each process
_STALLED_AFTER = 60.0  # seconds in which a client takes nothing, after which its connection is closed

_TYPES = {".gif": "image/gif", ".webm": "video/webm", ".mov": "video/quicktime"}

MEDIA_HEADERS = {
    # An object that is no video must not run a script in Airflow's origin, whatever the browser takes it for.
    # Without allow-same-origin a browser that plays the object as a page of its own would not send the login.
    "Content-Security-Policy": (
        "default-src 'none'; media-src 'self'; img-src 'self'; style-src 'unsafe-inline'; "
        "frame-ancestors 'self'; sandbox allow-same-origin"
    ),
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Accept-Ranges": "bytes",
    # Kept by the browser, which asks each time whether it may still be shown and is the same.
    "Cache-Control": "private, no-cache",
    # The API server would compress it: that helps no video, and a part of a compressed object is of no use.
    "Content-Encoding": "identity",
}
"""Of every answer with the bytes of an object."""


def media_type(key: str) -> str:
    """The content type of a clip: always that of a video or a gif, whatever is stored under this name."""
    return _TYPES.get(PurePosixPath(key).suffix.lower(), "video/mp4")


def stream_object(s3: S3Client, uri: S3Uri, request: Request, *, content_type: str, size: int, etag: str) -> Response:
    """The answer to a GET or HEAD: 200, 206, 304, 412 or 416; 503 while too many clips are sent.

    To be called in a thread: it reads the first piece, so that an error of S3 can still become a status.

    :param size: bytes of the object, as S3 said.
    :param etag: of the object, with quotes. If the object is replaced meanwhile, the answer is cut off.
    :raises botocore.exceptions.BotoCoreError, ClientError: when S3 refuses.
    """
    name = PurePosixPath(uri.key).name
    headers = {
        **MEDIA_HEADERS,
        "ETag": etag,
        "Content-Type": content_type,
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(name, safe='')}",
    }
    if etag in _tags(request.headers.get("If-None-Match")):
        return Response(status_code=304, headers=headers)
    wanted = request.headers.get("Range")
    if request.headers.get("If-Range", etag) != etag:
        wanted = None
    try:
        part = requested_range(wanted, size, most=_OPEN_RANGE)
    except UnsatisfiableRangeError:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{size}"})
    status = 200
    if part is not None:
        status = 206
        headers["Content-Range"] = f"bytes {part.first}-{part.last}/{size}"
    part = part or ByteRange(0, size - 1)
    headers["Content-Length"] = str(part.length)
    if request.method == "HEAD" or not part.length:
        return Response(status_code=status, headers=headers)

    def read(first: int) -> bytes:
        last = min(part.last, first + PIECE - 1)
        found = s3.get_object(Bucket=uri.bucket, Key=uri.key, Range=f"bytes={first}-{last}", IfMatch=etag)
        body = found["Body"].read()
        if len(body) != last - first + 1:
            raise OSError(f"S3 sent {len(body)} bytes of {last - first + 1}")
        return body

    first = read(part.first)
    if len(first) == part.length:
        return Response(first, status, headers)
    return _Pieces(first, part, read, status, headers, str(uri))


class _Pieces(StreamingResponse):
    """An answer of several pieces."""

    running = 0
    readers = ThreadPoolExecutor(_READERS, thread_name_prefix="modelslab-media")

    def __init__(
        self,
        first: bytes,
        part: ByteRange,
        read: Callable[[int], bytes],
        status: int,
        headers: dict[str, str],
        name: str,
    ) -> None:
        super().__init__(self._pieces(first, part, read), status, headers)
        self._name = name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _Pieces.running >= _MOST_ANSWERS:
            busy = Response("Too many clips are sent at the moment", 503, {"Retry-After": "2"}, "text/plain")
            await busy(scope, receive, send)
            return
        _Pieces.running += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            _Pieces.running -= 1

    async def stream_response(self, send: Send) -> None:
        async def patiently(message: Message) -> None:
            async with asyncio.timeout(_STALLED_AFTER):
                await send(message)

        await super().stream_response(patiently)

    async def _pieces(self, first: bytes, part: ByteRange, read: Callable[[int], bytes]) -> AsyncIterator[bytes]:
        yield first
        position = part.first + len(first)
        while position <= part.last:
            try:
                piece = await asyncio.get_running_loop().run_in_executor(self.readers, read, position)
            except Exception as error:  # the status was sent long ago
                log.warning("%s was not sent completely: %s", self._name, type(error).__name__)
                raise
            yield piece
            position += len(piece)


def _tags(header: str | None) -> set[str]:
    """The entity tags of ``If-None-Match``, which compares weakly."""
    return {tag.strip().removeprefix("W/") for tag in (header or "").split(",")}
