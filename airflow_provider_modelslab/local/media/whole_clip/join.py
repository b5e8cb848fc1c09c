"""Joins the results of segments into one clip: neighbours are cross-faded, and frames are counted exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_modelslab.api.errors import LandingError
from airflow_provider_modelslab.local.media.encode import MAX_GIF_FPS, Mp4Writer, write_gif
from airflow_provider_modelslab.local.media.whole_clip.source import read_all

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from airflow_provider_modelslab.local.media.whole_clip.plan import Segment, SegmentPlan

    Light: TypeAlias = NDArray[np.float32]

__all__ = ["MAX_GIF_FRAMES", "Joiner", "blend", "join_segments"]

MAX_GIF_FRAMES = 300
"""Frames of a gif: all of them are in memory, since its palettes are made of all."""

_MAX_RESULT_FRAMES = 10_000  # that are counted, where an endpoint makes others than it was asked for
_LEVELS = 1 << 16  # of light, on the way back to 8 bits


class Joiner:
    """Takes the frames of one segment after the other, and passes on the frames of the whole clip.

    Only the frames of one fade are kept. All segments must have the first one's size.

    :param write: called with each frame of the whole clip, in order.
    """

    def __init__(self, plan: SegmentPlan, write: Callable[[Image], object]) -> None:
        self._plan = plan
        self._write = write
        self._kept: dict[int, Image] = {}
        self._size: tuple[int, int] | None = None
        self.written = 0

    def add(self, index: int, number: int, picture: Image) -> None:
        """A frame.

        :param index: of the segment, from 0.
        :param number: of the frame in the segment, from 0.
        :raises LandingError: for a frame of another size.
        """
        plan = self._plan
        self._size = self._size or picture.size
        if picture.size != self._size:
            name = plan.segments[index].describe(len(plan.segments))
            raise LandingError(
                f"The frames of {name} have {picture.width}x{picture.height} pixels, but earlier ones have "
                f"{self._size[0]}x{self._size[1]}, so the segments cannot be joined. Set width and height; this pays "
                "for a new job for each segment"
            )
        frame = plan.segments[index].first + number
        fade_in = plan.fades[index - 1] if index else None
        fade_out = plan.fades[index] if index < len(plan.fades) else None
        if fade_in is not None and frame < fade_in.end:
            if frame >= fade_in.first:
                share = (frame - fade_in.first + 1) / (fade_in.frames + 1)
                self._pass_on(blend(self._kept.pop(frame), picture, share))
        elif fade_out is None or frame < fade_out.first:
            self._pass_on(picture)
        elif frame < fade_out.end:
            self._kept[frame] = picture

    def _pass_on(self, picture: Image) -> None:
        self._write(picture)
        self.written += 1


def blend(first: Image, second: Image, share: float) -> Image:
    """Two pictures, one over the other, mixed as light is: in linear light, so that nothing gets darker in between.

    :param share: of the second, 0 to 1.
    """
    import numpy as np
    from PIL import Image

    linear, codes = _tables()
    light = linear[np.asarray(first)] * np.float32(1 - share) + linear[np.asarray(second)] * np.float32(share)
    return Image.fromarray(codes[np.rint(light * (_LEVELS - 1)).astype(np.uint16)])


@cache
def _tables() -> tuple[Light, NDArray[np.uint8]]:
    """The light of each of 256 codes by sRGB's curve, and the code of each level of light."""
    import numpy as np

    code = np.arange(256) / 255
    linear = np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)
    light = np.arange(_LEVELS) / (_LEVELS - 1)
    back = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return linear.astype(np.float32), np.rint(back * 255).astype(np.uint8)


def join_segments(
    plan: SegmentPlan,
    results: Iterable[Path],
    output: Path,
    *,
    kind: str = "mp4",
    sound: Path | None = None,
) -> tuple[int, int]:
    """Write the whole clip; at most a few frames are in memory, of a gif all of them.

    :param results: of the segments, in order; each is read once, when its turn comes.
    :param kind: ``mp4`` or ``gif``.
    :param sound: an mp4 with the sound of an mp4 result, one of our own.
    :return: width and height in pixels.
    :raises LandingError: when a result has another number of frames than its segment, or another size than the others.
    :raises ClipUnreadableError: when one cannot be decoded.
    """
    if kind == "gif":
        frames: list[Image] = []
        _join(plan, results, frames.append)
        fps = min(plan.fps, MAX_GIF_FPS)
        count = round(len(frames) * fps / plan.fps)  # of faster ones some are left out, and the clip takes as long
        write_gif([frames[number * plan.fps // fps] for number in range(count)], output, fps)
        return frames[0].size
    writer: Mp4Writer | None = None

    def write(picture: Image) -> None:
        nonlocal writer
        if writer is None:
            writer = Mp4Writer(output, plan.fps, picture.size, sound=sound)
            writer.open()
        writer.add(picture)

    try:
        _join(plan, results, write)
    finally:
        if writer is not None:
            writer.close()
    assert writer is not None  # noqa: S101 - a plan has frames
    return writer.size


def _join(plan: SegmentPlan, results: Iterable[Path], write: Callable[[Image], object]) -> None:
    joiner = Joiner(plan, write)
    for segment, path in zip(plan.segments, results, strict=True):
        count = read_all(path, partial(_add, joiner, segment), max_frames=_MAX_RESULT_FRAMES)
        if count != segment.frames:
            raise LandingError(
                f"The result of {segment.describe(len(plan.segments))} has {count} frames, but {segment.frames} were "
                "requested, so the segments cannot be joined. Set num_frames to a number that the model supports; this "
                "pays for a new job for each segment"
            )


def _add(joiner: Joiner, segment: Segment, number: int, picture: Image) -> None:
    if number < segment.frames:  # one too many is counted, and not used
        joiner.add(segment.index, number, picture)
