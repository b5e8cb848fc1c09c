"""A decoded frame as players show it: upright, with square pixels, in the colours of BT.709."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.media.decoder.colours import is_wide, to_bt709
from airflow_provider_modelslab.local.media.decoder.frames import flatten

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL.Image import Image

__all__ = ["View", "turn"]

_BT709, _UNSPECIFIED, _BT2020 = 1, 2, 9  # ITU-T H.273's numbers of the matrices that make RGB of YUV
_SD_SIZE = 1280, 576  # the first width that is HD, and the last height that is not


class View:
    """How the frames of a stream are shown.

    :param job: with the ``size`` that frames get, if any, and ``keep_aspect``.
    """

    def __init__(self, stream: VideoStream, job: dict[str, Any]) -> None:
        from av.video.reformatter import VideoReformatter

        self._context = stream.codec_context
        aspect = stream.sample_aspect_ratio
        is_stretched = job["size"] and job.get("keep_aspect", "stretch") == "stretch"
        self._aspect = aspect if aspect is not None and aspect > 0 and not is_stretched else 1
        self._max_pixels: int = job["max_frame_pixels"]
        self._matrix: bytes | None = None
        # One for all: a frame's own one starts threads for each frame.
        self._reformatter = VideoReformatter()

    def picture(self, frame: VideoFrame) -> Image:
        """The frame as RGB; transparent parts of a gif on white."""
        if self._matrix is None:
            # Of the first frame alone: a frame whose side data were looked at lives until the garbage collector runs.
            matrix: Any = frame.side_data.get("DISPLAYMATRIX")
            self._matrix = bytes(matrix or b"")
        if frame.format.name == "bgra":
            picture = _on_white(self._reformatter.reformat(frame, format="rgba"))
        else:
            transfer = self._context.color_trc
            wide = is_wide(transfer, self._context.color_primaries)
            if frame.colorspace == _UNSPECIFIED and (wide or _is_hd(frame)):
                frame.colorspace = _BT2020 if wide else _BT709
            picture = self._reformatter.reformat(frame, format="rgb24").to_image()  # type: ignore[no-untyped-call]
            if wide:
                picture = to_bt709(picture, transfer)
        return turn(self._square(picture), self._matrix)

    def _square(self, picture: Image) -> Image:
        """With square pixels, unless the aspect ratio makes no sense."""
        from PIL import Image

        width = round(picture.width * self._aspect)
        if width == picture.width or not 0 < width * picture.height <= self._max_pixels:
            return picture
        return picture.resize((width, picture.height), Image.Resampling.LANCZOS)


def turn(picture: Image, matrix: bytes) -> Image:
    """Turned and mirrored by a display matrix; angles other than quarter turns are left alone.

    :param matrix: the bytes of nine numbers; none for a frame that is upright.
    """
    from PIL import Image

    if not matrix:
        return picture
    a, b, _, c, d = struct.unpack("=5i", matrix[:20])  # x becomes ax + cy, and y becomes bx + dy
    least = max(map(abs, (a, b, c, d))) / 256
    signs = tuple((value > least) - (value < -least) for value in (a, b, c, d))
    method = {
        (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
        (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
        (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
        (0, 1, -1, 0): Image.Transpose.ROTATE_270,
        (0, -1, 1, 0): Image.Transpose.ROTATE_90,
        (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
        (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
    }.get(signs)
    return picture if method is None else picture.transpose(method)


def _is_hd(frame: VideoFrame) -> bool:
    width, height = _SD_SIZE
    return frame.width >= width or frame.height > height


def _on_white(frame: VideoFrame) -> Image:
    from PIL import Image

    plane = frame.planes[0]
    return flatten(Image.frombytes("RGBA", (frame.width, frame.height), bytes(plane), "raw", "RGBA", plane.line_size))
