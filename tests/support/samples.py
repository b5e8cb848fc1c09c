"""Small real videos, and files of any size with an mp4's frame."""

from __future__ import annotations

import functools
import io
import struct

import numpy as np

from airflow_provider_modelslab.testing.clips import gradient_frames, small_mp4

__all__ = ["branded", "framed_mp4", "mp4_box", "small_gif", "small_mp4"]


@functools.cache
def small_gif(*, frames: int = 4, size: int = 32) -> bytes:
    """An endless animation of a few kB with local colour tables."""
    first, *rest = gradient_frames(frames, size)
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
