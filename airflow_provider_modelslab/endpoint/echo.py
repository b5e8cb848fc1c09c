"""An engine for development and load tests: it generates nothing, and answers within milliseconds.

It keeps the endpoint's contract (a valid mp4 or gif of the size, length and speed asked for, other bytes for another
prompt or seed, the same bytes for the same request) without torch. Whatever comes from it says ``"engine": "echo"``.
"""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.api.request import MAX_SEED, Video2VideoRequest
from airflow_provider_modelslab.local.engine import GenerationInterruptedError
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.encode import write_gif, write_mp4
from airflow_provider_modelslab.local.media.fetch import DownloadStoppedError, FetchLimits, fetch_clip

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["EchoClip", "EchoEngine", "FetchingEchoEngine"]

_SIDE = 512  # pixels, where the request names no size
_FPS = 8
_COLOURS = 16
_TEMPLATES = 64
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class EchoClip:
    """A finished clip, as the endpoint takes it."""

    path: Path
    meta: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Shape:
    kind: str
    width: int
    height: int
    frames: int
    fps: int


class EchoEngine:
    """Paints a square that moves over a coloured ground; prompt and seed choose the colour.

    A clip is encoded once for each shape and colour and kept in memory (64 of them). What makes each request's bytes
    its own is a note in the file's comment (gif) or ``free`` box (mp4), so thousands of jobs cost next to nothing.

    :param seconds: how long each job takes at least.
    :raises ValueError: for negative ``seconds``.
    """

    label = "echo"
    model_count = 0

    def __init__(self, *, seconds: float = 0.0) -> None:
        if seconds < 0:
            raise ValueError(f"echo seconds must be at least 0; got {seconds}")
        self._seconds = seconds

    def check(self, request: Video2VideoRequest) -> None:
        """Take what the vendor takes, for which this engine stands in.

        :raises InvalidRequestError: for a value above the vendor's limits.
        """
        request.check_vendor_limits()

    def generate(
        self, request: Video2VideoRequest, output: Path, *, should_stop: Callable[[], bool] | None = None
    ) -> EchoClip:
        """Write the clip to ``output``, whose folder is there.

        :raises GenerationInterruptedError: when ``should_stop`` said so.
        """
        started = time.monotonic()
        shape = _shape_of(request)
        digest = _digest(request)
        clip, used = _template(shape, digest[0] % _COLOURS)
        self._pretend(started, should_stop)
        return self._write(request, shape, clip, used, output, started)

    def _pretend(self, started: float, should_stop: Callable[[], bool] | None) -> None:
        while (left := started + self._seconds - time.monotonic()) > 0:
            if should_stop is not None and should_stop():
                raise GenerationInterruptedError("stopped while pretending to work")
            time.sleep(min(left, _LOOK_S))

    def _write(
        self,
        request: Video2VideoRequest,
        shape: _Shape,
        clip: bytes,
        used: dict[str, Any],
        output: Path,
        started: float,
    ) -> EchoClip:
        digest = _digest(request)
        output.write_bytes(_noted(clip, shape.kind, f"airflow-provider-modelslab echo {digest.hex()}".encode()))
        meta = {
            **request.record(),
            **used,
            "seed": int.from_bytes(digest[:4]) & MAX_SEED if request.seed is None else request.seed,
            "engine": self.label,
        }
        return EchoClip(output, meta, time.monotonic() - started)


@dataclass(frozen=True, slots=True)
class _Source:
    """A request with its clip's frames, at the size of the result."""

    request: Video2VideoRequest
    frames: list[Image]
    started: float


