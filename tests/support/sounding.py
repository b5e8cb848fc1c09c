"""Tiny clips with sound: a beep whose time is known, over frames whose grey says their number."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

__all__ = ["BEEP", "beep_time", "frame_times", "grey_frames", "greys", "write_sounding"]

BEEP = 0.5
"""Seconds of the movie at which the beep begins."""

_RATE = 44100
_UNIT = Fraction(1, 30000)
_FORMATS = {"aac": "fltp", "alac": "s16p", "pcm_s16le": "s16", "libmp3lame": "fltp", "libopus": "flt"}


def grey_frames(count: int, *, size: tuple[int, int] = (64, 48), step: int = 5) -> list[Image.Image]:
    """Frames of one grey each, darker to lighter: 16, 16 + ``step``, ..."""
    return [Image.new("RGB", size, (16 + step * number,) * 3) for number in range(count)]


def write_sounding(
    path: Path,
    frames: Sequence[Image.Image],
    times: Sequence[float],
    *,
    codec: str | None = "aac",
    sound_from: float = 0.0,
    seconds: float = 0.0,
) -> None:
    """Write them; the suffix of the path is the container.

    :param times: of the frames in seconds; the last one lasts as long as the one before it.
    :param codec: of the sound; ``None`` for none.
    :param sound_from: when the sound begins in the movie.
    :param seconds: how long the sound is; as long as the frames by default.
    """
    length = 2 * times[-1] - times[-2]
    with av.open(str(path), "w", format=path.suffix[1:]) as container:
        video: Any = container.add_stream("libx264", rate=Fraction(1 / (times[-1] - times[-2])).limit_denominator(1001))
        video.width, video.height, video.pix_fmt = *frames[0].size, "yuv420p"
        video.codec_context.time_base = _UNIT
        video.options = {"crf": "4", "bf": "0"}
        sound: Any = None
        if codec is not None:
            rate = 48000 if codec == "libopus" else _RATE
            sound = container.add_stream(codec, rate=rate, layout="mono")
        for time, picture in zip(times, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(time / _UNIT), _UNIT
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None and codec is not None:
            _add_sound(container, sound, _FORMATS[codec], sound_from, seconds or length - sound_from)


def _add_sound(container: Any, sound: Any, form: str, start: float, seconds: float) -> None:
    rate = sound.rate
    at = start + np.arange(round(seconds * rate)) / rate
    wave = np.where((at >= BEEP) & (at < BEEP + 0.2), 0.8 * np.sin(2 * np.pi * 1000 * at), 0.0).astype(np.float32)
    piece = sound.codec_context.frame_size or 1024
    resampler = av.AudioResampler(format=form, layout="mono", rate=rate)
    for begin in range(0, len(wave), piece):
        frame = av.AudioFrame.from_ndarray(wave[None, begin : begin + piece], format="flt", layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(start * rate) + begin
        for part in resampler.resample(frame):
            container.mux(sound.encode(part))
    container.mux(sound.encode(None))


def beep_time(path: Path) -> float | None:
    """When the beep is heard, in seconds after the first frame is shown; ``None`` without sound."""
    with av.open(str(path)) as container:
        if not container.streams.audio:
            return None
        for frame in container.decode(audio=0):
            wave = np.abs(np.asarray(frame.to_ndarray(), float)).reshape(-1)
            loud = np.flatnonzero(wave > (0.2 if "flt" in frame.format.name else 0.2 * 2**15))
            if len(loud):
                return float(frame.time or 0) + float(loud[0]) / frame.sample_rate - frame_times(path)[0]
    return None


def frame_times(path: Path) -> list[float]:
    """When the frames are shown, in seconds."""
    with av.open(str(path)) as container:
        return [float(frame.time or 0) for frame in container.decode(video=0)]


def greys(path: Path) -> list[float]:
    """The mean grey of each frame."""
    with av.open(str(path)) as container:
        return [float(frame.to_ndarray(format="rgb24").mean()) for frame in container.decode(video=0)]
