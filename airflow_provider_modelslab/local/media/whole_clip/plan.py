"""Which frames the segments of a whole clip have, and how they are joined; pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from airflow_provider_modelslab.api.errors import InvalidRequestError

__all__ = ["Fade", "Segment", "SegmentPlan", "plan_segments"]


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a clip.

    :param index: from 0.
    :param first: its first frame, counted in the whole result from 0.
    :param frames: how many it has.
    :param fps: frames per second.
    """

    index: int
    first: int
    frames: int
    fps: int

    @property
    def end(self) -> int:
        """The frame after its last one."""
        return self.first + self.frames

    def describe(self, count: int) -> str:
        """For messages: ``segment 3 of 29 (1.40 s to 2.23 s)``.

        :param count: of all segments.
        """
        begin, end = self.first / self.fps, self.end / self.fps
        return f"segment {self.index + 1} of {count} ({begin:.2f} s to {end:.2f} s)"


@dataclass(frozen=True, slots=True)
class Fade:
    """The frames in which one segment gives way to the next; none of them for a cut.

    :param first: the first of them, counted in the whole result.
    :param frames: how many.
    """

    first: int
    frames: int

    @property
    def end(self) -> int:
        """The frame after the last of them."""
        return self.first + self.frames


@dataclass(frozen=True, slots=True)
class SegmentPlan:
    """How a clip is cut.

    :param total: frames of the whole result.
    :param fps: frames per second of the result.
    :param segments: in order; all have the same number of frames.
    :param fades: between each segment and the next one. No frame is part of two fades.
    """

    total: int
    fps: int
    segments: tuple[Segment, ...]
    fades: tuple[Fade, ...]

    def containing(self, frame: int) -> Sequence[Segment]:
        """The segments that a frame of the result is part of."""
        return [segment for segment in self.segments if segment.first <= frame < segment.end]


def plan_segments(total: int, fps: int, frames: int, overlap: int, max_segments: int | None = None) -> SegmentPlan:
    """Cut a clip into as few segments as possible, all of one length and evenly spread.

    Neighbours share ``overlap`` frames, or a few more, since the last segment is as long as the others. A clip that is
    not longer than one segment is one segment.

    :param total: frames of the whole result, 1 or more.
    :param fps: frames per second of the result, 1 or more.
    :param frames: of a segment, 1 or more.
    :param overlap: frames shared by neighbours, 0 or more and less than ``frames``.
    :param max_segments: the most segments allowed, 1 or more.
    :raises InvalidRequestError: for an overlap that is out of range, and for more than ``max_segments``.
    """
    if not 0 <= overlap < frames:
        raise InvalidRequestError.of(
            "overlap", f"must be at least 0 and less than the {frames} frames of a segment; got {overlap}"
        )
    length = min(total, frames)
    count = 1 if total <= frames else -(-(total - overlap) // (frames - overlap))
    if max_segments is not None and count > max_segments:
        raise InvalidRequestError.of(
            "max_segments",
            f"the clip has {total} frames at {fps} fps, so it needs {count} segments, one paid job each; at most "
            f"{max_segments} are allowed. Set max_segments to {count}, or use fewer fps or a shorter clip",
        )
    last = total - length
    starts = [round(index * last / (count - 1)) if index else 0 for index in range(count)]
    strides = [other - one for one, other in pairwise(starts)]
    fade = min([overlap, *strides])  # with a longer one, three segments would meet in a frame
    return SegmentPlan(
        total=total,
        fps=fps,
        segments=tuple(Segment(index, first, length, fps) for index, first in enumerate(starts)),
        fades=tuple(Fade((one + other + length - fade) // 2, fade) for one, other in pairwise(starts)),
    )
