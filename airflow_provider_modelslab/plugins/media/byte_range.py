"""HTTP range requests (RFC 9110, section 14) for one object: which bytes a request asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["ByteRange", "UnsatisfiableRangeError", "requested_range"]

_ONE_RANGE = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*", re.ASCII | re.IGNORECASE)


class UnsatisfiableRangeError(ValueError):
    """The range begins behind the end of the object: HTTP 416."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes of an object.

    :param first: the position of the first byte, from 0.
    :param last: the position of the last byte, included.
    """

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.last - self.first + 1


def requested_range(header: str | None, size: int, *, most: int) -> ByteRange | None:
    """The range of a ``Range`` header; ``None`` for the whole object.

    A header that is invalid, has another unit or several ranges is ignored, as the RFC allows.

    :param size: bytes of the object.
    :param most: bytes to answer of a range without an end (``bytes=0-``). A player asks for the rest when it needs it,
        so one that is paused keeps no connection.
    :raises UnsatisfiableRangeError: for a range without a byte of the object.
    """
    match = _ONE_RANGE.fullmatch(header or "")
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":  # so many bytes at the end
        count = int(match[2])
        if not count or not size:
            raise UnsatisfiableRangeError(header)
        return ByteRange(max(0, size - count), size - 1)
    first = int(match[1])
    last = int(match[2]) if match[2] else first + most - 1
    if last < first:
        return None
    if first >= size:
        raise UnsatisfiableRangeError(header)
    return ByteRange(first, min(last, size - 1))
