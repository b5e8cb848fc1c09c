"""The program that decodes clips, one after the other, for the process that started it.

A clip comes from whoever wrote the request, and FFmpeg and Pillow are large libraries in C. So they read it here, with
limits of memory and processor time, and with no file descriptor left to open another file or a connection. It imports
nothing of this package, so that it starts in a tenth of a second.

File descriptor 0 is a Unix socket. A message is the length of its head (4 bytes, big-endian), the head in JSON, and
``bytes`` more if the head says so. A job comes with the descriptor of its clip, on one byte before its message. The
answers are ``frame`` with its pixels, ``again`` (forget the frames so far), and in the end one of ``total``,
``unreadable`` (the clip is at fault; ``spent`` if this process should read no other one) and ``failed`` (it is not).
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import socket
import struct
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from itertools import chain, repeat
from pathlib import Path
from pkgutil import walk_packages
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL.Image import Image

__all__ = ["DECODERS", "Link", "Unreadable", "frame_order", "main", "sample_indices"]

DECODERS = (
    *("h264", "hevc", "vvc", "libdav1d", "av1", "vp9", "libvpx-vp9", "vp8", "libvpx"),  # phones, browsers
    *("mpeg4", "mpeg2video", "mpeg1video", "mpegvideo", "h263", "h263p", "h261", "vc1", "dvvideo"),  # cameras, discs
    *("prores", "prores_raw", "dnxhd", "cfhd", "aic", "hap", "ffv1", "magicyuv", "utvideo", "huffyuv"),  # editing
    *("mjpeg", "mjpegb", "jpeg2000", "png", "gif", "qtrle", "rawvideo", "yuv4", "v210", "v308", "v408", "v410"),
    *("svq1", "svq3", "cinepak", "rpza", "smc", "8bps", "r10k", "r210", "avrp", "targa", "tiff"),  # QuickTime of old
    *("msmpeg4", "msmpeg4v2", "msmpeg4v1", "wmv1", "wmv2", "wmv3", "flv", "theora", "dirac", "speedhq", "qdraw"),
)
"""The decoders of FFmpeg that are let at a clip: those of what players play. No others run, nor any of sound."""

_GIF_DEFAULT_DELAY = 100  # milliseconds: what browsers take for a delay of 0
_MAX_THREADS = 8
_THREAD_PIXELS = 20_000_000  # in the frames that all threads work on: their memory
_MAX_FLUSHES = 64  # attempts to get the last frames out of a decoder that has read a damaged clip
_PIXEL_SLACK = 1.1  # decoders count the padding of their rows
_PROBE_PIXELS = 4  # times the limit: up to there, the size of frames that are too large is known and told


class Unreadable(Exception):  # noqa: N818 - the clip is, and this program is not at fault
    """The clip cannot be read, and why, as the end of a sentence that begins with its name."""


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


class Link:
    """One end of the socket, with messages."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Send a message."""
        text = json.dumps({**head, "bytes": len(body)} if body else head).encode()
        self._end.sendall(struct.pack(">I", len(text)) + text)
        if body:
            self._end.sendall(body)

    def job(self) -> tuple[dict[str, Any], int] | None:
        """The next job and the descriptor of its clip; ``None`` when there is none any more."""
        mark, descriptors, _, _ = socket.recv_fds(self._end, 1, 1)
        if not mark or not descriptors:
            return None
        (length,) = struct.unpack(">I", self._exactly(4))
        return json.loads(self._exactly(length)), descriptors[0]

    def _exactly(self, count: int) -> bytes:
        received = b""
        while len(received) < count:
            chunk = self._end.recv(count - len(received))
            if not chunk:
                raise EOFError
            received += chunk
        return received


