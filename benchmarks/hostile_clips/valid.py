"""Valid clips: every codec and container of mp4, QuickTime and gif that this PyAV and Pillow can write."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from PIL import Image

from airflow_provider_modelslab.local.media.encode import write_gif
from benchmarks.hostile_clips.boxes import box, places

__all__ = ["Clip", "base", "frames_that_play", "make_gif", "make_valid", "make_video"]

_RATES = (5, 8, 12, 15, Fraction(24000, 1001), 24, 25, Fraction(30000, 1001), 30, 50, 60)
_NOT_UTF8 = b"caf\xe9 \xff\xfe \x80"
_BASES = 48


class Clip(NamedTuple):
    """A clip and what is known of it.

    :param shade: the mean of its first frame's pixels, 0 to 255; all are grey.
    """

    data: bytes
    label: str
    frames: int
    shade: float


class _Codec(NamedTuple):
    encoder: str
    formats: tuple[str, ...]  # containers
    pixels: tuple[str, ...] = ("yuv420p",)
    sizes: tuple[tuple[int, int], ...] = ()  # where not any will do
    options: dict[str, str] = {}  # noqa: RUF012 - never changed
    least: int = 0  # pixels of width and of height
    weight: int = 1  # how often, as other codecs are slow to write


_MP4, _MOV = ("mp4",), ("mov",)
_BOTH = ("mp4", "mov")
_ALL = ("mp4", "mov", "3gp", "3g2", "ipod", "psp", "ismv", "f4v")

_CODECS = (
    _Codec("libx264", _ALL, ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "gray", "nv12", "yuv420p10le"), weight=12),
    _Codec("libx264rgb", _BOTH, ("rgb24", "bgr24")),
    _Codec(
        "libx265", _BOTH, ("yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "gbrp"), least=64, weight=2
    ),  # writes beyond its memory for less
    _Codec("libsvtav1", _MP4, ("yuv420p", "yuv420p10le"), options={"preset": "12"}),
    _Codec("libvpx-vp9", _MP4, ("yuv420p", "yuv422p", "yuv444p"), options={"cpu-used": "8", "deadline": "realtime"}),
    _Codec("mpeg4", ("mp4", "mov", "3gp", "3g2", "ipod"), weight=5),
    _Codec("mpeg2video", _BOTH, ("yuv420p", "yuv422p"), weight=2),
    _Codec("mpeg1video", _BOTH),
    _Codec("h263", ("mov", "3gp"), sizes=((128, 96), (176, 144))),
    _Codec("msmpeg4", _MOV),
    _Codec("mjpeg", _BOTH, ("yuvj420p", "yuvj422p", "yuvj444p"), weight=3),
    _Codec("jpeg2000", _BOTH, ("rgb24", "gray", "yuv420p", "yuv444p")),
    _Codec("png", _BOTH, ("rgb24", "rgba", "gray", "rgb48be", "pal8", "ya8"), weight=2),
    _Codec("gif", _MOV, ("rgb8", "gray")),
    _Codec("tiff", _MOV, ("rgb24", "gray")),
    _Codec("targa", _MOV, ("bgr24", "bgra", "gray")),
    _Codec("prores_ks", _MOV, ("yuv422p10le", "yuv444p10le", "yuva444p10le")),
    _Codec("prores_aw", _MOV, ("yuv422p10le",)),
    _Codec("dnxhd", _MOV, ("yuv422p",), sizes=((256, 120), (512, 288)), options={"profile": "dnxhr_hq"}),
    _Codec("cfhd", _MOV, ("yuv422p10le", "gbrp12le")),
    _Codec("dvvideo", _MOV, ("yuv420p", "yuv411p"), sizes=((720, 576),)),
    _Codec("ffv1", _MP4, ("yuv420p", "yuv444p", "gbrp", "gray", "rgb48le"), options={"strict": "-2"}),
    _Codec("magicyuv", _MOV, ("gbrp", "yuv420p", "gray")),
    _Codec("qtrle", _MOV, ("rgb24", "argb", "gray")),
    _Codec("rawvideo", _MOV, ("yuv420p", "uyvy422", "yuyv422", "rgb24", "bgr24", "rgb555le")),
    _Codec("v210", _MOV, ("yuv422p10le",)),
    _Codec("v308", _MOV, ("yuv444p",)),
    _Codec("v408", _MOV, ("yuva444p",)),
    _Codec("v410", _MOV, ("yuv444p10le",)),
    _Codec("yuv4", _MOV),
    _Codec("r210", _MOV, ("gbrp10le",)),
    _Codec("r10k", _MOV, ("gbrp10le",)),
    _Codec("avrp", _MOV, ("gbrp10le",)),
    _Codec("svq1", _MOV, ("yuv410p",), sizes=((64, 48), (160, 120))),
    _Codec("cinepak", _MOV, ("rgb24", "gray"), sizes=((64, 48), (96, 64))),
    _Codec("rpza", _MOV, ("rgb555le",)),
)

_FLAGS = (
    *("", "", "faststart", "faststart", "frag_keyframe+empty_moov", "frag_keyframe+empty_moov+default_base_moof"),
    *("frag_keyframe+empty_moov+separate_moof", "negative_cts_offsets", "use_metadata_tags", "dash", "cmaf"),
)


def make_valid(rng: random.Random) -> Clip:
    """Any valid clip; one in five is a gif."""
    return make_gif(rng) if rng.random() < 0.2 else make_video(rng)


@lru_cache(_BASES)
def base(number: int, kind: str) -> Clip:
    """One of a few clips that others are made from, at least 8 frames long, its index in front where it has one.

    :param kind: ``mp4`` or ``gif``.
    """
    rng = random.Random(f"base {number % _BASES} {kind}")
    if kind == "gif":
        return make_gif(rng, frames=8 + number % 5)
    codec = rng.choices(_CODECS, [codec.weight for codec in _CODECS])[0]
    return _video(rng, codec, frames=8 + number % 5, flags="faststart") or _fallback(rng, 8 + number % 5)


def make_video(rng: random.Random) -> Clip:
    """An mp4 or QuickTime file, with what such files have beside pictures."""
    for _ in range(8):
        codec = rng.choices(_CODECS, [codec.weight for codec in _CODECS])[0]
        made = _video(rng, codec, frames=rng.randint(1, 20), flags=rng.choice(_FLAGS))
        if made is not None:
            data, label = _with_extras(rng, made.data)
            clip = made._replace(data=data, label=f"{made.label} {label}".strip())
            if frames_that_play(clip.data) == made.frames:
                return clip
    return _fallback(rng, rng.randint(1, 20))


def _fallback(rng: random.Random, frames: int) -> Clip:
    made = _video(rng, _CODECS[0]._replace(formats=_MP4, pixels=("yuv420p",)), frames=frames, flags="faststart")
    if made is None:
        raise RuntimeError("x264 writes no plain mp4")
    return made


def _pictures(rng: random.Random, width: int, height: int, count: int) -> list[Any]:
    """Grey ground, and a bar that moves over it."""
    ground, bar = rng.choice((60, 90, 128, 200)), rng.choice((30, 160, 220))
    pictures = []
    for number in range(count):
        plane = np.full((height, width), ground, np.uint8)
        at = (width - width // 4) * number // max(1, count - 1)
        plane[:, at : at + max(1, width // 4)] = bar
        pictures.append(np.repeat(plane[:, :, None], 3, axis=2))
    return pictures


def _video(rng: random.Random, codec: _Codec, *, frames: int, flags: str) -> Clip | None:
    """``None`` where this cannot be written, such as a codec in fragments."""
    form, pixels = rng.choice(codec.formats), rng.choice(codec.pixels)
    width, height = rng.choice(codec.sizes) if codec.sizes else (2 * rng.randint(16, 80), 2 * rng.randint(16, 60))
    width, height = max(codec.least, width), max(codec.least, height)
    rate = rng.choice(_RATES) if codec.encoder != "dvvideo" else 25
    if codec.encoder == "mpeg4" or codec.encoder.startswith("mpeg"):
        rate = rng.choice((24, 25, 30))
    pictures = _pictures(rng, width, height, frames)
    label = f"{form} {codec.encoder} {pixels} {width}x{height} {frames}f {flags}"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip")
        try:
            _write(path, codec, form, pixels, pictures, rate, flags, sound=rng.random() < 0.2)
        except (av.FFmpegError, ValueError, OSError):
            return None
        data = path.read_bytes()
    if data[4:8] != b"ftyp" or frames_that_play(data) != frames:
        return None
    return Clip(data, label, frames, float(pictures[0].mean()))


def _write(
    path: Path, codec: _Codec, form: str, pixels: str, pictures: Sequence[Any], rate: Any, flags: str, *, sound: bool
) -> None:
    options = {"strict": "experimental", **({"movflags": flags} if flags else {})}
    with av.open(str(path), "w", format=form, options=options) as container:
        stream: Any = container.add_stream(codec.encoder, rate=Fraction(rate))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        stream.options = {"strict": "experimental", "threads": "1", "x265-params": "log-level=none", **codec.options}
        voice: Any = container.add_stream("aac", rate=44100) if sound and form in {"mp4", "mov", "ipod"} else None
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 44100
            container.mux(voice.encode(silence))
            container.mux(voice.encode(None))


def _with_extras(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """What phones, editors and servers leave in a file, at its end, where nothing else moves."""
    kind = rng.choice(("", "", "", "free", "uuid", "metadata", "rotated", "unknown", "wide", "brands"))
    if kind == "free":
        return data + box(b"free", rng.randbytes(rng.randint(0, 200))), kind
    if kind == "uuid":
        return data + box(b"uuid", rng.randbytes(16 + rng.randint(0, 100))), kind
    if kind == "unknown":
        return data + box(bytes(rng.choices(b"abcdefgh", k=4)), rng.randbytes(20)), kind
    if kind == "wide":
        return data + box(b"wide"), kind
    if kind == "brands":
        return data[:8] + rng.choice((b"isom", b"mp41", b"mp42", b"qt  ", b"3gp4", b"M4V ", b"XYZ1")) + data[12:], kind
    moov = next((place for place in places(data) if place.kind == b"moov"), None)
    if moov is None:
        return data, ""
    end = moov.start + moov.length
    if kind == "metadata":
        # The old index becomes free space, and the new one stands at the end.
        names = (b"\xa9nam", b"\xa9cmt", b"\xa9too", b"\xa9ART")
        text = struct.pack(">HH", len(_NOT_UTF8), 0x55C4) + _NOT_UTF8
        index = data[moov.start + 8 : end] + box(b"udta", box(rng.choice(names), text))
        return data[: moov.start] + box(b"free", data[moov.start + 8 : end]) + data[end:] + box(b"moov", index), kind
    if kind == "rotated":
        track = next((place for place in places(data) if place.kind == b"tkhd"), None)
        upright = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
        if track is not None and (at := data.find(upright, track.start, track.start + track.length)) > 0:
            turned = struct.pack(">9i", -1 << 16, 0, 0, 0, -1 << 16, 0, 0, 0, 1 << 30)
            return data[:at] + turned + data[at + len(turned) :], kind
    return data, ""


def make_gif(rng: random.Random, *, frames: int | None = None) -> Clip:
    """A gif in one of the many ways."""
    count = frames or rng.randint(1, 12)
    width, height = rng.randint(4, 120), rng.randint(4, 90)
    arrays = _pictures(rng, width, height, count)
    pictures = [Image.fromarray(array) for array in arrays]
    way = rng.choice(("ours", "paletted", "rgb", "interlaced", "disposed", "comment", "one colour table", "grey"))
    if way == "ours":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "clip.gif")
            write_gif(pictures, path, rng.choice((5, 10, 25)))
            data = path.read_bytes()
    else:
        if way in {"paletted", "interlaced"}:
            pictures = [picture.quantize(rng.choice((2, 4, 16, 256))) for picture in pictures]
        if way == "grey":
            pictures = [picture.convert("L") for picture in pictures]
        buffer = io.BytesIO()
        more: dict[str, Any] = {"interlace": way == "interlaced", "optimize": way == "one colour table"}
        if way == "disposed":
            more["disposal"] = rng.choice((0, 1, 2, 3))
        if way == "comment":
            more["comment"] = _NOT_UTF8
        pictures[0].save(
            buffer,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=rng.choice((0, 10, 20, 40, 100, 1000)),
            loop=rng.choice((0, 1, 5)),
            **more,
        )
        data = buffer.getvalue()
    return Clip(data, f"gif {way} {width}x{height} {count}f", count, float(arrays[0].mean()))


def frames_that_play(data: bytes) -> int:
    """How many frames a player shows: FFmpeg, which goes on after damaged packets as players do.

    It finds out the format by itself and knows none of the provider's limits, so it is a judge of its own.
    """
    shown = 0
    try:
        with av.open(io.BytesIO(data), "r", metadata_errors="replace") as container:
            stream: Any = container.streams.best("video")
            if stream is None or stream.codec_context is None:
                return 0
            stream.codec_context.thread_count = 1
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                except av.FFmpegError:
                    packet = None
                with contextlib.suppress(av.FFmpegError, EOFError):
                    shown += len(stream.codec_context.decode(packet if packet is not None and packet.size else None))
                if packet is None or not packet.size:
                    return shown
    except (av.FFmpegError, OSError, ValueError):
        return shown
