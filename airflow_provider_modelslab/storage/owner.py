"""Who holds a claim, and whether that process is provably dead.

A claim without a job id may only be taken over when its owner cannot submit any more. On another machine that is known
by the clock alone; on the same one, the process table tells at once.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["describe_owner", "is_provably_dead"]

_PLACE = ("host", "boot_id", "pid_namespace")


def describe_owner() -> dict[str, Any]:
    """Name the running process, with a random token of its own: enough to recognise it, and nothing secret."""
    return {**_here(), "pid": os.getpid(), "started": _start_time(_stat(os.getpid())), "token": uuid.uuid4().hex}


def is_provably_dead(owner: Mapping[str, Any]) -> bool:
    """Whether the process that ``owner`` describes ran in this very place and is gone.

    ``False`` when it runs, and when nothing can be known: another machine or container, no process table.
    """
    here = _here()
    if not here["boot_id"] or any(owner.get(name) != here[name] for name in _PLACE):
        return False
    pid, started = owner.get("pid"), owner.get("started")
    if not isinstance(pid, int) or pid <= 0 or started is None:
        return False
    stat = _stat(pid)
    if not stat:
        return not _exists(pid)  # some systems hide the processes of other users from /proc
    return bool(_start_time(stat) != started)  # a process id may have been given away again


def _here() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "boot_id": _read(Path("/proc/sys/kernel/random/boot_id")),
        "pid_namespace": _link(Path("/proc/self/ns/pid")),
    }


def _stat(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/stat"))


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is there, and another user's
    return True


def _start_time(stat: str) -> int | None:
    """Clock ticks after the boot at which a process started; ``None`` when there is none, or it is a zombie."""
    if not stat:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return str(path.readlink())
    except OSError:
        return ""
