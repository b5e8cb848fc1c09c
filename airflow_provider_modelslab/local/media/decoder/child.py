"""The program that decodes clips, one after the other, for the process that started it.

A clip comes from whoever wrote the request, and FFmpeg and Pillow are large libraries in C. So they read it here, with
limits of memory and processor time, and with no file descriptor left to open another file or a connection. It imports
nothing of this package but what is in this folder, so that it starts in a tenth of a second.

File descriptor 0 is a Unix socket. A message is the length of its head (4 bytes, big-endian), the head in JSON, and
``bytes`` more if the head says so. A job comes with the descriptor of its clip, on one byte before its message. The
answers are ``frame`` with its pixels, ``again`` (forget the frames so far), ``shown`` (the same, and which frames come
now), ``sound`` with a piece of it, and in the end one of ``order`` (of the frames to show), ``result`` (of another
``task`` than that), ``unreadable`` (the clip is at fault; ``spent`` if this process should read no other one) and
``failed`` (it is not).
"""

from __future__ import annotations

import errno
import gc
import json
import math
import os
import resource
import socket
import struct
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import IO, Any

__all__ = ["Link", "main"]


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


def _answer(job: dict[str, Any], clip: IO[bytes], link: Link) -> dict[str, Any]:
    """Do the job; the last answer."""
    import av
    from PIL import Image

    from airflow_provider_modelslab.local.media.decoder.frames import Frames, UnreadableError
    from airflow_provider_modelslab.local.media.decoder.gif import read_gif
    from airflow_provider_modelslab.local.media.decoder.probe import probe
    from airflow_provider_modelslab.local.media.decoder.sound import send_sound
    from airflow_provider_modelslab.local.media.decoder.video import read_video

    kind = job["kind"]
    try:
        if job.get("task") == "probe":
            return {"result": probe(clip, job)}
        if job.get("task") == "sound":
            return {"result": send_sound(clip, job, link)}
        frames = Frames(link, job)
        order, fps = read_gif(clip, job, frames) if kind == "gif" else read_video(clip, job, frames, "mp4")
    except UnreadableError as error:
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
        return {"order": order, "fps": fps}
    return {"unreadable": f"cannot be decoded as {kind}: it is damaged or cut off"}


def _accept_all_side_data() -> None:
    """Let PyAV give a frame's side data, such as its display matrix, where there is a kind too that it does not know.

    FFmpeg knows more kinds than PyAV 18.1 does. EXIF is one, which cameras write into Motion JPEG.
    """
    from av.sidedata.sidedata import Type

    def unknown(kinds: type[Any], value: int) -> Any:
        kind = object.__new__(kinds)
        kind._name_, kind._value_ = f"UNKNOWN_{value}", value
        return kind

    Type._missing_ = classmethod(unknown)  # type: ignore[assignment, method-assign]


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
    warnings.simplefilter("ignore")  # to show one, Python opens the file that it comes from
    link = Link(socket.socket(fileno=0))
    try:
        import av
        from PIL import Image

        # All that is imported later, since no file can be opened then.
        for module in walk_packages(av.__path__, "av."):
            if module.name not in {"av.__main__", "av.datasets"}:
                import_module(module.name)
        _accept_all_side_data()
        Image.preinit()
        import_module("airflow_provider_modelslab.local.media.decoder.probe")
        import_module("airflow_provider_modelslab.local.media.decoder.colours").read_tables()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other process tells it
        link.send({"failed": f"PyAV or Pillow cannot be imported ({type(error).__name__}: {error})"})
        return
    gc.freeze()  # so that collecting is quick
    _confine(int(memory))
    while (received := link.job()) is not None:
        job, descriptor = received
        _allow_seconds(job["cpu_seconds"])
        with os.fdopen(descriptor, "rb", 1 << 16) as clip:
            answer = _answer(job, clip, link)
        link.send(answer)
        gc.collect()  # PyAV's objects refer to each other, and hold frames and threads


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (BrokenPipeError, ConnectionError, EOFError):
        sys.exit(0)
