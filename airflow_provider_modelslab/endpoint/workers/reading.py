"""Reading one job's clip in a thread of its own, so that a slow host holds up nothing but this job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.engine import StagedEngine
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob

__all__ = ["Reading"]

log = logging.getLogger(__name__)

_LOOK_S = 0.05


class Reading:
    """What :meth:`.engine.StagedEngine.prepare` makes of a job, or is about to.

    :ivar slow: whether a worker gave the job back because this took too long.
    """

    def __init__(self, job: QueuedJob) -> None:
        self.job_id = job.id
        self.owner = job.owner
        self.slow = False
        self._body = job.body
        self._future: Future[Any] = Future()
        self._stop = threading.Event()

    @property
    def done(self) -> bool:
        """Whether it ended, one way or the other."""
        return self._future.done()

    def start(self, engine: StagedEngine, on_done: Callable[[], None] = lambda: None) -> None:
        """Begin.

        :param on_done: called in the reading's thread.
        """
        name = f"modelslab-reading-{self.job_id}"
        threading.Thread(target=self._read, args=(engine, on_done), name=name, daemon=True).start()

    def stop(self) -> None:
        """Close the connection and end soon; what it read is of no use to anybody."""
        self._stop.set()

    def wait(self, should_stop: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Whether it ended within the time, or it is not to be waited for any longer."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        while not should_stop():
            if wait([self._future], _LOOK_S).done:
                return True
            if end is not None and time.monotonic() >= end:
                return False
        return True

    def result(self) -> Any:
        """What was prepared, or the error."""
        return self._future.result()

    def _read(self, engine: StagedEngine, on_done: Callable[[], None]) -> None:
        try:
            request = Video2VideoRequest.from_body(self._body)
            self._future.set_result(engine.prepare(request, should_stop=self._stop.is_set))
        except Exception as error:  # noqa: BLE001  # it is the job's
            self._future.set_exception(error)
        try:
            on_done()
        except Exception:  # the queue was closed meanwhile
            log.exception("The callback after the clip of job %s was read failed", self.job_id)
