"""A finished clip on disk, whole or not at all."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import JobFailedError
from airflow_provider_modelslab.local.media.encode import Mp4Writer, write_gif

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ClipWriter", "copy_clip", "write_clip"]


class ClipWriter:
    """Writes a clip frame by frame. The frames of a gif are in memory until it is closed: its palettes are of all.

    :param kind: ``mp4`` or ``gif``.
    :param sound: an mp4 with the sound of an mp4, see :class:`~.encode.Mp4Writer`.
    """

    def __init__(self, path: Path, kind: str, fps: int, *, sound: Path | None = None) -> None:
        self._path = path
        self._kind = kind
        self._fps = fps
        self._sound = sound
        self._mp4: Mp4Writer | None = None
        self._gif: list[Image] = []

    def add(self, frame: Image) -> None:
        """Write an RGB picture of the first one's size."""
        if self._kind == "gif":
            self._gif.append(frame)
            return
        if self._mp4 is None:
            self._mp4 = Mp4Writer(self._path, self._fps, frame.size, sound=self._sound)
            self._mp4.open()
        self._mp4.add(frame)

    def close(self) -> dict[str, Any]:
        """End the file; what it is, see :func:`write_clip`. There was at least one frame."""
        if self._mp4 is not None:
            self._mp4.close()
            size, fps, frames = self._mp4.size, float(self._fps), self._mp4.frames
        else:
            size, frames = self._gif[0].size, len(self._gif)
            fps = write_gif(self._gif, self._path, self._fps)
        kind, (width, height) = self._kind, size
        return {"output_type": kind, "width": width, "height": height, "fps": int(fps), "num_frames": frames}

    def discard(self) -> None:
        """Delete what was written; it may begin anew."""
        if self._mp4 is not None:
            with suppress(Exception):
                self._mp4.close()
        self._mp4 = None
        self._gif.clear()
        self._path.unlink(missing_ok=True)


def write_clip(frames: Sequence[Image], output: Path, kind: str, fps: int) -> dict[str, Any]:
    """Write the clip in one step, making its folder.

    :param kind: ``mp4`` or ``gif``.
    :returns: what it is, in the request's words: ``output_type``, ``width``, ``height``, ``fps``, ``num_frames``.
    :raises JobFailedError: when it cannot be written.
    """
    with _appearing(output) as part:
        writer = ClipWriter(part, kind, fps)
        for frame in frames:
            writer.add(frame)
        return writer.close()


def copy_clip(clip: Path, output: Path) -> None:
    """Copy a clip in one step, making its folder.

    :raises JobFailedError: when it cannot be written.
    """
    with _appearing(output) as part:
        shutil.copyfile(clip, part)


@contextmanager
def _appearing(output: Path) -> Iterator[Path]:
    """The path to write to; the file appears at ``output`` in the end, if all went well."""
    part = output.with_name(f".{output.name}.{uuid.uuid4().hex}.part")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(output)
    except Exception as error:
        raise JobFailedError(f"The clip could not be written to {output}: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
