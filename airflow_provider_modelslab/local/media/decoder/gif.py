"""Decoding of gifs by Pillow."""

from __future__ import annotations

import struct
from fractions import Fraction
from itertools import accumulate
from typing import IO, Any

from airflow_provider_modelslab.local.media.decoder.frames import (
    DamagedError,
    Frames,
    UnreadableError,
    choose_frames,
    flatten,
)
from airflow_provider_modelslab.local.media.decoder.video import read_video

__all__ = ["gif_delays", "read_gif"]

_DEFAULT_DELAY = 100  # milliseconds: what browsers take for a delay of 0


def read_gif(clip: IO[bytes], job: dict[str, Any], frames: Frames) -> tuple[list[int], float]:
    """Send the frames; the order in which to show them, and frames per second.

    One whose first frame is damaged is given to FFmpeg, which takes more; but a part of one frame is no clip.
    """
    import av
    from PIL import Image

    try:
        return _read_by_pillow(clip, job, frames)
    except (UnreadableError, MemoryError, BrokenPipeError, Image.DecompressionBombError):
        raise
    except Exception as damage:  # Pillow raises nearly everything for damaged files
        try:
            order, fps = read_video(clip, job, frames, "gif")
        except (UnreadableError, av.FFmpegError):
            raise damage from None
        if frames.total == 1:
            raise
        return order, fps


def _read_by_pillow(clip: IO[bytes], job: dict[str, Any], frames: Frames) -> tuple[list[int], float]:
    """Send the frames by Pillow; the order in which to show them, and frames per second."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = job["max_frame_pixels"]
    width, height = struct.unpack("<HH", clip.read(10)[6:].ljust(4, b"\0"))
    delays = gif_delays(clip, job["max_frames"] + 1)
    frames.check(width, height, max(1, len(delays)))
    total = _count_frames(clip)
    while True:
        starts = [0, *accumulate(delays[:total])]
        order = choose_frames(
            job, starts[:-1] if len(starts) > total else [None] * total, starts[-1], Fraction(1, 1000)
        )
        frames.begin(order, total)
        clip.seek(0)
        milliseconds = 0.0
        with Image.open(clip, formats=["GIF"]) as gif:
            frames.check(*gif.size, total)
            try:
                for index in range(max(order) + 1):
                    gif.seek(index)
                    gif.load()
                    if index and gif.width * gif.height > job["max_frame_pixels"]:
                        raise DamagedError  # it is larger than the ones before
                    frames.check(*gif.size, total)
                    milliseconds += gif.info.get("duration") or _DEFAULT_DELAY
                    if frames.is_next_wanted(*gif.size):
                        frames.send(flatten(gif))
            except (UnreadableError, MemoryError, BrokenPipeError):
                raise
            except Exception:
                if not index:
                    raise
                total = index  # it is shown as far as it goes, as in browsers
                continue
        return order, (index + 1) * 1000 / milliseconds


def gif_delays(clip: IO[bytes], most: int) -> list[int]:
    """How long each picture of a gif is shown in milliseconds, as far as its blocks are in order.

    Pillow takes ten times as long to count them, and knows no end.
    """
    clip.seek(0)
    read = clip.read
    delays: list[int] = []
    delay = 0
    _skip_colours(clip, read(13)[10:11])
    while len(delays) < most:
        kind = read(1)
        if kind == b",":
            delays.append(10 * delay or _DEFAULT_DELAY)
            delay = 0
            _skip_colours(clip, read(9)[8:9])
        elif kind != b"!":
            break
        is_control = read(1) == b"\xf9" and kind == b"!"
        while (length := read(1)) and length != b"\0":
            block = read(length[0])
            if is_control:
                delay = int.from_bytes(block[1:3], "little")
    return delays


def _skip_colours(clip: IO[bytes], flags: bytes) -> None:
    if flags and flags[0] & 0x80:
        clip.read(3 << (flags[0] & 7) + 1)


def _count_frames(clip: IO[bytes]) -> int:
    from PIL import Image

    clip.seek(0)
    with Image.open(clip, formats=["GIF"]) as gif:
        try:
            return int(getattr(gif, "n_frames", 1))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - Pillow raises nearly everything for damaged files
            return gif.tell() + 1