class FetchingEchoEngine(EchoEngine):
    """Reads ``init_video`` and paints over its frames; nothing is cached. It has the stages of the real engine.

    :param limits: within which clips are read.
    """

    def __init__(self, *, limits: FetchLimits, seconds: float = 0.0) -> None:
        super().__init__(seconds=seconds)
        self._limits = limits

    def generate(
        self, request: Video2VideoRequest, output: Path, *, should_stop: Callable[[], bool] | None = None
    ) -> EchoClip:
        """All stages, one after the other.

        :raises GenerationInterruptedError: when ``should_stop`` said so.
        :raises InvalidRequestError: when ``init_video`` is no clip.
        :raises ClipUnreadableError: when it cannot be decoded.
        """
        prepared = self.prepare(request, should_stop=should_stop)
        return self.encode(self.render(prepared, should_stop=should_stop), output)

    def prepare(self, request: Video2VideoRequest, *, should_stop: Callable[[], bool] | None = None) -> _Source:
        """Read the clip.

        :raises GenerationInterruptedError: when ``should_stop`` said so.
        :raises InvalidRequestError: when ``init_video`` is no clip.
        :raises ClipUnreadableError: when it cannot be decoded.
        """
        started, shape = time.monotonic(), _shape_of(request)
        with tempfile.TemporaryDirectory(prefix="modelslab-echo-") as folder:
            try:
                clip = fetch_clip(request.init_video, Path(folder), limits=self._limits, should_stop=should_stop)
            except DownloadStoppedError as error:
                raise GenerationInterruptedError(str(error)) from None
            frames, _ = read_frames(clip, request.num_frames, size=(shape.width, shape.height))
        return _Source(request, frames, started)

    def render(self, prepared: _Source, *, should_stop: Callable[[], bool] | None = None) -> _Source:
        """Paint.

        :raises GenerationInterruptedError: when ``should_stop`` said so.
        """
        self._pretend(time.monotonic(), should_stop)
        painted = _painted(prepared.frames, _digest(prepared.request)[0] % _COLOURS)
        return _Source(prepared.request, painted, prepared.started)

    def encode(self, rendered: _Source, output: Path) -> EchoClip:
        """Write the clip to ``output``, whose folder is there."""
        request, shape = rendered.request, _shape_of(rendered.request)
        with tempfile.TemporaryDirectory(prefix="modelslab-echo-") as folder:
            clip, used = _encoded(rendered.frames, shape, Path(folder))
        return self._write(request, shape, clip, used, output, rendered.started)


def _shape_of(request: Video2VideoRequest) -> _Shape:
    return _Shape(
        kind=request.output_type or "mp4",
        width=request.upscale_width or request.width or _SIDE,
        height=request.upscale_height or request.height or _SIDE,
        frames=request.num_frames,
        fps=request.fps or _FPS,
    )


def _digest(request: Video2VideoRequest) -> bytes:
    """What makes the clip of a request its own: all but how it is delivered, and how its link is signed."""
    asked = request.model_dump(mode="json", exclude={"webhook", "track_id", "instant_response", "temp", "base64"})
    asked["init_video"] = strip_query(request.init_video)
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()


@lru_cache(maxsize=_TEMPLATES)
def _template(shape: _Shape, colour: int) -> tuple[bytes, dict[str, Any]]:
    from PIL import Image

    ground = Image.new("RGB", (shape.width, shape.height), _rgb(colour))
    with tempfile.TemporaryDirectory(prefix="modelslab-echo-") as folder:
        return _encoded(_painted([ground] * shape.frames, colour + _COLOURS // 2), shape, Path(folder))


def _painted(frames: list[Image], colour: int) -> list[Image]:
    """Copies of the frames with a square of the colour that moves from the left to the right."""
    painted = [frame.copy() for frame in frames]
    for number, frame in enumerate(painted):
        side = max(1, min(frame.size) // 4)
        left = (frame.width - side) * number // max(1, len(painted) - 1)
        top = (frame.height - side) // 2
        frame.paste(_rgb(colour), (left, top, left + side, top + side))
    return painted


def _rgb(colour: int) -> tuple[int, int, int]:
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb(colour % _COLOURS / _COLOURS, 0.7, 0.8)
    return round(255 * red), round(255 * green), round(255 * blue)


def _encoded(frames: list[Image], shape: _Shape, folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The clip's bytes, and what it is in the request's words."""
    path = folder / f"echo.{shape.kind}"
    width, height, fps = shape.width, shape.height, float(shape.fps)
    if shape.kind == "gif":
        fps = write_gif(frames, path, fps)
    else:
        width, height = write_mp4(frames, path, fps)
    used = {
        "output_type": shape.kind, "width": width, "height": height, "fps": int(fps), "num_frames": len(frames)
    }  # fmt: skip
    return path.read_bytes(), used


def _noted(clip: bytes, kind: str, note: bytes) -> bytes:
    """The clip with a note where players do not look: a gif's comment, or a ``free`` box at the end of an mp4."""
    if kind == "gif":
        return clip[:-1] + b"\x21\xfe" + bytes([len(note)]) + note + b"\x00" + clip[-1:]
    return clip + struct.pack(">I4s", 8 + len(note), b"free") + note