class _Frames:
    """The pictures on their way to the other process."""

    def __init__(self, link: Link, job: dict[str, Any]) -> None:
        self._link = link
        self._size = tuple(job["size"]) if job["size"] else None
        self._max_frame_pixels: int = job["max_frame_pixels"]
        self._max_clip_pixels: int = job["max_clip_pixels"]
        self._max_frames: int = job["max_frames"]
        self._wanted: set[int] = set()
        self._sent: set[int] = set()
        self.seen = 0
        self._pixels = 0

    def begin(self, order: list[int]) -> None:
        """Count from 0; these frames are wanted."""
        if self._sent:
            self._link.send({"again": True})
        self._wanted, self._sent, self.seen, self._pixels = set(order), set(), 0, 0

    def is_next_wanted(self, width: int, height: int) -> bool:
        """Count the next frame and check its size; whether it is one to :meth:`send`."""
        self._pixels += width * height
        self.seen += 1
        self.check(width, height, 1)
        if self._pixels > self._max_clip_pixels:
            raise Unreadable(f"frames are too much to decode; {self._at_most}")
        if self.seen > self._max_frames:
            self.check(width, height, self.seen)
        return self.seen - 1 in self._wanted

    def send(self, picture: Image) -> None:
        """Send the frame that was counted last."""
        from PIL import Image

        if self._size is not None and picture.size != self._size:
            picture = picture.resize(self._size, Image.Resampling.LANCZOS)
        self._link.send({"frame": self.seen - 1, "size": picture.size}, picture.tobytes())
        self._sent.add(self.seen - 1)

    @property
    def complete(self) -> bool:
        """Whether all that are wanted were sent."""
        return self._sent == self._wanted

    def check(self, width: int, height: int, frames: int) -> None:
        """Refuse what is over the limits."""
        if width * height > self._max_frame_pixels:
            raise Unreadable(
                f"frames of {width}x{height} are too large; at most {self._max_frame_pixels} pixels are read"
            )
        if frames > self._max_frames:
            raise Unreadable(f"{frames} frames are too much to decode; at most {self._max_frames} are read: cut it")
        if width * height * frames > self._max_clip_pixels:
            raise Unreadable(f"{frames} frames of {width}x{height} are too much to decode; {self._at_most}")

    @property
    def _at_most(self) -> str:
        return f"at most {self._max_clip_pixels} pixels in all frames together are read: cut it or make it smaller"


def _read_mp4(clip: IO[bytes], job: dict[str, Any], frames: _Frames) -> tuple[int, float]:
    """Send the frames; how many there are, and frames per second (0 if unknown)."""
    with _opened(clip, job) as (container, stream):
        total = stream.frames or sum(1 for _ in _packets(container, stream))
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        frames.check(stream.width, stream.height, total)
    while total:
        frames.begin(frame_order(total, job["count"]))
        with _opened(clip, job) as (container, stream):
            for frame in _decoded(container, stream):
                if frames.is_next_wanted(frame.width, frame.height):
                    frames.send(_upright(frame.to_image(), frame.rotation))  # type: ignore[no-untyped-call]
                    if frames.complete:
                        return total, fps
        total = frames.seen  # fewer came out than the header promised: damaged frames, edit lists
    raise Unreadable("has no frame that can be decoded")


@contextmanager
def _opened(clip: IO[bytes], job: dict[str, Any]) -> Iterator[tuple[InputContainer, VideoStream]]:
    import av

    clip.seek(0)
    options = {
        "codec_whitelist": ",".join(DECODERS),
        "protocol_whitelist": "none",  # nothing beside the clip is opened
        "max_pixels": str(job["max_frame_pixels"] * _PROBE_PIXELS),
    }
    # The format is fixed, so that no content can choose one that opens other files or links.
    with av.open(clip, "r", format="mp4", options=options, metadata_errors="replace") as container:
        stream = container.streams.best("video")
        if not isinstance(stream, av.VideoStream):
            raise Unreadable("has no video track that can be decoded")
        if stream.codec_context is None or stream.codec_context.name not in DECODERS:
            name = "unknown" if stream.codec_context is None else stream.codec_context.name
            raise Unreadable(f"has an unsupported codec ({name})")
        stream.codec_context.options = {"max_pixels": str(int(job["max_frame_pixels"] * _PIXEL_SLACK))}
        stream.codec_context.thread_type = "AUTO"
        pixels = max(1, stream.width * stream.height)
        threads = min(_MAX_THREADS, len(os.sched_getaffinity(0)), _THREAD_PIXELS // pixels)
        stream.codec_context.thread_count = max(1, threads)
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


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """The frames that players show: damaged packets are left out, and it is an error if nothing is left."""
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
            first_error = first_error or error
            continue
        came += len(frames)
        yield from frames
    if first_error is not None and not came:
        raise first_error


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


def _read_gif(clip: IO[bytes], job: dict[str, Any], frames: _Frames) -> tuple[int, float]:
    """Send the frames; how many there are, and frames per second."""
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = job["max_frame_pixels"]
    width, height = struct.unpack("<HH", clip.read(10)[6:].ljust(4, b"\0"))
    frames.check(width, height, 1)
    total = _count_gif(clip)
    while True:
        order = frame_order(total, job["count"])
        frames.begin(order)
        clip.seek(0)
        milliseconds = 0.0
        with Image.open(clip, formats=["GIF"]) as gif:
            frames.check(*gif.size, total)
            try:
                for index in range(max(order) + 1):
                    gif.seek(index)
                    gif.load()
                    frames.check(*gif.size, total)  # a frame may be larger than the header's size
                    milliseconds += gif.info.get("duration") or _GIF_DEFAULT_DELAY
                    if frames.is_next_wanted(*gif.size):
                        frames.send(_flatten(gif))
            except (Unreadable, MemoryError, Image.DecompressionBombError, BrokenPipeError):
                raise
            except Exception:
                if not index:
                    raise
                total = index  # it is shown as far as it goes, as in browsers
                continue
        return total, (index + 1) * 1000 / milliseconds


def _count_gif(clip: IO[bytes]) -> int:
    from PIL import Image

    clip.seek(0)
    with Image.open(clip, formats=["GIF"]) as gif:
        try:
            return int(getattr(gif, "n_frames", 1))
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 - Pillow raises nearly everything for damaged files
            return gif.tell() + 1


def _flatten(frame: Image) -> Image:
    """A gif's current frame as RGB, on white. Frames come as palette, RGB or RGBA, even within one file."""
    from PIL import Image

    picture = frame.convert("RGBA")
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture).convert("RGB")


