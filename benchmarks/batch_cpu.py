"""What Airflow's tasks cost in CPU and in processes, told by the kernel's own books.

LocalExecutor keeps a fixed number of worker processes. For each task one of them forks a task process, which it waits
for in the end; the kernel then adds all the CPU that the dead child has used, its own waited-for children's included,
to the worker's count "of children" (``cutime`` and ``cstime`` in ``/proc/<pid>/stat``, what ``wait4`` and
``getrusage(RUSAGE_CHILDREN)`` tell). So what the task processes took is the rise of these counts, read before the first
task begins and after the last one has been waited for. Nothing is sampled for it, and nothing that a process did in its
last moments is missed. The error is that of reading: one tick of the clock (10 ms) for each worker and each reading,
whatever the number of tasks.

How many processes there were is counted by looking at the workers' children 20 times a second. A task process imports
most of Airflow's SDK before its first line, which takes far longer than that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil  # type: ignore[import-untyped]  # no stubs; Airflow itself depends on it

__all__ = ["CpuMeter", "cpu_below", "executor_workers"]

_TITLE = "airflow worker -- LocalExecutor"
_LOOK_S = 0.05
_SETTLE_S = 60.0


class CpuMeter:
    """Measures between ``with`` and its end; figures are there afterwards.

    :param workers: the processes whose children are the tasks; they must outlive the measurement.
    :param others: by name, the roots of process trees whose CPU is wanted too; the workers may be among them.
    """

    def __init__(self, workers: Iterable[int], others: Mapping[str, int]) -> None:
        self._workers = [psutil.Process(pid) for pid in workers]
        self._others = dict(others)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._count, name="count-processes", daemon=True)
        self.processes = 0
        """Task processes that began."""
        self.tasks_s = 0.0
        """CPU seconds of the task processes."""
        self.supervisors_s = 0.0
        """CPU seconds of the workers themselves, which supervise them."""
        self.others_s: dict[str, float] = {}
        """CPU seconds of the other trees."""

    def __enter__(self) -> Self:
        self._wait_for_quiet()
        self._tasks, self._supervisors = self._read()
        self._trees = {name: cpu_below(pid) for name, pid in self._others.items()}
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._wait_for_quiet()
        self._done.set()
        self._thread.join()
        if kind is None:
            tasks, supervisors = self._read()
            self.tasks_s, self.supervisors_s = tasks - self._tasks, supervisors - self._supervisors
            self.others_s = {name: cpu_below(pid) - self._trees[name] for name, pid in self._others.items()}

    def _read(self) -> tuple[float, float]:
        """CPU seconds so far: of the workers' children that have ended, and of the workers."""
        times = [worker.cpu_times() for worker in self._workers]
        reaped = sum(time.children_user + time.children_system for time in times)
        return reaped, sum(time.user + time.system for time in times)

    def _children(self) -> set[int]:
        return {pid for worker in self._workers for pid in _children_of(worker.pid)}

    def _count(self) -> None:
        before: set[int] = set()
        while not self._done.wait(_LOOK_S):
            now = self._children()
            self.processes += len(now - before)
            before = now

    def _wait_for_quiet(self) -> None:
        deadline = time.monotonic() + _SETTLE_S
        while running := self._children():
            if time.monotonic() > deadline:
                raise RuntimeError(f"task processes still run: {sorted(running)}")
            time.sleep(_LOOK_S)


def executor_workers(scheduler: int) -> list[int]:
    """The worker processes of a scheduler's LocalExecutor.

    :param scheduler: its process id.
    """
    below = psutil.Process(scheduler).children(recursive=True)
    return [process.pid for process in below if " ".join(process.cmdline()).startswith(_TITLE)]


def cpu_below(pid: int) -> float:
    """CPU seconds that a process and all below it have used so far, those that have ended and were waited for too."""
    root = psutil.Process(pid)
    total = 0.0
    for process in [root, *root.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def _children_of(pid: int) -> list[int]:
    # psutil would read the status of every process of the machine.
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
