"""Verifies that a stream is a complete mp4 or GIF, chunk by chunk, without storing it.

A truncated download is a prefix of the file, and without ``Content-Length`` HTTP does not reveal it. Both containers
define where they end: an mp4 is a sequence of boxes with sizes (ISO/IEC 14496-12), a GIF a sequence of blocks up to a
trailer (GIF89a specification). So a parser follows their headers.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from typing import Literal, NamedTuple

from airflow_provider_modelslab.api.brands import BRAND_BYTES, describe_non_video

__all__ = ["CONTENT_TYPES", "ContainerError", "ContainerKind", "ContainerVerifier", "describe_start", "sniff"]

ContainerKind = Literal["mp4", "gif"]

CONTENT_TYPES: dict[ContainerKind, str] = {"mp4": "video/mp4", "gif": "image/gif"}

SNIFF_BYTES = 8
"""How many bytes :func:`sniff` needs."""

_STARTS = (
    (b"<!doctyp", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<?xml", "an XML document"),
    (b"{", "JSON"),
    (b"[", "JSON"),
    (b"\x89png", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"riff", "a RIFF file (WebP or AVI)"),
    (b"\x1aE\xdf\xa3".lower(), "a WebM or Matroska video"),
    (b"\x1f\x8b", "gzip data"),
    (b"pk\x03\x04", "a ZIP archive"),
)


class ContainerError(ValueError):
    """The stream is not an mp4 or GIF, or is not complete. The text says what it is instead."""


def sniff(start: bytes) -> ContainerKind | None:
    """The container that the first 8 bytes indicate, or ``None``; the brands say what an mp4 contains."""
    if start[4:8] == b"ftyp":
        return "mp4"
    return "gif" if start[:6] in {b"GIF87a", b"GIF89a"} else None


def describe_start(start: bytes) -> str:
    """A description of the first bytes as a file type; nothing of the content is repeated."""
    if not start:
        return "nothing (0 bytes)"
    if (instead := describe_non_video(start)) is not None:
        return instead
    lowered = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, name in _STARTS:
        if lowered.startswith(magic):
            return name
    return f"data that begins with the bytes {start[:8].hex(' ')}"


class _Step(NamedTuple):
    """The next bytes that the parser needs.

    :param size: so many bytes; ``None`` is everything up to the end.
    :param where: the position, for the message about a truncated file.
    :param keep: pass the bytes to the parser, rather than skip them.
    :param may_end: the file may be complete where this step begins.
    """

    size: int | None
    where: str
    keep: bool = False
    may_end: bool = False


_Parser = Generator[_Step, bytes, None]


class ContainerVerifier:
    """Verifies a file. Call :meth:`feed` with chunks of any size, then :meth:`finish`.

    A box of size 0 ("up to the end of the file") cannot show a cut inside itself; everything else can.
    """

    def __init__(self) -> None:
        self.kind: ContainerKind | None = None
        self._start = bytearray()
        self._parser: _Parser | None = None
        self._step = _Step(SNIFF_BYTES, "the first 8 bytes", keep=True)
        self._missing: int | None = SNIFF_BYTES
        self._kept = bytearray()
        self._seen = 0

    @property
    def content_type(self) -> str:
        """The MIME type of what came; known once :attr:`kind` is."""
        return CONTENT_TYPES[self.kind] if self.kind else "application/octet-stream"

    def feed(self, chunk: bytes) -> None:
        """Check the next bytes.

        :raises ContainerError: when they cannot be part of an mp4 or GIF.
        """
        if len(self._start) < SNIFF_BYTES:
            self._start += chunk[: SNIFF_BYTES - len(self._start)]
        view = memoryview(chunk)
        while view and self._missing is not None:
            taken = view[: self._missing]
            if self._step.keep:
                self._kept += taken
            self._seen += len(taken)
            self._missing -= len(taken)
            view = view[len(taken) :]
            if self._missing == 0:
                self._advance()
        self._seen += len(view)

    def finish(self) -> ContainerKind:
        """End the stream, and return its container.

        :raises ContainerError: when the file is truncated, with the position.
        """
        if self.kind is None:
            raise ContainerError(f"the stream is not an mp4 or gif: it is {describe_start(bytes(self._start))}")
        untouched = self._missing is None or self._missing == self._step.size
        if not (self._step.may_end and untouched):
            raise ContainerError(f"the {self.kind} is cut off after {self._seen} bytes, in {self._step.where}")
        return self.kind

    def _advance(self) -> None:
        """Pass the requested bytes to the parser, and get its next step; steps of size 0 are done at once."""
        while self._missing == 0:
            kept, self._kept = bytes(self._kept), bytearray()
            if self._parser is None:
                self.kind = sniff(kept)
                if self.kind is None:
                    raise ContainerError(f"the stream is not an mp4 or gif: it is {describe_start(kept)}")
                self._parser = _parse_mp4(kept) if self.kind == "mp4" else _parse_gif(kept)
                self._step = next(self._parser)
            else:
                self._step = self._parser.send(kept)
            self._missing = self._step.size


def _parse_mp4(header: bytes) -> _Parser:
    """Parse box after box. A file is complete at the end of a box, after the index (moov) and the media (mdat)."""
    seen: set[bytes] = set()
    while True:
        size, box = struct.unpack(">I4s", header)
        name = f"the box {box.decode('latin-1')!r}"
        seen.add(box)
        whole = {b"moov", b"mdat"} <= seen
        rest: int | None = size - 8
        if size == 1:
            header += yield _Step(8, f"the size of {name}", keep=True)
            rest = struct.unpack(">Q", header[8:])[0] - 16
        elif size == 0:
            rest = None
        if rest is not None and rest < 0:
            raise ContainerError(f"the mp4 is damaged: {name} has an impossible size")
        if box == b"ftyp" and rest is not None:
            brands = yield _Step(min(rest, BRAND_BYTES), name, keep=True)
            if (instead := describe_non_video(header + brands)) is not None:
                raise ContainerError(f"the stream is not a video: it is {instead}")
            rest -= len(brands)
        yield _Step(rest, name, may_end=rest is None and whole)
        missing = " and ".join(sorted(repr(b.decode()) for b in {b"moov", b"mdat"} - seen))
        where = "a box header" if whole else f"the sequence of boxes ({missing} is missing)"
        header = yield _Step(8, where, keep=True, may_end=whole)


def _parse_gif(start: bytes) -> _Parser:
    """Parse blocks up to the trailer (0x3B). Bytes after it are ignored, as all readers do."""
    screen = start[6:] + (yield _Step(5, "the screen descriptor", keep=True))
    yield _Step(_color_table_bytes(screen[4]), "the global colour table")
    while True:
        introducer = yield _Step(1, "the sequence of blocks (the trailer is missing)", keep=True)
        if introducer == b";":
            break
        if introducer == b"!":
            yield _Step(1, "an extension")
        elif introducer == b",":
            image = yield _Step(9, "an image descriptor", keep=True)
            yield _Step(_color_table_bytes(image[8]), "a local colour table")
            yield _Step(1, "the LZW code size")
        else:
            raise ContainerError(f"the gif is damaged: no block begins with 0x{introducer.hex()}")
        while length := (yield _Step(1, "the data blocks", keep=True))[0]:
            yield _Step(length, "a data block")
    yield _Step(None, "the end", may_end=True)


def _color_table_bytes(packed: int) -> int:
    return 3 * 2 ** ((packed & 0x07) + 1) if packed & 0x80 else 0