def _answer(job: dict[str, Any], clip: IO[bytes], link: Link) -> dict[str, Any]:
    """Do the job; the last answer."""
    import av
    from PIL import Image

    kind = job["kind"]
    try:
        frames = _Frames(link, job)
        total, fps = _read_gif(clip, job, frames) if kind == "gif" else _read_mp4(clip, job, frames)
    except Unreadable as error:
        return {"unreadable": str(error)}
    except MemoryError:
        return {"unreadable": f"cannot be decoded within {job['memory'] >> 20} MiB", "spent": True}
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return {"unreadable": f"frames are too large; at most {job['max_frame_pixels']} pixels are read"}
    except av.FFmpegError as error:
        if error.errno == errno.EINVAL:  # of max_pixels, mostly
            most = job["max_frame_pixels"]
            return {"unreadable": f"cannot be decoded as {kind}: it is damaged, or its frames have over {most} pixels"}
        if error.errno == errno.EAGAIN:  # of the system's limit for threads
            return {"failed": "no more threads can be started on this machine"}
        return {"unreadable": f"cannot be decoded as {kind} ({error.strerror})"}
    except BrokenPipeError:  # nobody waits for the answer any more
        raise
    except OSError as error:
        if error.errno is not None:  # of the disk; what Pillow raises has none
            return {"failed": f"the file cannot be read ({error.strerror})"}
    except Exception:  # noqa: BLE001, S110 - Pillow raises nearly everything for damaged files
        pass
    else:
        return {"total": total, "fps": fps}
    return {"unreadable": f"cannot be decoded as {kind}: it is damaged or cut off"}


def _confine(memory: int) -> None:
    """Limit this process for good: its memory, and that it opens and writes no file but the clip that it is given."""
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = {
        resource.RLIMIT_AS: pages * resource.getpagesize() + memory,
        resource.RLIMIT_NOFILE: free + 1,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
    }
    for name, limit in limits.items():
        _, highest = resource.getrlimit(name)
        allowed = limit if highest == resource.RLIM_INFINITY else min(limit, highest)
        resource.setrlimit(name, (allowed, allowed))


def _allow_seconds(seconds: int) -> None:
    """Let the system end this process after so many more seconds of processor time."""
    _, highest = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time()) + seconds, highest))


def main(arguments: list[str]) -> None:
    """Work until the other end is closed.

    :param arguments: bytes of memory beyond those of the libraries, and the folders of those.
    """
    memory, *folders = arguments
    sys.path += folders
    link = Link(socket.socket(fileno=0))
    try:
        import av
        from PIL import Image

        # All that is imported later, since no file can be opened then.
        for module in walk_packages(av.__path__, "av."):
            if module.name not in {"av.__main__", "av.datasets"}:
                import_module(module.name)
        Image.preinit()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other process tells it
        link.send({"failed": f"PyAV or Pillow cannot be imported ({type(error).__name__}: {error})"})
        return
    _confine(int(memory))
    while (received := link.job()) is not None:
        job, descriptor = received
        _allow_seconds(job["cpu_seconds"])
        with os.fdopen(descriptor, "rb", buffering=0) as clip:
            answer = _answer(job, clip, link)
        link.send(answer)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (BrokenPipeError, ConnectionError, EOFError):
        sys.exit(0)
