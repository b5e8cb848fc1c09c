"""Tiny clips as phones, cameras and editors write them."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from benchmarks.hostile_clips.boxes import places

__all__ = ["codes_as_frame", "set_display_matrix", "shift_edit", "write_frames"]

_UNIT = Fraction(1, 30000)
_MATRIX = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def write_frames(
    path: Path,
    frames: Sequence[av.VideoFrame],
    *,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    aspect: Fraction | None = None,
    tags: tuple[int, int, int] | None = None,
) -> None:
    """Encode them; the suffix of the path is the container.

    :param times: of the frames in seconds, by default 25 a second.
    :param aspect: of each pixel.
    :param tags: H.273's numbers of primaries, transfer function and matrix.
    """
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    times = times or [number / 25 for number in range(len(frames))]
    last = times[-1] - times[-2] if len(times) > 1 else 0.04  # how long the last frame is shown
    with av.open(str(path), "w", format=path.suffix[1:]) as container:
        stream: Any = container.add_stream(codec, rate=Fraction(1 / last).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, frames[0].format.name
        stream.codec_context.time_base = _UNIT
        stream.options = {"crf": "4", **options}
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if tags is not None:
            context = stream.codec_context
            context.color_primaries, context.color_trc, context.colorspace = tags
        for number, frame in enumerate(frames):
            frame.pts = round(times[number] / _UNIT)
            frame.time_base = _UNIT
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def codes_as_frame(codes: Any, kr: float, kb: float, *, form: str, side: int | None = None) -> Any:
    """Patches side by side, each of one colour, as YUV of limited range.

    :param codes: R'G'B' of each patch, 0 to 1.
    :param kr: how much red there is in luma, and ``kb`` blue.
    :param form: ``yuv420p`` or ``yuv420p10le``.
    :param side: of a patch in pixels, even; by default 64 with 10 bits and 16 else. libx265 writes beyond its memory
        for pictures smaller than 64 pixels.
    """
    deep = form.endswith("10le")
    side = side or (64 if deep else 16)
    red, green, blue = np.asarray(codes, float).T
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    planes = (16 + 219 * luma, 128 + 112 * (blue - luma) / (1 - kb), 128 + 112 * (red - luma) / (1 - kr))
    frame = av.VideoFrame(side * len(codes), side, form)
    for plane, values, across in zip(frame.planes, planes, (side, side // 2, side // 2), strict=True):
        dtype = np.uint16 if deep else np.uint8
        rows = np.zeros((plane.height, plane.line_size // dtype().itemsize), dtype)
        rows[:, : across * len(codes)] = np.repeat(np.round(values * (4 if deep else 1)), across)
        plane.update(rows.tobytes())
    return frame


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Have it shown so that x becomes ax + cy and y becomes bx + dy; x goes right and y down."""
    data = path.read_bytes()
    at = data.index(_MATRIX, data.index(b"tkhd"))
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + matrix + data[at + len(matrix) :])


def shift_edit(path: Path, seconds: Fraction) -> None:
    """Let the video begin so much later in what was filmed, as phones do when a clip is trimmed."""
    data = bytearray(path.read_bytes())
    for start, scale in zip(_of(data, b"elst"), _of(data, b"mdhd"), strict=True):
        (units,) = struct.unpack_from(">I", data, scale + 20)
        (begin,) = struct.unpack_from(">i", data, start + 20)
        struct.pack_into(">i", data, start + 20, begin + round(units * seconds))
    path.write_bytes(data)


def _of(data: bytearray, kind: bytes) -> Iterator[int]:
    return (place.start for place in places(bytes(data)) if place.kind == kind)
