"""Children that are heard through pipes, and timers: all of it in one thread, so that forking is safe."""

from __future__ import annotations

import heapq
import itertools
import json
import os
import selectors
import signal
import time
from collections.abc import Callable

from benchmarks.fault_campaign.run import Outcome, Process

__all__ = ["Loop"]

_READ_BYTES = 1 << 16


class Loop:
    """Runs what is due, one thing at a time."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    @property
    def has_timers(self) -> bool:
        """Whether anything is going to happen by itself."""
        return bool(self._timers)

    def later(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something after a while."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._numbers), do))

    def watch(self, pid: int, ended: Callable[[], None]) -> None:
        """Call ``ended`` when a child is gone, which is still to be waited for."""
        place = os.pidfd_open(pid)

        def gone() -> None:
            self._selector.unregister(place)
            os.close(place)
            ended()

        self._selector.register(place, selectors.EVENT_READ, gone)

    def listen(self, process: Process, told: Callable[[Outcome], None], ended: Callable[[int], None]) -> None:
        """Listen to a child.

        :param told: called with each message.
        :param ended: called with the exit status, below 0 for a signal, when the child is gone.
        """

        def hear() -> None:
            data = os.read(process.pipe, _READ_BYTES)
            if data:
                *lines, process.heard = (process.heard + data).split(b"\n")
                for line in lines:
                    told(json.loads(line))
                return
            self._selector.unregister(process.pipe)
            os.close(process.pipe)
            ended(os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]))

        self._selector.register(process.pipe, selectors.EVENT_READ, hear)

    def step(self, longest_s: float) -> None:
        """Wait until something happens, and see to it."""
        pause = self._timers[0][0] - time.monotonic() if self._timers else longest_s
        for key, _ in self._selector.select(min(max(pause, 0.0), longest_s)):
            key.data()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def close(self, processes: list[Process]) -> None:
        """Kill the children that are left."""
        for process in processes:
            os.kill(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
        self._selector.close()
