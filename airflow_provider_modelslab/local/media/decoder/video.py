"""Decoding by FFmpeg: mp4 and its kin, and gifs that Pillow gives up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, islice, repeat
from typing import IO, TYPE_CHECKING, Any

from airflow_provider_modelslab.local.media.decoder.frames import (
    DamagedError,
    Frames,
    UnreadableError,
    choose_frames,
)
from airflow_provider_modelslab.local.media.decoder.view import View

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["DECODERS", "open_video", "read_video", "timeline"]

DECODERS = (
    *("h264", "hevc", "vvc", "libdav1d", "av1", "vp9", "libvpx-vp9", "vp8", "libvpx"),  # phones, browsers
    *("mpeg4", "mpeg2video", "mpeg1video", "mpegvideo", "h263", "h263p", "h261", "vc1", "dvvideo"),  # cameras, discs
    *("prores", "prores_raw", "dnxhd", "cfhd", "aic", "hap", "ffv1", "magicyuv", "utvideo", "huffyuv"),  # editing
    *("mjpeg", "mjpegb", "jpeg2000", "png", "gif", "qtrle", "rawvideo", "yuv4", "v210", "v308", "v408", "v410"),
    *("svq1", "svq3", "cinepak", "rpza", "smc", "8bps", "r10k", "r210", "avrp", "targa", "tiff"),  # QuickTime of old
    *("msmpeg4", "msmpeg4v2", "msmpeg4v1", "wmv1", "wmv2", "wmv3", "flv", "theora", "dirac", "speedhq", "qdraw"),
)
"""The decoders of FFmpeg that are let at a clip: those of what players play. No others run, nor any of sound."""

_MAX_THREADS = 8
_THREAD_PIXELS = 20_000_000  # in the frames that all threads work on: their memory
_MAX_FLUSHES = 64  # attempts to get the last frames out of a decoder
_PIXEL_SLACK = 1.1  # decoders count the padding of their rows
_PROBE_PIXELS = 4  # times the limit: up to there, the size of frames that are too large is known and told


def read_video(clip: IO[bytes], job: dict[str, Any], frames: Frames, form: str) -> tuple[list[int], float]:
    """Send the frames by FFmpeg; the order in which to show them, and frames per second (0 if unknown).

    :param form: FFmpeg's name of the container. It is fixed, so that no content can choose one that opens other files.
    """
    with open_video(clip, job, form) as (container, stream):
        starts, end = timeline(container, stream, job)
        unit = stream.time_base or Fraction(1)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        frames.check(stream.width, stream.height, len(starts))
    careful = False
    while starts:
        order = choose_frames(job, starts, end, unit)
        frames.begin(order, len(starts))
        decoded: list[int | None] = []
        with open_video(clip, job, form, threads=1 if careful else _MAX_THREADS) as (container, stream):
            view = View(stream, job)
            try:
                for frame in _decoded(container, stream, careful=careful):
                    decoded.append(frame.pts)
                    if frames.is_next_wanted(frame.width, frame.height):
                        frames.send(view.picture(frame))
                        if frames.complete:
                            return order, fps
            except DamagedError:
                careful = True
                continue
        starts, end = decoded, None  # fewer came out than there are packets: some are damaged
    raise UnreadableError("has no frame that can be decoded")


def timeline(
    container: InputContainer, stream: VideoStream, job: dict[str, Any]
) -> tuple[list[int | None], int | None]:
    """When each frame is first shown and when the last one ends, in units of the stream's time base.

    Packets outside of the edit list are decoded and not shown.
    """
    packets = islice(_packets(container, stream), job["max_frames"] + 1)
    shown = [(packet.pts, packet.duration or 0) for packet in packets if not packet.is_discard]
    known = sorted((start, start + duration) for start, duration in shown if start is not None)
    if not known or len(known) < len(shown):
        return [None] * len(shown), None
    return [start for start, _ in known], known[-1][1]


@contextmanager
def open_video(
    clip: IO[bytes], job: dict[str, Any], form: str, *, threads: int = _MAX_THREADS
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The container and its video stream, whose decoder is one of :data:`DECODERS`.

    :raises UnreadableError: when there is none.
    """
    import av

    clip.seek(0)
    options = {
        "codec_whitelist": ",".join(DECODERS),
        "protocol_whitelist": "none",  # nothing beside the clip is opened
        "max_pixels": str(job["max_frame_pixels"] * _PROBE_PIXELS),
    }
    with av.open(clip, "r", format=form, options=options, metadata_errors="replace") as container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise UnreadableError("has no video track that can be decoded")
        if stream.codec_context is None or stream.codec_context.name not in DECODERS:
            name = "unknown" if stream.codec_context is None else stream.codec_context.name
            raise UnreadableError(f"has an unsupported codec ({name})")
        stream.codec_context.options = {"max_pixels": str(int(job["max_frame_pixels"] * _PIXEL_SLACK))}
        stream.codec_context.thread_type = "AUTO"
        pixels = max(1, stream.width * stream.height)
        stream.codec_context.thread_count = max(1, min(threads, len(os.sched_getaffinity(0)), _THREAD_PIXELS // pixels))
        yield container, stream


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """The packets up to where the file is damaged, if it is."""
    import av

    try:
        yield from (packet for packet in container.demux(stream) if packet.size)
    except MemoryError:
        raise
    except av.FFmpegError:
        return


def _decoded(container: InputContainer, stream: VideoStream, *, careful: bool) -> Iterator[VideoFrame]:
    """The frames that players show.

    :param careful: go on after damaged packets; it is an error if nothing is left. Threads lose whole frames around
        the damage, so a damaged clip is decoded again by one.
    """
    import av

    came, first_error = 0, None
    for packet in chain(_packets(container, stream), repeat(None, _MAX_FLUSHES)):
        try:
            frames = stream.codec_context.decode(packet)
        except MemoryError:
            raise
        except EOFError:  # the decoder is flushed
            break
        except av.FFmpegError as error:
            if not careful:
                raise DamagedError from None
            first_error = first_error or error
            continue
        came += len(frames)
        yield from frames
    if first_error is not None and not came:
        raise first_error
