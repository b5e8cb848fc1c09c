"""Decoder processes: started when needed, one clip at a time each, ended when a clip takes too much or breaks them."""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import ClipUnreadableError, JobFailedError

__all__ = ["Decoder", "close_idle", "decode_clip", "run_job", "unreadable"]

_MEMORY_BYTES = 896 << 20
"""What a decoder may take beyond its libraries, which take 0.1 GB: less than 1 GiB together."""

_MAX_HEAD_BYTES = 4 << 20
_MAX_JOBS = 200  # clips that one process reads, so that no leak grows
_CONVERT = "Replace the clip, or convert it: ffmpeg -i CLIP -c:v libx264 -pix_fmt yuv420p NEW.mp4"

OnFrame = Callable[[int, tuple[int, int], bytes], None]
OnMessage = Callable[[dict[str, Any], bytes], None]


def unreadable(problem: str) -> ClipUnreadableError:
    """The error for a clip, with what to do about it."""
    return ClipUnreadableError(f"init_video {problem}. {_CONVERT}")


class Decoder:
    """One decoder process, see :mod:`.child`. One thread at a time may use it.

    ``jobs`` counts its clips; ``sound`` says whether it ended the last one in good order, and ``crashed`` whether it
    broke down over it, which is not the same as being stopped.

    :raises JobFailedError: when it cannot be started.
    """

    def __init__(self) -> None:
        self.jobs = 0
        self.sound = True
        self.crashed = False
        self._ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 - this interpreter, with a program of this package
                    _command(),
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=_environment(),
                    cwd="/",
                    start_new_session=True,  # a group of its own, which is killed as one; no Ctrl-C reaches it
                )
        except OSError as error:
            self._ours.close()
            raise JobFailedError(f"The decoder of clips cannot be started ({error.strerror}).") from error

    @property
    def pid(self) -> int:
        """Its process id."""
        pid: int = self._process.pid
        return pid

    @property
    def usable(self) -> bool:
        """Whether it can be given another clip."""
        return self._process.poll() is None and self.jobs < _MAX_JOBS

    def decode(
        self, clip: int, job: Mapping[str, Any], on_frame: OnFrame, *, seconds: float
    ) -> tuple[list[int], float]:
        """Read a clip.

        :param clip: descriptor of the open file.
        :param job: what is wanted, and the limits.
        :param on_frame: called with the index, size and RGB pixels of each frame; a frame that comes again counts.
        :param seconds: until the process is killed, whatever it does.
        :returns: the order in which to show the frames, and the clip's frames per second.
        :raises ClipUnreadableError: when the clip is damaged, or over a limit.
        :raises JobFailedError: when something else went wrong; it may work another time.
        """
        head = self.run(clip, job, _frames_to(on_frame), seconds=seconds)
        return head["order"], head["fps"]

    def run(self, clip: int, job: Mapping[str, Any], on_message: OnMessage, *, seconds: float) -> dict[str, Any]:
        """Do any job with a clip; arguments and errors as :meth:`decode`.

        :param on_message: called with the head and the body of each answer but the last one, which is returned.
        """
        self.jobs += 1
        self.sound = False
        deadline = time.monotonic() + seconds
        text = json.dumps({**job, "memory": _MEMORY_BYTES}).encode()
        try:
            socket.send_fds(self._ours, [b"\0"], [clip])
            self._ours.sendall(struct.pack(">I", len(text)) + text)
            while True:
                head, body = self._receive(deadline, job["max_frame_pixels"] * 3)
                if "order" in head or "result" in head:
                    self.sound = True
                    return head
                if "unreadable" in head:
                    self.sound = not head.get("spent")
                    raise unreadable(head["unreadable"])
                if "failed" in head:
                    raise JobFailedError(f"init_video was not read: {head['failed']}.")
                on_message(head, body)
        except TimeoutError:
            raise JobFailedError(
                f"init_video was not decoded after {seconds:g} s, because this machine is busy. Try again when it is "
                "less busy."
            ) from None
        except (EOFError, ConnectionError):
            raise self._what_ended_it(job["cpu_seconds"]) from None

    def close(self) -> None:
        """End the process and whatever it may have started."""
        self._ours.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def forget(self) -> None:
        """Let go of it without ending it: it is the child of the process that this one was forked from."""
        self._ours.close()
        self._process.returncode = 0

    def _receive(self, deadline: float, most: int) -> tuple[dict[str, Any], bytes]:
        (length,) = struct.unpack(">I", self._exactly(4, deadline))
        if length > _MAX_HEAD_BYTES:
            raise EOFError
        head: dict[str, Any] = json.loads(self._exactly(length, deadline))
        count = head.get("bytes", 0)
        if count > most:
            raise EOFError
        return head, self._exactly(count, deadline)

    def _exactly(self, count: int, deadline: float) -> bytes:
        buffer = bytearray(count)
        view = memoryview(buffer)
        while view:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._ours.settimeout(left)
            received = self._ours.recv_into(view)
            if not received:
                raise EOFError
            view = view[received:]
        return bytes(buffer)

    def _what_ended_it(self, cpu_seconds: int) -> ClipUnreadableError | JobFailedError:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            status = 0
        if status == -signal.SIGXCPU:
            return unreadable(f"cannot be decoded within {cpu_seconds} s of processor time")
        self.crashed = True
        if status in {0, -signal.SIGKILL, -signal.SIGTERM}:
            return JobFailedError(
                "The decoder of clips was stopped by the system, perhaps because this machine has no memory left. "
                "Try again."
            )
        if status > 0:
            return JobFailedError(f"The decoder of clips ended with status {status}.")
        name = signal.Signals(-status).name
        return unreadable(f"cannot be decoded: it stops the decoder with {name}")


