"""Reading clips before their turn, while every lane is at work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.engine import StagedEngine
from airflow_provider_modelslab.endpoint.job import Job
from airflow_provider_modelslab.endpoint.turns import Turns

__all__ = ["Reader"]

log = logging.getLogger(__name__)


class Reader:
    """One thread that reads the clips of the jobs that come next, one after the other.

    What goes wrong is kept with the job, and told when its turn has come.

    :param wake_lanes: called when lanes should look for a job again.
    """

    def __init__(self, turns: Turns, engine: StagedEngine, *, wake_lanes: Callable[[], None]) -> None:
        self._turns = turns
        self._engine = engine
        self._wake_lanes = wake_lanes
        self._wake = threading.Event()
        self._stopped = False

    def start(self) -> None:
        """Start the thread. It is a daemon, and after :meth:`stop` touches nothing but the clip that it is reading."""
        threading.Thread(target=self._loop, name="modelslab-reader", daemon=True).start()

    def stop(self) -> None:
        """End the thread after the clip that it is reading, without waiting for it."""
        self._stopped = True
        self._wake.set()

    def wake(self) -> None:
        """Say that jobs came or went."""
        self._wake.set()

    def _loop(self) -> None:
        while not self._stopped:
            self._wake.wait()
            self._wake.clear()
            try:
                while (found := self._turns.read_ahead()) is not None:
                    self._read(*found)
            except Exception:  # it is only a matter of speed: lanes read what was not read ahead
                log.exception("Reading ahead met trouble; it goes on")

    def _read(self, job: Job, read: Future[Any]) -> None:
        try:
            read.set_result(self._engine.prepare(Video2VideoRequest.from_wire(job.body)))
        except Exception as error:  # noqa: BLE001  # it is the job's
            read.set_exception(error)
        if self._turns.was_read():
            self._wake_lanes()
