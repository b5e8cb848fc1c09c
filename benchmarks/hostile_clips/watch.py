"""Watches what reading a clip does to the machine: memory, crashes, files and connections that it should not touch.

Files are seen in two ways: a canary file, which clips try to lead to, is watched by the kernel (inotify), whoever opens
it; and decoders run with an audit hook of Python, which reports each file, socket and process that is begun after
they have confined themselves. Connections: the canary's port listens, and counts who comes. C code that would open
other files is not seen so, but cannot either: decoders have no descriptor left, which is a test of its own.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest import mock

from airflow_provider_modelslab.local.media.decoder import process
from airflow_provider_modelslab.local.media.decoder.process import Decoder
from benchmarks.hostile_clips.disguise import Canaries

__all__ = ["Seen", "Watch"]

_IN_ACCESS, _IN_OPEN, _IN_NONBLOCK = 0x1, 0x20, 0o4000

_AUDITED = """
import os, runpy, sys
log = os.open(sys.argv[1], os.O_WRONLY)
confined = False
def hook(event, arguments):
    global confined
    if event == "resource.setrlimit":
        confined = True
    elif confined and (
        event in ("socket.__new__", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.fork")
        or event.startswith(("os.exec", "os.posix_spawn", "ctypes."))
        or event == "open" and not isinstance(arguments[0], int)
    ):
        os.write(log, f"{event} {arguments[:1]!r}"[:200].encode() + b"\\n")
sys.argv = sys.argv[2:]
sys.addaudithook(hook)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass
class Seen:
    """What happened during one input.

    :param memory: the most bytes that one process had in memory.
    :param signals: of decoders that crashed.
    :param stopped: whether a decoder was ended by its limit of processor time.
    """

    memory: int = 0
    files: list[str] = field(default_factory=list)
    connections: list[str] = field(default_factory=list)
    signals: list[str] = field(default_factory=list)
    stopped: bool = False


class Watch:
    """Use as a context manager around a run; ask :meth:`seen` after each input.

    :param folder: for the canary.
    :param canary: its content.
    """

    def __init__(self, folder: Path, canary: bytes) -> None:
        self._file = folder / "canary.mp4"
        self._file.write_bytes(canary)
        self._fifo = folder / "audit"
        os.mkfifo(self._fifo)
        self._log = os.open(self._fifo, os.O_RDONLY | os.O_NONBLOCK)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.setblocking(False)
        libc = ctypes.CDLL(None, use_errno=True)
        self._inotify = libc.inotify_init1(_IN_NONBLOCK)
        if libc.inotify_add_watch(self._inotify, os.fsencode(self._file), _IN_OPEN | _IN_ACCESS) < 0:
            raise OSError(ctypes.get_errno(), "inotify watches nothing")
        self._children = 0
        self._now = Seen()
        self._patches = ExitStack()

    @property
    def canaries(self) -> Canaries:
        """What inputs may lead to."""
        return Canaries(str(self._file), self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        command, close = process._command, Decoder.close

        def audited() -> list[str]:
            interpreter, flags, *program = command()
            return [interpreter, flags, "-c", _AUDITED, str(self._fifo), *program]

        def watched_close(decoder: Decoder) -> None:
            self._look_at(decoder)
            close(decoder)

        process.close_idle()
        self._patches.enter_context(mock.patch.object(process, "_command", audited))
        self._patches.enter_context(mock.patch.object(Decoder, "close", watched_close))
        self._children = _most_of_children()
        _forget_peak(os.getpid())
        return self

    def __exit__(self, *_: object) -> None:
        process.close_idle()
        self._patches.close()
        for descriptor in (self._inotify, self._log):
            os.close(descriptor)
        self._listener.close()

    def seen(self) -> Seen:
        """What happened since the last call."""
        seen, self._now = self._now, Seen()
        for decoder in process._idle:
            seen.memory = max(seen.memory, _peak(decoder.pid))
            _forget_peak(decoder.pid)
        if (most := _most_of_children()) > self._children:  # of a decoder that has ended
            self._children = most
            seen.memory = max(seen.memory, most)
        seen.memory = max(seen.memory, _peak(os.getpid()))
        _forget_peak(os.getpid())
        with suppress(BlockingIOError):
            if os.read(self._inotify, 1 << 16):
                seen.files.append("the canary was opened")
        for line in self._audited():
            (seen.connections if line.startswith("socket") else seen.files).append(line)
        with suppress(BlockingIOError):
            while True:
                link, address = self._listener.accept()
                link.close()
                seen.connections.append(f"the canary's port was called by {address}")
        return seen

    def _audited(self) -> list[str]:
        text = b""
        with suppress(BlockingIOError):
            while part := os.read(self._log, 1 << 16):
                text += part
        return text.decode(errors="replace").splitlines()

    def _look_at(self, decoder: Decoder) -> None:
        """Before it is closed, which hides how it ended."""
        self._now.memory = max(self._now.memory, _peak(decoder.pid))
        status = decoder._process.poll()
        if status == -signal.SIGXCPU:
            self._now.stopped = True
        elif status is not None and status < 0:
            self._now.signals.append(signal.Signals(-status).name)


def _peak(pid: int) -> int:
    """The most memory that a process had since :func:`_forget_peak`, in bytes; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) << 10
    return 0


def _forget_peak(pid: int) -> None:
    with suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def _most_of_children() -> int:
    most: Any = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return int(most) << (10 if sys.platform == "linux" else 0)
