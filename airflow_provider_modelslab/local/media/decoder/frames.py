"""The frames of a clip on their way from a decoder to the process that wants them, and what they may be."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = [
    "DamagedError",
    "Frames",
    "Sender",
    "UnreadableError",
    "choose_frames",
    "fitting_size",
    "flatten",
    "frame_order",
    "frames_at_rate",
    "frames_by_time",
    "middle",
    "sample_indices",
]


class UnreadableError(Exception):
    """The clip cannot be read, and why, as the end of a sentence that begins with its name."""


class DamagedError(Exception):
    """A part of the clip cannot be decoded."""


class Sender(Protocol):
    """Where frames go."""

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a message."""


def sample_indices(total: int, count: int) -> list[int]:
    """``count`` indices from 0 to ``total - 1``, first and last included, as even as whole numbers allow."""
    if count == 1 or total == 1:
        return [0] * count
    # Rounded half up in whole numbers; floats round differently from case to case.
    return [(2 * i * (total - 1) + count - 1) // (2 * (count - 1)) for i in range(count)]


def frame_order(total: int, count: int) -> list[int]:
    """Which of ``total`` frames to show for a clip of ``count``: sampled, or forwards and backwards when too few."""
    if total >= count or total == 1:
        return sample_indices(total, count)
    period = 2 * (total - 1)
    return [min(i % period, period - i % period) for i in range(count)]


def frames_by_time(starts: Sequence[int | None], end: int | None, count: int) -> list[int]:
    """Which frames to show for a clip of ``count``, evenly spaced in time: of each instant the frame nearest to it.

    With a constant frame rate that is :func:`frame_order`, which also decides where there are fewer than ``count``
    frames or a time is unknown.

    :param starts: when each frame is first shown, in any unit.
    :param end: when the last one ends, which may be shown for long; ``None`` if unknown.
    """
    times = [start for start in starts if start is not None]
    middles = [one + other for one, other in pairwise(times)]  # of neighbours, times two
    in_order = all(one <= other for one, other in pairwise(times))
    if len(times) < max(2, count) or len(times) < len(starts) or not in_order or count == 1:
        return frame_order(len(starts), count)
    first, last = times[0], times[-1]
    span = Fraction(last - first)
    if end is not None:
        span = max(span, Fraction((end - first) * (count - 1), count))
    return [bisect_right(middles, 2 * (first + span * i / (count - 1))) for i in range(count)]


def frames_at_rate(
    starts: Sequence[int | None], unit: Fraction, *, origin: Fraction, fps: int, count: int
) -> list[int]:
    """Which frame to show in each of ``count`` frames of a constant rate: the last one that has begun by then.

    What begins less than half a frame later counts as begun, so that times which were rounded skip and repeat nothing;
    FFmpeg's filter ``fps`` does the same. Before the first frame begins, it is shown too.

    :param starts: when each frame is first shown, in order, in units of the clip.
    :param unit: seconds of one unit.
    :param origin: when the result begins, in seconds.
    :param fps: frames per second of the result.
    :raises UnreadableError: when a time is unknown.
    """
    times = [start for start in starts if start is not None]
    if not times or len(times) < len(starts):
        raise UnreadableError("has frames without a time")
    middles = ((origin + Fraction(2 * number + 1, 2 * fps)) / unit for number in range(count))
    return [max(0, bisect_right(times, middle) - 1) for middle in middles]


def choose_frames(job: dict[str, Any], starts: Sequence[int | None], end: int | None, unit: Fraction) -> list[int]:
    """Which frames a job shows: ``count`` at the rate ``fps`` from ``origin`` on, ``count`` of the whole clip, or all.

    :param starts: when each frame is first shown, in units of the clip.
    :param end: when the last one ends; ``None`` if unknown.
    :param unit: seconds of one unit.
    """
    count = job["count"]
    if count is None:
        return list(range(len(starts)))
    if job.get("fps"):
        return frames_at_rate(starts, unit, origin=Fraction(job["origin"]), fps=job["fps"], count=count)
    return frames_by_time(starts, end, count)


def fitting_size(width: int, height: int, within: tuple[int, int]) -> tuple[int, int]:
    """The largest size of this aspect ratio within another size, in multiples of 8 pixels, which models want."""
    scale = min(within[0] / width, within[1] / height)
    wide, high = (max(8, round(side * scale / 8) * 8) for side in (width, height))
    return min(wide, within[0]), min(high, within[1])


def middle(width: int, height: int, shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """The largest box of another aspect ratio in the middle of a picture: left, top, right and bottom in pixels."""
    scale = min(width / shape[0], height / shape[1])
    left, top = (width - shape[0] * scale) / 2, (height - shape[1] * scale) / 2
    return left, top, width - left, height - top


class Frames:
    """The pictures on their way to the other process."""

    def __init__(self, link: Sender, job: dict[str, Any]) -> None:
        self._link = link
        self._size = tuple(job["size"]) if job["size"] else None
        self._aspect: str = job.get("keep_aspect", "stretch")
        self._max_frame_pixels: int = job["max_frame_pixels"]
        self._max_clip_pixels: int = job["max_clip_pixels"]
        self._max_frames: int = job["max_frames"]
        self._in_order: bool = job.get("in_order", False)
        self._wanted: set[int] = set()
        self._sent: set[int] = set()
        self.total = 0
        self.seen = 0
        self._pixels = 0

    def begin(self, order: list[int], total: int) -> None:
        """Count from 0; these frames of so many are wanted."""
        if self._in_order:
            self._link.send({"shown": order})
        elif self._sent:
            self._link.send({"again": True})
        self._wanted, self._sent, self.seen, self._pixels = set(order), set(), 0, 0
        self.total = total

    def is_next_wanted(self, width: int, height: int) -> bool:
        """Count the next frame and check its size; whether it is one to :meth:`send`."""
        self._pixels += width * height
        self.seen += 1
        self.check(width, height, 1)
        if self._pixels > self._max_clip_pixels:
            raise UnreadableError(f"frames are too much to decode; {self._at_most}")
        if self.seen > self._max_frames:
            self.check(width, height, self.seen)
        return self.seen - 1 in self._wanted

    def send(self, picture: Image) -> None:
        """Send the frame that was counted last."""
        picture = self._resized(picture)
        self._link.send({"frame": self.seen - 1, "size": picture.size}, picture.tobytes())
        self._sent.add(self.seen - 1)

    def _resized(self, picture: Image) -> Image:
        from PIL import Image

        if self._size is None or picture.size == self._size:
            return picture
        size, box = self._size, None
        if self._aspect == "crop":
            box = middle(*picture.size, size)
        elif self._aspect == "fit":
            size = fitting_size(*picture.size, size)
        return picture.resize(size, Image.Resampling.LANCZOS, box)

    @property
    def complete(self) -> bool:
        """Whether all that are wanted were sent."""
        return self._sent == self._wanted

    def check(self, width: int, height: int, frames: int) -> None:
        """Refuse what is over the limits."""
        if width * height > self._max_frame_pixels:
            raise UnreadableError(
                f"frames of {width}x{height} are too large; at most {self._max_frame_pixels} pixels are read"
            )
        if frames > self._max_frames:
            raise UnreadableError(
                f"{frames} frames are too much to decode; at most {self._max_frames} are read: cut it"
            )
        if width * height * frames > self._max_clip_pixels:
            raise UnreadableError(f"{frames} frames of {width}x{height} are too much to decode; {self._at_most}")

    @property
    def _at_most(self) -> str:
        return f"at most {self._max_clip_pixels} pixels in all frames together are read: cut it or make it smaller"


def flatten(frame: Image) -> Image:
    """A gif's current frame as RGB, on white. Frames come as palette, RGB or RGBA, even within one file."""
    from PIL import Image

    picture = frame.convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture).convert("RGB")
