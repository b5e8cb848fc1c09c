"""Small real videos, to be the input of a test."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["gradient_frames", "small_mp4"]


def gradient_frames(count: int, size: int) -> list[Image]:
    """Square pictures of a gradient that moves: neighbouring ones differ, as in a real clip.

    :param size: pixels of a side.
    """
    import numpy as np
    from PIL import Image

    row = np.arange(size, dtype=np.uint16)
    pictures = []
    for number in range(count):
        plane = (row[None, :] * 3 + row[:, None] * 2 + number * 17) % 256
        pictures.append(Image.fromarray(np.stack([plane, plane.T, 255 - plane], axis=-1).astype(np.uint8)))
    return pictures


@functools.cache
def small_mp4(*, frames: int = 6, size: int = 64, faststart: bool = False) -> bytes:
    """A clip of a few kB at 8 fps.

    :param size: pixels of a side.
    :param faststart: put the index before the media.
    """
    import av
    import numpy as np

    options = {"movflags": "faststart"} if faststart else {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")  # faststart reads its own output again, so it must be a file
        with av.open(str(path), "w", format="mp4", options=options) as container:
            stream = container.add_stream("mpeg4", rate=8)
            stream.width = stream.height = size
            stream.pix_fmt = "yuv420p"
            for picture in gradient_frames(frames, size):
                frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()
