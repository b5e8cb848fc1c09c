"""Small real videos, and files of any size with an mp4's frame."""

from __future__ import annotations

import functools
import io
import struct
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

__all__ = ["branded", "framed_mp4", "mp4_box", "small_gif", "small_mp4"]


def _pictures(count: int, size: int) -> list[Image.Image]:
    """A gradient that moves: neighbouring pictures differ, as in a real clip."""
    row = np.arange(size, dtype=np.uint16)
    pictures = []
    for number in range(count):
        plane = (row[None, :] * 3 + row[:, None] * 2 + number * 17) % 256
        pictures.append(Image.fromarray(np.stack([plane, plane.T, 255 - plane], axis=-1).astype(np.uint8)))
    return pictures


@functools.cache
def small_mp4(*, frames: int = 6, size: int = 64, faststart: bool = False) -> bytes:
    """A clip of a few kB at 8 fps; with ``faststart`` its index comes before the media."""
    options = {"movflags": "faststart"} if faststart else {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")  # faststart reads its own output again, so it must be a file
        with av.open(str(path), "w", format="mp4", options=options) as container:
            stream = container.add_stream("mpeg4", rate=8)
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
            for picture in _pictures(frames, size):
                frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


@functools.cache
def small_gif(*, frames: int = 4, size: int = 32) -> bytes:
    """An endless animation of a few kB with local colour tables."""
    first, *rest = _pictures(frames, size)
    out = io.BytesIO()
    first.save(out, "GIF", save_all=True, append_images=rest, duration=125, loop=0)
    return out.getvalue()


def mp4_box(kind: bytes, payload: bytes = b"", *, large: bool = False) -> bytes:
    """One box; ``large`` writes its size with 64 bits."""
    if large:
        return struct.pack(">I4sQ", 1, kind, len(payload) + 16) + payload
    return struct.pack(">I4s", len(payload) + 8, kind) + payload


def framed_mp4(size: int, *, large: bool = False) -> bytes:
    """``size`` bytes in all: ftyp, a moov without content, and one mdat with a pattern that repeats nowhere near."""
    head = mp4_box(b"ftyp", b"isom\0\0\0\0isom") + mp4_box(b"moov")
    payload = size - len(head) - (16 if large else 8)
    words = np.arange(payload // 4 + 1, dtype="<u4").tobytes()[:payload]
    return head + mp4_box(b"mdat", words, large=large)


def branded(major: bytes, *compatible: bytes, large: bool = False) -> bytes:
    """A whole mp4 by its boxes, with these brands in its ``ftyp``."""
    ftyp = mp4_box(b"ftyp", major + b"\0\0\0\0" + b"".join(compatible), large=large)
    return ftyp + mp4_box(b"moov") + mp4_box(b"mdat", b"media")
