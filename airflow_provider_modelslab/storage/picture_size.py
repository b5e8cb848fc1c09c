"""The size of a clip's picture, from its headers: some kB of the file, wherever they are in it.

An mp4 is a sequence of boxes in boxes (ISO/IEC 14496-12). The size is in the header of the video track, which is often
at the end of the file; everything before it is skipped. A GIF says it in its first bytes.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from airflow_provider_modelslab.api.aspect import Size

__all__ = ["ReadPiece", "picture_size"]

ReadPiece = Callable[[int, int], bytes]
"""Reads so many bytes from an offset on; fewer where the file ends, and none where that cannot be read."""

_PIECE = 4096
_MAX_READS = 6
_MAX_BOXES = 200


def picture_size(start: bytes, read: ReadPiece) -> Size | None:
    """Width and height in pixels as players show the clip, turned if it says so; ``None`` where it does not say.

    :param start: the first bytes of the file.
    :param read: called up to six times, where they are not enough.
    """
    try:
        size = struct.unpack_from("<HH", start, 6) if start.startswith(b"GIF8") else _mp4_size(_Headers(start, read))
    except (_NotFoundError, struct.error):
        return None
    return size if size is not None and min(size) > 0 else None


class _NotFoundError(Exception):
    """The file ends, is damaged, or takes too many reads."""


class _Box(NamedTuple):
    kind: bytes
    body: int
    end: float


class _Headers:
    """What was read of a file."""

    def __init__(self, start: bytes, read: ReadPiece) -> None:
        self._pieces = [(0, start)]
        self._read = read

    def get(self, at: int, size: int) -> bytes:
        for begin, piece in self._pieces:
            if begin <= at and at + size <= begin + len(piece):
                return piece[at - begin : at - begin + size]
        if len(self._pieces) > _MAX_READS:
            raise _NotFoundError
        piece = self._read(at, _PIECE)
        if len(piece) < size:
            raise _NotFoundError
        self._pieces.append((at, piece))
        return piece[:size]

    def boxes(self, at: int, end: float) -> Iterator[_Box]:
        """The boxes between two offsets; at the end of the file an error."""
        for _ in range(_MAX_BOXES):
            if at + 8 > end:
                return
            size, kind = struct.unpack(">I4s", self.get(at, 8))
            body = at + 8
            if size == 1:
                size, body = struct.unpack(">Q", self.get(body, 8))[0], at + 16
            last = end if size == 0 else min(at + size, end)
            if last < body:
                raise _NotFoundError
            yield _Box(kind, body, last)
            if last == math.inf:
                return
            at = int(last)

    def first(self, kind: bytes, within: _Box | None = None) -> _Box | None:
        found = self.boxes(within.body, within.end) if within else self.boxes(0, math.inf)
        return next((box for box in found if box.kind == kind), None)


def _mp4_size(headers: _Headers) -> Size | None:
    movie = headers.first(b"moov")
    if movie is None:
        return None
    for track in headers.boxes(movie.body, movie.end):
        if track.kind != b"trak":
            continue
        header, media = headers.first(b"tkhd", track), headers.first(b"mdia", track)
        handler = headers.first(b"hdlr", media) if media else None
        if header is None or handler is None or headers.get(handler.body + 8, 4) != b"vide":
            continue
        # The header ends with a matrix and the size, in fixed-point numbers.
        a, b, _, c, d, _, _, _, _, width, height = struct.unpack(">9i2I", headers.get(int(header.end) - 44, 44))
        is_turned = a == d == 0 and b and c
        return (height >> 16, width >> 16) if is_turned else (width >> 16, height >> 16)
    return None
