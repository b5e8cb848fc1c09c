"""Small files that take much: memory, time, frames."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from functools import cache

from benchmarks.hostile_clips.boxes import movie, sample_table, track

__all__ = ["picture_movie", "png"]


@cache
def png(width: int, height: int, shade: int = 0, *, rows: int | None = None) -> bytes:
    """A picture of one shade of grey; it is made row by row, so that a huge one takes no memory here.

    :param rows: after how many of them the data end; by default they are whole.
    """
    packer = zlib.compressobj(1)
    row = b"\0" + bytes([shade]) * (3 * width)
    packed = b"".join(packer.compress(row) for _ in range(rows or height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def picture_movie(codec: bytes, pictures: Sequence[bytes], width: int, height: int) -> bytes:
    """An mp4 whose samples are these pictures, whatever their sizes; the header has one of its own."""
    sizes = tuple(map(len, pictures))

    def made(offset: int) -> bytes:
        table = sample_table(codec, width=width, height=height, samples=len(sizes), sizes=sizes, offset=offset)
        return movie(track(table, width=width, height=height), media=b"".join(pictures))

    return made(len(made(0)) - sum(sizes))
