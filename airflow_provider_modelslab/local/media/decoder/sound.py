"""The sound of a clip as an mp4 of its own: copied where mp4 takes it as it is, else encoded as AAC."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_modelslab.local.media.decoder.frames import Sender, UnreadableError

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet

__all__ = ["first_sound", "open_sound", "send_sound"]

COPIED = ("aac", "mp3", "alac", "opus")
"""Codecs that are copied: mp4 takes them, and browsers play them."""

DECODERS = (
    *(
        "aac",
        "aac_fixed",
        "aac_latm",
        "mp3float",
        "mp3",
        "mp2float",
        "mp2",
        "alac",
        "flac",
        "opus",
        "libopus",
        "vorbis",
    ),
    *("ac3", "ac3_fixed", "eac3", "dca", "truehd", "wavpack", "ape", "amrnb", "amrwb", "qdm2", "qdmc", "qcelp", "evrc"),
    *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_u8", "pcm_s8"),
    *("pcm_f32le", "pcm_f32be", "pcm_f64le", "pcm_f64be", "pcm_alaw", "pcm_mulaw", "pcm_s16le_planar", "gsm", "gsm_ms"),
    *("adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms", "mace3", "mace6", "wmav2"),
)
"""The decoders of FFmpeg that are let at sound; no others run."""

_RATES = (48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)  # that AAC is encoded with, the best first
_BIT_RATE = 160_000
_PRIMING = Fraction(1, 5)  # seconds before the beginning that decoders may need
_CHUNK = 1 << 20


def open_sound(clip: IO[bytes]) -> InputContainer:
    """The container, of which nothing but sound is decoded."""
    import av

    clip.seek(0)
    options = {"codec_whitelist": ",".join(DECODERS), "protocol_whitelist": "none"}
    return av.open(clip, "r", format="mp4", options=options, metadata_errors="replace")


def first_sound(container: InputContainer) -> Fraction | None:
    """When the sound begins, in seconds; ``None`` without sound."""
    stream = _stream(container)
    if stream is None:
        return None
    for packet in container.demux(stream):
        if packet.size and packet.pts is not None and not packet.is_discard:
            return packet.pts * (stream.time_base or Fraction(1))
    return None


def send_sound(clip: IO[bytes], job: dict[str, Any], link: Sender) -> dict[str, Any]:
    """Send the sound in pieces; its codec, and whether it was copied.

    :param job: with ``origin`` and ``seconds`` of the part that is wanted, as texts of fractions.
    :raises UnreadableError: when none of it can be decoded.
    """
    origin, seconds = Fraction(job["origin"]), Fraction(job["seconds"])
    target = io.BytesIO()
    import av

    with closing(open_sound(clip)) as container:
        stream = _stream(container)
        if stream is None:
            raise UnreadableError("has no sound")
        if stream.codec_context is None or stream.codec_context.name not in DECODERS:
            raise UnreadableError("has sound of an unsupported codec")
        codec = stream.codec_context.codec.canonical_name
        with av.open(target, "w", format="mp4") as output:
            copied = codec in COPIED
            write = _copy if copied else _encode
            if not write(container, stream, output, origin, seconds):
                raise UnreadableError("has sound that cannot be decoded")
    data = target.getvalue()
    for start in range(0, len(data), _CHUNK):
        link.send({"sound": start}, data[start : start + _CHUNK])
    return {"codec": codec if copied else "aac", "copied": copied}


def _stream(container: InputContainer) -> AudioStream | None:
    import av

    stream = container.streams.best("audio")
    return stream if isinstance(stream, av.AudioStream) else None


def _packets(container: InputContainer, stream: AudioStream, until: Fraction) -> Iterator[Packet[AudioStream]]:
    """The packets up to a time in seconds, or to where the file is damaged."""
    import av

    unit = stream.time_base or Fraction(1)
    try:
        for packet in container.demux(stream):
            if packet.pts is not None and packet.pts * unit >= until:
                return
            if packet.size and packet.pts is not None:
                yield packet
    except MemoryError:
        raise
    except av.FFmpegError:
        return


def _copy(
    container: InputContainer, stream: AudioStream, output: OutputContainer, origin: Fraction, seconds: Fraction
) -> bool:
    """Copy packet by packet; whether any of them can be decoded. What comes before the beginning is not played."""
    import av

    copy = output.add_stream_from_template(stream)
    unit = stream.time_base or Fraction(1)
    shift, is_decodable = round(origin / unit), False
    for packet in _packets(container, stream, origin + seconds):
        if not is_decodable:  # one is enough: players pass over damaged ones
            try:
                is_decodable = bool(stream.codec_context.decode(packet))
            except MemoryError:
                raise
            except av.FFmpegError:
                pass
        packet.pts = packet.dts = (packet.pts or 0) - shift
        if packet.pts * unit < -_PRIMING:
            continue
        packet.stream = copy
        output.mux(packet)
    return is_decodable


def _encode(
    container: InputContainer, stream: AudioStream, output: OutputContainer, origin: Fraction, seconds: Fraction
) -> bool:
    """Encode as AAC; whether there was anything to encode."""
    import av

    context = stream.codec_context
    rate = next((rate for rate in _RATES if rate <= context.sample_rate), _RATES[-1])
    layout = "mono" if context.layout.nb_channels == 1 else "stereo"
    encoder: Any = output.add_stream("aac", rate=rate, layout=layout)
    encoder.bit_rate = _BIT_RATE if layout == "stereo" else _BIT_RATE // 2
    resampler = av.AudioResampler(format="fltp", layout=layout, rate=rate)
    written: int | None = None
    for packet in [*_packets(container, stream, origin + seconds), None]:
        try:
            frames: Any = context.decode(packet)
        except MemoryError:
            raise
        except av.FFmpegError:
            continue
        for frame in frames:
            if frame.pts is None or frame.pts * frame.time_base < origin:
                continue
            if written is None:
                written = round((frame.pts * frame.time_base - origin) * rate)
            for part in resampler.resample(frame):
                written = _mux(part, written, encoder, output)
    if written is None:
        return False
    for part in resampler.resample(None):
        written = _mux(part, written, encoder, output)
    output.mux(encoder.encode(None))
    return True


def _mux(part: Any, start: int, encoder: Any, output: OutputContainer) -> int:
    """Encode a piece that starts at a sample; the sample after it."""
    part.pts, part.time_base = start, Fraction(1, part.sample_rate)
    output.mux(encoder.encode(part))
    return start + int(part.samples)
