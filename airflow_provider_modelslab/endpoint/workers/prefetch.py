"""Reading clips before their turn, while every worker is at work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from airflow_provider_modelslab.endpoint.engine import StagedEngine
from airflow_provider_modelslab.endpoint.queue.scheduler import Scheduler

__all__ = ["Prefetcher"]

log = logging.getLogger(__name__)


class Prefetcher:
    """One thread that begins to read the clips of the jobs that come next, each in a thread of its own.

    What goes wrong is kept with the job, and told when its turn has come.

    :param wake_workers: called when workers should look for a job again.
    """

    def __init__(self, scheduler: Scheduler, engine: StagedEngine, *, wake_workers: Callable[[], None]) -> None:
        self._scheduler = scheduler
        self._engine = engine
        self._wake_workers = wake_workers
        self._wake = threading.Event()
        self._stopped = False

    def start(self) -> None:
        """Start the thread. It is a daemon, and after :meth:`stop` begins nothing."""
        threading.Thread(target=self._loop, name="modelslab-reader", daemon=True).start()

    def stop(self) -> None:
        """End the thread without waiting for it."""
        self._stopped = True
        self._wake.set()

    def wake(self) -> None:
        """Say that jobs came or went."""
        self._wake.set()

    def ended(self) -> None:
        """Say that a reading ended, of whoever began it."""
        if self._scheduler.was_read():
            self._wake_workers()
        self.wake()

    def _loop(self) -> None:
        while not self._stopped:
            self._wake.wait()
            self._wake.clear()
            try:
                while not self._stopped and (reading := self._scheduler.read_ahead()) is not None:
                    reading.start(self._engine, self.ended)
            except Exception:  # it is only a matter of speed: workers read what was not read ahead
                log.exception("Reading a clip in advance failed; the endpoint continues")
