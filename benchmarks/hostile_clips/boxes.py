"""An mp4 as a row of boxes (ISO/IEC 14496-12): taken apart, and put together with lies."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["FTYP", "Place", "box", "full_box", "movie", "places", "sample_table", "track"]

_PARENTS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"moof", b"traf", b"mvex"}
_MATRIX = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


class Place(NamedTuple):
    """Where a box is: its first byte, its length with the head, its kind."""

    start: int
    length: int
    kind: bytes


def box(kind: bytes, *parts: bytes) -> bytes:
    """A box with these contents."""
    content = b"".join(parts)
    return struct.pack(">I4s", 8 + len(content), kind) + content


def full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    """A box with a version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp42")


def places(data: bytes, start: int = 0, end: int | None = None) -> Iterator[Place]:
    """Every box between two places, those in others too, as far as the sizes make sense."""
    end = len(data) if end is None else end
    while start + 8 <= end:
        length, kind = struct.unpack_from(">I4s", data, start)
        if length < 8 or start + length > end:
            return
        yield Place(start, length, kind)
        if kind in _PARENTS:
            yield from places(data, start + 8, start + length)
        start += length


def movie(*tracks: bytes, more: bytes = b"", media: bytes = b"") -> bytes:
    """A whole mp4 whose index comes first."""
    header = full_box(b"mvhd", struct.pack(">IIII", 0, 0, 1000, 1000), _mvhd_rest())
    moov = box(b"moov", header, *tracks, more)
    return FTYP + moov + box(b"mdat", media)


def track(table: bytes, *, width: int = 64, height: int = 48, reference: bytes | None = None) -> bytes:
    """A video track with a sample table.

    :param reference: instead of the entry of ``dref`` that says that the media are in this file.
    """
    tkhd = full_box(
        b"tkhd",
        struct.pack(">IIIII", 0, 0, 1, 0, 1000) + bytes(8) + bytes(8) + _MATRIX,
        struct.pack(">II", width << 16, height << 16),
        flags=3,
    )
    mdhd = full_box(b"mdhd", struct.pack(">IIIIHH", 0, 0, 25, 25, 0x55C4, 0))
    hdlr = full_box(b"hdlr", bytes(4) + b"vide" + bytes(12) + b"v\0")
    dref = full_box(b"dref", struct.pack(">I", 1), reference or full_box(b"url ", flags=1))
    minf = box(b"minf", full_box(b"vmhd", bytes(8), flags=1), box(b"dinf", dref), table)
    return box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, minf))


def sample_table(
    codec: bytes,
    *,
    width: int = 64,
    height: int = 48,
    samples: int = 1,
    sample_size: int = 0,
    sizes: tuple[int, ...] = (),
    offset: int = 0,
    extra: bytes = b"",
) -> bytes:
    """``stbl`` for samples that lie one after the other.

    :param codec: its four letters.
    :param sample_size: of each; 0 means that ``sizes`` says so.
    :param offset: of the first one in the file.
    :param extra: boxes behind the sample entry's fields.
    """
    entry = (
        bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HH", width, height)
        + struct.pack(">IIIH", 0x480000, 0x480000, 0, 1) + bytes(32) + struct.pack(">Hh", 24, -1)
    )  # fmt: skip
    return box(
        b"stbl",
        full_box(b"stsd", struct.pack(">I", 1), box(codec, entry, extra)),
        full_box(b"stts", struct.pack(">III", 1, samples, 1)),
        full_box(b"stsc", struct.pack(">IIII", 1, 1, samples, 1)),
        full_box(b"stsz", struct.pack(">II", sample_size, samples), *(struct.pack(">I", size) for size in sizes)),
        full_box(b"stco", struct.pack(">II", 1, offset)),
    )


def _mvhd_rest() -> bytes:
    return struct.pack(">IH", 0x10000, 0x100) + bytes(10) + _MATRIX + bytes(24) + struct.pack(">I", 2)
