"""A few threads for work that waits for other people's servers, shared fairly between the keys that cause it."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable

__all__ = ["FairPool"]

log = logging.getLogger(__name__)


class FairPool:
    """Runs tasks in daemon threads. Owners take turns, and one owner alone cannot use every thread.

    :param name: of the threads.
    :param threads: at most so many, started when they are needed.
    :param per_owner: threads that one owner's tasks may use at a time.
    :param waiting_per_owner: tasks of one owner that may wait.
    :param waiting: tasks that may wait in all.
    """

    def __init__(self, name: str, *, threads: int, per_owner: int, waiting_per_owner: int, waiting: int) -> None:
        self._name = name
        self._threads = threads
        self._per_owner = per_owner
        self._waiting_per_owner = waiting_per_owner
        self._most_waiting = waiting
        self._changed = threading.Condition()
        self._queues: OrderedDict[str, deque[Callable[[], None]]] = OrderedDict()
        self._running: Counter[str] = Counter()
        self._started = 0
        self._idle = 0
        self._closing = False
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether running tasks should end."""
        return self._closed

    def submit(self, owner: str, task: Callable[[], None]) -> bool:
        """Run a task soon; ``False`` when too many wait already, or the pool is closed."""
        with self._changed:
            queue = self._queues.get(owner, ())
            if self._closing or len(queue) >= self._waiting_per_owner or self._count() >= self._most_waiting:
                return False
            self._queues.setdefault(owner, deque()).append(task)
            if not self._idle and self._started < self._threads:
                self._started += 1
                threading.Thread(target=self._loop, name=f"{self._name}-{self._started}", daemon=True).start()
            self._changed.notify()
        return True

    def figures(self) -> dict[str, int]:
        """How many tasks run and wait now."""
        with self._changed:
            return {"running": self._running.total(), "waiting": self._count()}

    def close(self, timeout_s: float | None = None) -> bool:
        """Take no more tasks, let the others end, and drop after a time those that did not begin.

        :param timeout_s: how long to wait; ``None``: for ever.
        :returns: whether all ended.
        """
        with self._changed:
            self._closing = True
            ended = self._changed.wait_for(lambda: not self._running.total() and not self._queues, timeout_s)
            self._closed = True
            self._queues.clear()
            self._changed.notify_all()
        return ended

    def _count(self) -> int:
        return sum(map(len, self._queues.values()))

    def _loop(self) -> None:
        while (found := self._next()) is not None:
            owner, task = found
            try:
                task()
            except Exception:
                log.exception("A task of %s failed", self._name)
            finally:
                with self._changed:
                    self._running[owner] -= 1
                    self._running += Counter()  # without the owners at zero
                    self._changed.notify_all()
            del task

    def _next(self) -> tuple[str, Callable[[], None]] | None:
        with self._changed:
            self._idle += 1
            try:
                while not self._closed:
                    owner = next((key for key in self._queues if self._running[key] < self._per_owner), None)
                    if owner is not None:
                        return owner, self._take(owner)
                    self._changed.wait()
            finally:
                self._idle -= 1
        return None

    def _take(self, owner: str) -> Callable[[], None]:
        queue = self._queues[owner]
        task = queue.popleft()
        if queue:
            self._queues.move_to_end(owner)
        else:
            del self._queues[owner]
        self._running[owner] += 1
        return task
