"""A clip as pictures: just the frames that are wanted, as RGB, at the size that is wanted."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import RequestValidationError
from airflow_provider_modelslab.local.fetch import clip_kind

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from PIL.Image import Image

__all__ = ["MAX_CLIP_PIXELS", "MAX_FRAME_PIXELS", "frame_order", "read_frames", "resize_frames", "sample_indices"]

MAX_FRAME_PIXELS = 4096 * 2304
"""Pixels in one frame of a clip: 4K. 25 such frames are 0.7 GB of memory."""

MAX_CLIP_PIXELS = 20_000_000_000
"""Pixels times frames of a clip: about five minutes of 1080p at 30 frames per second, all of which is decoded."""

_GIF_DEFAULT_DELAY = 100  # milliseconds: what browsers take for a delay of 0


def read_frames(path: Path, count: int) -> tuple[list[Image], float]:
    """Exactly ``count`` frames of an mp4 or gif, spread evenly from its first frame to its last.

    A clip with fewer frames than that is played forwards and backwards in turn (0 1 2 3 2 1 0 1 ...) until there are
    enough; a single frame is repeated. So the motion never jumps, and nothing stands still that moved.

    Transparent parts of a gif are shown on white. A video that says how it is to be turned (phones) is turned.

    :param count: frames wanted, at least 1.
    :returns: RGB pictures of the clip's own size, and the clip's own frames per second.
    :raises RequestValidationError: for ``init_video``, when it cannot be decoded, has no picture, or is over
        :data:`MAX_FRAME_PIXELS` or :data:`MAX_CLIP_PIXELS`.
    """
    with path.open("rb") as file:
        kind = clip_kind(file.read(12))
    if kind is None:
        raise _problem("must be an mp4 or a gif")
    return _read_gif(path, count) if kind == "gif" else _read_mp4(path, count)


def resize_frames(frames: Sequence[Image], width: int, height: int) -> list[Image]:
    """Stretched to ``width`` x ``height`` pixels by Lanczos; the aspect ratio is not kept, as in diffusers."""
    from PIL import Image

    return [
        frame if frame.size == (width, height) else frame.resize((width, height), Image.Resampling.LANCZOS)
        for frame in frames
    ]


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


def _problem(problem: str) -> RequestValidationError:
    return RequestValidationError.of("init_video", problem)


def _check_pixels(width: int, height: int, frames: int) -> None:
    if width * height > MAX_FRAME_PIXELS:
        raise _problem(f"frames of {width}x{height} are too large; at most {MAX_FRAME_PIXELS} pixels are read")
    if width * height * frames > MAX_CLIP_PIXELS:
        raise _problem(
            f"{frames} frames of {width}x{height} are too much to decode; at most {MAX_CLIP_PIXELS} pixels in all "
            "frames together are read: cut the clip or make it smaller"
        )


def _read_mp4(path: Path, count: int) -> tuple[list[Image], float]:
    import av

    try:
        total, fps = _measure_mp4(path)
        while total:
            order = frame_order(total, count)
            frames, decoded = _decode_mp4(path, set(order))
            if len(frames) == len(set(order)):
                return [frames[index] for index in order], fps
            total = decoded  # fewer pictures came out than the header promised: damaged frames, edit lists
    except av.FFmpegError as error:
        raise _problem(f"cannot be decoded as mp4 ({error.strerror})") from None
    raise _problem("has no frame that can be decoded")


def _open_mp4(path: Path) -> tuple[InputContainer, VideoStream]:
    import av

    # The format is fixed, so that no content can choose one that opens other files or links.
    container = av.open(str(path), format="mp4")
    stream = container.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.codec_context is None:
        container.close()
        raise _problem("has no video track that can be decoded")
    return container, stream


def _measure_mp4(path: Path) -> tuple[int, float]:
    """Frames by the header, else by counting packets (which decodes nothing), and frames per second (0 if unknown)."""
    container, stream = _open_mp4(path)
    with container:
        total = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
        _check_pixels(stream.width, stream.height, total)
        return total, float(stream.average_rate or stream.guessed_rate or 0)


def _decode_mp4(path: Path, wanted: set[int]) -> tuple[dict[int, Image], int]:
    """The wanted frames by their index, and how many were decoded; it stops after the last one that is wanted."""
    from PIL import Image

    container, stream = _open_mp4(path)
    images: dict[int, Image.Image] = {}
    decoded = 0
    with container:
        stream.thread_type = "AUTO"
        for index, frame in enumerate(container.decode(stream)):
            decoded = index + 1
            if index in wanted:
                _check_pixels(frame.width, frame.height, 1)
                images[index] = _upright(Image.fromarray(frame.to_ndarray(format="rgb24")), frame.rotation)
                if len(images) == len(wanted):
                    break
    return images, decoded


def _upright(image: Image, degrees: int) -> Image:
    """``image`` turned counterclockwise, as the file asks for; angles other than quarter turns are left alone."""
    from PIL import Image

    turns = {
        90: Image.Transpose.ROTATE_90,
        180: Image.Transpose.ROTATE_180,
        270: Image.Transpose.ROTATE_270,
    }
    turn = turns.get(degrees % 360)
    return image if turn is None else image.transpose(turn)


def _read_gif(path: Path, count: int) -> tuple[list[Image], float]:
    from PIL import Image

    with path.open("rb") as file:
        width, height = struct.unpack("<HH", file.read(10)[6:].ljust(4, b"\0"))
    _check_pixels(width, height, 1)
    try:
        with Image.open(path, formats=["GIF"]) as gif:
            total = int(getattr(gif, "n_frames", 1))
            _check_pixels(*gif.size, total)
            order = frame_order(total, count)
            frames: dict[int, Image.Image] = {}
            milliseconds = 0.0
            for index in range(order[-1] + 1 if total >= count else total):
                gif.seek(index)
                _check_pixels(*gif.size, total)  # a frame may be larger than the header's size
                milliseconds += gif.info.get("duration") or _GIF_DEFAULT_DELAY
                if index in order:
                    frames[index] = _flatten(gif)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _problem(f"frames are too large; at most {MAX_FRAME_PIXELS} pixels are read") from None
    except RequestValidationError:
        raise
    except (OSError, EOFError, SyntaxError, ValueError):  # what Pillow raises for damaged files
        raise _problem("cannot be decoded as gif: it is damaged or cut off") from None
    return [frames[index] for index in order], (index + 1) * 1000 / milliseconds


def _flatten(frame: Image) -> Image:
    """A gif's current frame as RGB, on white. Frames come as palette, RGB or RGBA, even within one file."""
    from PIL import Image

    picture = frame.convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture).convert("RGB")
