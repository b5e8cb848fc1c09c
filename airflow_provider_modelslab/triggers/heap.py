"""Thousands of waiting jobs, and Python's garbage collector: what only waits is left out of its full runs.

A full run of the collector stops the event loop while it goes through every object of the process: those that Airflow
has loaded, and some hundred for each trigger, so that with 5,000 of them no trigger moves for 0.3 s and more, whoever
wrote it. Objects that wait for hours are no garbage. :func:`gc.freeze` takes all that is there out of the runs, and
objects are still freed as soon as nobody uses them; only *cycles* among frozen ones would stay. So what is not frozen
yet is looked through first, all is thawed when the last one leaves, and looked through anew after ten thousand have.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["held_out"]

_MANY = 250
"""Waiting jobs from which on it is worth it, and how many new ones are frozen at a time: a run over them is short."""
_LOOK_AGAIN = 10_000
"""Jobs that have left since the last look at everything. Frozen cycles were one object for twenty jobs, measured."""


class _Heap:
    """Counts who waits. One for the process: the collector knows no event loops."""

    def __init__(self) -> None:
        self._waiting = 0
        self._new = 0
        self._left = 0
        self._frozen = False

    def enter(self, jobs: int) -> None:
        self._waiting += jobs
        self._new += jobs
        if self._new >= _MANY:
            # The first time that would be a run over all of Airflow, which is what this avoids.
            self._freeze(look_at=2 if self._frozen else 1)

    def leave(self, jobs: int) -> None:
        self._waiting -= jobs
        self._new = min(self._new, self._waiting)
        self._left += jobs
        if self._frozen and (self._waiting == 0 or self._left >= _LOOK_AGAIN):
            gc.unfreeze()
            self._left, self._frozen = 0, False
            if self._waiting:
                self._freeze(look_at=2)

    def _freeze(self, look_at: int) -> None:
        gc.collect(look_at)
        gc.freeze()
        self._new, self._frozen = 0, True


_heap = _Heap()


@contextmanager
def held_out(jobs: int = 1) -> Iterator[None]:
    """For as long as a trigger waits; to be entered when it has set up what it needs.

    :param jobs: how many it waits for.
    """
    _heap.enter(jobs)
    try:
        yield
    finally:
        _heap.leave(jobs)
