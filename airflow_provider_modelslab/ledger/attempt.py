"""Identifies one attempt at a task instance, and the process it runs in.

An attempt is written into each claim, which identifies the owner of the submission, and into the metadata of a batch's
objects, so that a stale worker does not overwrite newer output:

=============================== ======================================================================================
metadata                        meaning
=============================== ======================================================================================
``modelslab-try``               number of the try. It rises with retries and clears, and stays when a task resumes after
                                a deferral; in a run that was deleted and made anew it starts again at 1
``modelslab-task-instance``     Airflow's id of the task instance. Each try has a new one; a UUID of version 7 holds the
                                time when it was made, by clocks that may differ by seconds
=============================== ======================================================================================

A process is identified by host, boot, process id and start time, so that a claim whose process has ended can be taken
over at once on the same machine. On another machine only the claim's lease counts.
"""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from uuid import UUID

__all__ = ["AttemptId", "describe_process", "is_provably_dead"]

_TRY, _TASK_INSTANCE = "modelslab-try", "modelslab-task-instance"
_MACHINE = ("host", "boot_id", "pid_namespace")


@dataclass(frozen=True, slots=True)
class AttemptId:
    """One attempt at a task instance, or one run of a command.

    :param dag_id: of the task; ``airflow modelslab`` for the command line.
    :param run_id: of the Dag run; for the command line a text that is unique to the command.
    :param map_index: of the task instance, -1 when it is not mapped.
    :param try_number: of the task instance, from 1.
    :param first_try: the first try since the task was last cleared.
    :param task_instance_id: Airflow's id of this try; ``None`` where there is none.
    :param loop_index: the iteration of the task loop that the task is in, from 0; ``None`` outside a loop.
    """

    dag_id: str = ""
    task_id: str = ""
    run_id: str = ""
    map_index: int = -1
    try_number: int = 1
    first_try: int = 1
    task_instance_id: UUID | None = None
    loop_index: int | None = None

    @classmethod
    def of_task(
        cls, ti: Any, *, map_index: int | None = None, first_try: int = 1, loop_index: int | None = None
    ) -> Self:
        """The running attempt.

        :param ti: Airflow's task instance.
        """
        index = ti.map_index if map_index is None else map_index
        return cls(
            ti.dag_id,
            ti.task_id,
            ti.run_id,
            -1 if index is None else index,
            int(ti.try_number),
            first_try,
            _uuid(getattr(ti, "id", None)),
            loop_index,
        )

    @classmethod
    def from_claim(cls, claim: Mapping[str, Any]) -> Self | None:
        """The attempt that wrote a ledger entry; ``None`` if the entry does not contain it."""
        recorded = claim.get("attempt")
        if not isinstance(recorded, Mapping):
            return None
        return cls(
            str(recorded.get("dag_id") or ""),
            str(recorded.get("task_id") or ""),
            str(recorded.get("run_id") or ""),
            _number(recorded.get("map_index"), -1),
            _number(recorded.get("try_number"), 1),
            task_instance_id=_uuid(recorded.get("task_instance_id")),
            loop_index=_loop_index(recorded.get("loop_index")),
        )

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Self | None:
        """The attempt that wrote an S3 object; ``None`` if its metadata does not contain it."""
        lowered = {name.lower(): value for name, value in metadata.items()}  # some stores capitalise the names
        number = lowered.get(_TRY, "")
        if not number.isdecimal():
            return None
        return cls(try_number=int(number), task_instance_id=_uuid(lowered.get(_TASK_INSTANCE)))

    def record(self) -> dict[str, Any]:
        """The attempt as plain JSON, for ledger entries."""
        known: dict[str, Any] = {}
        if self.task_instance_id is not None:
            known["task_instance_id"] = str(self.task_instance_id)
        if self.loop_index is not None:
            known["loop_index"] = self.loop_index
        return {
            "dag_id": self.dag_id,
            "task_id": self.task_id,
            "run_id": self.run_id,
            "map_index": self.map_index,
            "try_number": self.try_number,
            **known,
        }

    def metadata(self) -> dict[str, str]:
        """The attempt as the metadata of an S3 object."""
        known = {} if self.task_instance_id is None else {_TASK_INSTANCE: str(self.task_instance_id)}
        return {_TRY: str(self.try_number), **known}

    def is_same_run(self, other: AttemptId) -> bool:
        """Whether both belong to one Dag run (or one command), and in a task loop to one iteration.

        Each iteration of a loop is meant to make another result, so it counts as a run.
        """
        return (self.dag_id, self.run_id, self.loop_index) == (other.dag_id, other.run_id, other.loop_index)

    def is_same_task(self, other: AttemptId) -> bool:
        """Whether both are attempts at one task instance."""
        return self.is_same_run(other) and (self.task_id, self.map_index) == (other.task_id, other.map_index)

    def is_since_clear(self, other: AttemptId) -> bool:
        """Whether ``other`` is an attempt at the same task instance since it was last cleared."""
        return self.is_same_task(other) and other.try_number >= self.first_try

    def is_before(self, other: AttemptId) -> bool:
        """Whether this attempt certainly began before the other one at the same task.

        If both ids are known, try number and id must agree: neither is certain alone, and refusing the current attempt
        would be worse than accepting a late one.
        """
        this_id, other_id = self.task_instance_id, other.task_instance_id
        if this_id and other_id and this_id.version == other_id.version == 7 and this_id >= other_id:
            return False
        return self.try_number < other.try_number

    def is_same_try(self, other: AttemptId) -> bool:
        """Whether both are certainly the same try: two processes of it, or one that resumed after a deferral."""
        this_id = self.task_instance_id
        return this_id is not None and (this_id, self.try_number) == (other.task_instance_id, other.try_number)


def describe_process() -> dict[str, Any]:
    """Identifies the running process, with a random token; it contains nothing secret."""
    return {**_here(), "pid": os.getpid(), "started": _start_time(_stat(os.getpid())), "token": uuid.uuid4().hex}


def is_provably_dead(process: Mapping[str, Any]) -> bool:
    """Whether the process that ``process`` describes ran on this machine, in this container, and has ended.

    ``False`` if it runs, or if that is unknown: another machine or container, no process table.
    """
    here = _here()
    if not here["boot_id"] or any(process.get(name) != here[name] for name in _MACHINE):
        return False
    pid, started = process.get("pid"), process.get("started")
    if not isinstance(pid, int) or pid <= 0 or started is None:
        return False
    stat = _stat(pid)
    if not stat:
        return not _exists(pid)  # some systems hide the processes of other users from /proc
    return bool(_start_time(stat) != started)  # a process id may have been reused


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
        pass  # it exists, and belongs to another user
    return True


def _start_time(stat: str) -> int | None:
    """Clock ticks after the boot at which a process started; ``None`` if it does not exist or is a zombie."""
    if not stat:
        return None
    fields = stat.rpartition(")")[2].split()  # the process name before it may contain blanks and brackets
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


def _number(value: object, default: int) -> int:
    return value if isinstance(value, int) else default


def _loop_index(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _uuid(text: object) -> UUID | None:
    try:
        return UUID(str(text))
    except ValueError:
        return None
