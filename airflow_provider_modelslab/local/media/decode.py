"""A clip as pictures: just the frames that are wanted, as RGB, at the size that is wanted.

Clips are not trusted: another process decodes them, see :mod:`~.decoder`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import JobFailedError
from airflow_provider_modelslab.local.media.aspect import KeepAspect
from airflow_provider_modelslab.local.media.decoder.frames import frame_order, sample_indices
from airflow_provider_modelslab.local.media.decoder.process import decode_clip, unreadable
from airflow_provider_modelslab.local.media.fetch import clip_kind

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "MAX_CLIP_FRAMES",
    "MAX_CLIP_PIXELS",
    "MAX_FRAME_PIXELS",
    "MAX_GIF_PIXELS",
    "frame_order",
    "open_clip",
    "read_frames",
    "resize_frames",
    "sample_indices",
]

MAX_FRAME_PIXELS = 4096 * 2304
"""Pixels in one frame of a clip: 4K. 25 such frames are 0.7 GB of memory."""

MAX_CLIP_PIXELS = 20_000_000_000
"""Pixels times frames of an mp4: about five minutes of 1080p at 30 frames per second, all of which is decoded."""

MAX_GIF_PIXELS = 500_000_000
"""The same for a gif, whose pixels take ten times as long: 50 seconds of 960x540 at 20 frames per second."""

MAX_CLIP_FRAMES = 200_000
"""Frames of a clip: almost two hours at 30 frames per second."""

CPU_SECONDS, CPU_SECONDS_PER_MIB, MAX_CPU_SECONDS = 7, 3, 300
"""Processor time for decoding: of any clip, more for each MiB of it, and at most. What takes longer was made to."""

CLOCK_FACTOR = 1.5
"""How much longer than that it may take by the clock: less than 20 s for a clip of 2 MiB, on a busy machine too."""


def read_frames(
    path: Path, count: int, *, size: tuple[int, int] | None = None, keep_aspect: KeepAspect = "stretch"
) -> tuple[list[Image], float]:
    """Exactly ``count`` frames of an mp4 or gif, evenly spaced in time from its first frame to its last.

    A clip with fewer frames than that is played forwards and backwards in turn (0 1 2 3 2 1 0 1 ...) until there are
    enough; a single frame is repeated. So the motion never jumps, and nothing stands still that moved.

    Frames look as in players: turned and mirrored as the file asks for (phones), with square pixels, colours in
    BT.709. HDR (PQ, HLG) and BT.2020 are mapped to it; HD that says nothing of its colours is BT.709, smaller video
    BT.601. Transparent parts of a gif are shown on white. Of a damaged clip there is what players show of it, as long
    as one frame can be decoded.

    :param count: frames wanted, at least 1.
    :param size: width and height of the frames in pixels; by default they keep their own.
    :param keep_aspect: what is done where the clip has another aspect ratio than ``size``, see :data:`KeepAspect`.
    :returns: RGB pictures, and the clip's own frames per second.
    :raises ClipUnreadableError: when it cannot be decoded, has no picture, or is over :data:`MAX_FRAME_PIXELS`,
        :data:`MAX_CLIP_PIXELS`, :data:`MAX_GIF_PIXELS`, :data:`MAX_CLIP_FRAMES`, 1 GiB of memory or
        :data:`CPU_SECONDS`.
    :raises JobFailedError: when something else than the clip is at fault, such as a full or busy machine.
    """
    from PIL import Image

    frames: dict[int, Image.Image] = {}

    def keep(index: int, of_size: tuple[int, int], pixels: bytes) -> None:
        frames[index] = Image.frombytes("RGB", of_size, pixels)

    with open_clip(path) as (clip, limits):
        job = {**limits, "count": count, "size": size, "keep_aspect": keep_aspect}
        order, fps = decode_clip(clip, job, keep, seconds=CLOCK_FACTOR * limits["cpu_seconds"])
    return [frames[index] for index in order], fps


@contextmanager
def open_clip(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The descriptor of a clip for a decoder, and its kind and limits as part of a decoder's job.

    :raises ClipUnreadableError: when it is neither an mp4 nor a gif.
    :raises JobFailedError: when it cannot be opened.
    """
    try:
        clip = path.open("rb")
    except OSError as error:
        raise JobFailedError(f"init_video was not read: the file cannot be opened ({error.strerror}).") from None
    with clip:
        kind = clip_kind(os.pread(clip.fileno(), 12, 0))
        if kind is None:
            raise unreadable("must be an mp4 or a gif")
        mebibytes = os.fstat(clip.fileno()).st_size / (1 << 20)
        yield (
            clip.fileno(),
            {
                "kind": kind,
                "max_frame_pixels": MAX_FRAME_PIXELS,
                "max_clip_pixels": min(MAX_CLIP_PIXELS, MAX_GIF_PIXELS) if kind == "gif" else MAX_CLIP_PIXELS,
                "max_frames": MAX_CLIP_FRAMES,
                "cpu_seconds": math.ceil(min(CPU_SECONDS + CPU_SECONDS_PER_MIB * mebibytes, MAX_CPU_SECONDS)),
            },
        )


def resize_frames(frames: Sequence[Image], width: int, height: int) -> list[Image]:
    """Stretched to ``width`` x ``height`` pixels by Lanczos; the aspect ratio is not kept, as in diffusers."""
    from PIL import Image

    return [
        frame if frame.size == (width, height) else frame.resize((width, height), Image.Resampling.LANCZOS)
        for frame in frames
    ]
