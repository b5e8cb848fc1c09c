"""Cuts a clip into the files of its segments, encoded so well that hardly anything is lost."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_modelslab.local.media.encode import Mp4Writer
from airflow_provider_modelslab.local.media.whole_clip.source import Probe, read_at_rate

if TYPE_CHECKING:
    from PIL.Image import Image

    from airflow_provider_modelslab.local.media.whole_clip.plan import SegmentPlan

__all__ = ["CRF", "split_clip"]

CRF = 6
"""x264's quality of segments. What remains lost against the source's own frames is mostly the resolution of colours."""


def split_clip(
    path: Path, probe: Probe, plan: SegmentPlan, folder: Path, *, size: tuple[int, int] | None = None
) -> list[Path]:
    """Write the segments to ``folder``; at most a few frames are in memory.

    :param size: width and height in pixels that frames are stretched to; by default they keep their own.
    :return: their files, in order.
    :raises ClipUnreadableError: see :func:`~airflow_provider_modelslab.local.media.decode.read_frames`.
    :raises JobFailedError: when something else than the clip is at fault.
    """
    files = [folder / f"segment-{segment.index:03d}.mp4" for segment in plan.segments]
    with ExitStack() as stack:
        writers: dict[int, Mp4Writer] = {}

        def begin() -> None:
            stack.close()
            writers.clear()

        def add(number: int, picture: Image) -> None:
            for segment in plan.containing(number):
                if segment.first == number:
                    writer = Mp4Writer(files[segment.index], plan.fps, picture.size, crf=CRF, preset="fast")
                    writers[segment.index] = stack.enter_context(writer)
                writer = writers[segment.index]
                writer.add(picture)
                if writer.frames == segment.frames:
                    writers.pop(segment.index).close()

        read_at_rate(path, probe, plan.fps, size=size, on_begin=begin, on_frame=add)
    return files