_idle: list[Decoder] = []  # at most one: others are started where threads read at the same time
_lock = threading.Lock()


def decode_clip(clip: int, job: Mapping[str, Any], on_frame: OnFrame, *, seconds: float) -> tuple[list[int], float]:
    """Read a clip with the decoder that is idle, else with a new one; arguments and errors as :meth:`Decoder.decode`.

    :raises JobFailedError: also when no decoder can be started.
    """
    head = run_job(clip, job, _frames_to(on_frame), seconds=seconds)
    return head["order"], head["fps"]


def _frames_to(on_frame: OnFrame) -> OnMessage:
    """What is done with the answers that come before the last one, where only frames matter."""

    def handle(head: dict[str, Any], body: bytes) -> None:
        if "frame" in head:
            on_frame(head["frame"], tuple(head["size"]), body)

    return handle


def run_job(clip: int, job: Mapping[str, Any], on_message: OnMessage, *, seconds: float) -> dict[str, Any]:
    """Do any job with the decoder that is idle, else with a new one; arguments and errors as :meth:`Decoder.run`.

    A clip that ends a decoder which had read others is given to a new one: perhaps one of the others is at fault.

    :raises JobFailedError: also when no decoder can be started.
    """
    with _lock:
        decoder = _idle.pop() if _idle else None
    if decoder is not None and not decoder.usable:
        decoder.close()
        decoder = None
    decoder = decoder or Decoder()
    try:
        return decoder.run(clip, job, on_message, seconds=seconds)
    except (ClipUnreadableError, JobFailedError):
        if not decoder.crashed or decoder.jobs == 1:
            raise
    finally:
        _put_back(decoder)
    return run_job(clip, job, on_message, seconds=seconds)


def _put_back(decoder: Decoder) -> None:
    if decoder.sound:
        with _lock:
            if not _idle:
                _idle.append(decoder)
                return
    decoder.close()


def close_idle() -> None:
    """End the decoder that waits for a clip, if one does."""
    with _lock:
        waiting = _idle[:]
        _idle.clear()
    for decoder in waiting:
        decoder.close()


def _forget_idle() -> None:
    global _lock  # it may have been held at the fork
    _lock = threading.Lock()
    for decoder in _idle:
        decoder.forget()
    _idle.clear()


atexit.register(close_idle)
os.register_at_fork(after_in_child=_forget_idle)


def _command() -> list[str]:
    """Without site packages but those that it needs: nothing else is searched or run when it starts."""
    origins = [spec.origin for spec in map(find_spec, ("av", "PIL", __package__.partition(".")[0])) if spec]
    folders = dict.fromkeys(str(Path(origin).parents[1]) for origin in origins if origin)
    program = Path(__file__).with_name("child.py")
    return [sys.executable, "-sSPB", str(program), str(_MEMORY_BYTES), *folders]


def _environment() -> dict[str, str]:
    """No keys or settings of this process; one heap for all threads, since each takes address space."""
    kept = ("PATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LANG")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"MALLOC_ARENA_MAX": "1"}
