"""Pictures as a clip: mp4 by PyAV, gif by Pillow with one palette for all frames."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Self

from airflow_provider_modelslab.local.media.gif_palette import index_frames

if TYPE_CHECKING:
    from av.container import OutputContainer
    from PIL.Image import Image

__all__ = ["MAX_GIF_FPS", "Mp4Writer", "even_size", "write_gif", "write_mp4"]

MAX_GIF_FPS = 50
"""A gif's shortest delay is two hundredths of a second: players slow shorter ones down."""

# cpu-independent: without it x264's output differs from run to run now and then (about 1 in 100, tiny sizes), so the
# same seed would not give the same bytes. The rest says which colours the file holds: players guess by size otherwise.
_X264 = "cpu-independent=1:colormatrix=smpte170m:colorprim=bt709:transfer=bt709:range=tv"


def even_size(width: int, height: int) -> tuple[int, int]:
    """The size that an mp4 of these frames has: odd sides lose a pixel, since yuv420p halves both for its colours."""
    return max(2, width - width % 2), max(2, height - height % 2)


def write_mp4(frames: Sequence[Image], path: Path, fps: float) -> tuple[int, int]:
    """H.264, yuv420p, crf 18, with the index at the front, so that browsers play it while it loads.

    :param frames: RGB pictures of one size; at least one.
    :param fps: frames per second, more than 0.
    :returns: width and height of the clip in pixels: those of the frames, see :func:`even_size`.
    :raises av.FFmpegError: when the encoder or the disk fails.
    """
    with Mp4Writer(path, fps, frames[0].size) as writer:
        for frame in frames:
            writer.add(frame)
    return writer.size


class Mp4Writer:
    """Writes an mp4 frame by frame, as :func:`write_mp4` does; a context manager that opens and closes it.

    :param fps: frames per second, more than 0.
    :param size: of the frames in pixels; the clip's is :func:`even_size` of it.
    :param crf: x264's quality, 0 to 51; 0 is the best.
    :param preset: x264's.
    :param sound: an mp4 whose sound is put beside the frames unchanged, with its times; it must be one of our own.
    :raises av.FFmpegError: when the encoder or the disk fails; any method.
    """

    def __init__(
        self,
        path: Path,
        fps: float,
        size: tuple[int, int],
        *,
        crf: int = 18,
        preset: str = "medium",
        sound: Path | None = None,
    ) -> None:
        self.size = even_size(*size)
        self.frames = 0
        self._path = path
        self._fps = Fraction(fps).limit_denominator(1000)
        self._options: dict[str, object] = {"crf": str(crf), "preset": preset, "x264-params": _X264}
        self._sound = sound
        self._container: OutputContainer | None = None

    def open(self) -> None:
        """Begin the file."""
        import av

        self._container = av.open(str(self._path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream("libx264", rate=self._fps)
        self._stream.width, self._stream.height = self.size
        self._stream.pix_fmt = "yuv420p"
        self._stream.options = self._options
        if self._sound is not None:
            _add_sound(self._container, self._sound)

    def add(self, frame: Image) -> None:
        """Write an RGB picture of the size."""
        import av
        import numpy as np

        assert self._container is not None  # noqa: S101 - it is open
        picture = frame if frame.size == self.size else _fit(frame, *self.size)
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")))
        self.frames += 1

    def close(self) -> None:
        """End the file; without effect the second time."""
        container, self._container = self._container, None
        if container is not None:
            with container:
                container.mux(self._stream.encode(None))

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _add_sound(container: OutputContainer, sound: Path) -> None:
    """Copy the sound of an mp4. The muxer keeps its packets until the frames beside them are there."""
    import av

    with av.open(str(sound), "r", format="mp4") as source:
        stream = source.streams.audio[0]
        copy = container.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.size:
                packet.stream = copy
                container.mux(packet)


def write_gif(frames: Sequence[Image], path: Path, fps: float) -> float:
    """A gif that plays for ever, with every frame in the file.

    Palettes: see :mod:`~.gif_palette`. Delays are whole hundredths of a second, spread so that the clip as a whole
    keeps its time (30 fps: 3, 4, 3, 3, 4, ...).

    :param frames: RGB pictures of one size; at least one.
    :param fps: frames per second, more than 0; over :data:`MAX_GIF_FPS` counts as that.
    :returns: the frames per second in force.
    """
    fps = min(fps, MAX_GIF_FPS)
    indexed = index_frames(frames)
    palette = indexed[0][0]
    ends = [round(100 * number / fps) for number in range(len(frames) + 1)]
    width, height = frames[0].size
    with path.open("wb") as file:
        # Written by hand around Pillow's compressor: its save() merges equal frames, and the count would be wrong.
        file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + palette)  # F7: 256 global colours
        file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # again and again
        for (own, picture), (start, end) in zip(indexed, pairwise(ends), strict=True):
            file.write(b"\x21\xf9\x04\x00" + struct.pack("<H", min(end - start, 0xFFFF)) + b"\x00\x00")
            file.write(_image_block(picture, None if own == palette else own))
        file.write(b"\x3b")
    return fps


def _fit(frame: Image, width: int, height: int) -> Image:
    """Without the last column or row of an odd side; one pixel wide or high becomes two."""
    from PIL import Image

    if frame.width >= width and frame.height >= height:
        return frame.crop((0, 0, width, height))
    return frame.resize((width, height), Image.Resampling.NEAREST)


def _image_block(picture: Image, palette: bytes | None) -> bytes:
    """One frame's place, its own palette if it has one, and its compressed indices."""
    from PIL import GifImagePlugin

    head, *data = GifImagePlugin.getdata(picture)
    if palette is not None:
        head = head[:9] + b"\x87" + palette  # 87: 256 colours of its own
    return b"".join([head, *data])
