"""A worker: one engine on one device, and the thread that takes jobs for it."""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.endpoint.engine import Engine, StagedEngine, device_of, models_of
from airflow_provider_modelslab.endpoint.queue.scheduler import ScheduledJob, Scheduler
from airflow_provider_modelslab.endpoint.workers.job_runner import Finish, JobRunner
from airflow_provider_modelslab.endpoint.workers.reading import Reading

__all__ = ["DeviceWorker"]

log = logging.getLogger(__name__)

_SWEEP_S = 300.0
_AFTER_TROUBLE_S = 1.0
_MOST_RELAUNCHES = 2  # one at work and one that waits: more would do nothing else
_PATIENCE_S = 2.0  # how long a worker waits for a clip before it goes on with other jobs


class DeviceWorker:
    """Renders one job at a time. An engine with stages writes the last one's clip meanwhile, in a second thread.

    :param number: of this worker, from 0.
    :param folder: the folder for the jobs' own folders.
    :param preload: the models that the engine is to load before its first job.
    :param on_taken: called when the worker has begun a job.
    :param on_free: called when workers that found no job should look again.
    :param on_read: called when a reading of a clip ended that this worker began.
    """

    def __init__(
        self,
        number: int,
        engine: Engine,
        work: JobRunner,
        scheduler: Scheduler,
        folder: Path,
        *,
        preload: Sequence[str] = (),
        on_taken: Callable[[], None],
        on_free: Callable[[], None],
        on_read: Callable[[], None] = lambda: None,
    ) -> None:
        self.number = number
        self._engine = engine
        self._work = work
        self._scheduler = scheduler
        self._folder = folder
        self._preload_ids = preload
        self._on_taken = on_taken
        self._on_free = on_free
        self._on_read = on_read
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._clear_cache = threading.Event()
        self._lifecycle = threading.Lock()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._relaunches: list[threading.Thread] = []
        self._finishing: threading.Thread | None = None

    @property
    def alive(self) -> bool:
        """Whether the thread is there to take jobs, or about to be after a restart."""
        return self._running() or any(thread.is_alive() for thread in self._relaunches)

    def details(self) -> dict[str, Any]:
        """The worker for ``system_details``: its device, its jobs in hand and, where the engine tells, its models."""
        models = models_of(self._engine)
        told = {} if models is None else {"models": models}
        return {"device": device_of(self._engine), "jobs": self._scheduler.jobs_of(self.number), **told}

    def start(self) -> None:
        """Start the thread."""
        with self._lifecycle:
            self._launch()

    def close(self) -> None:
        """Interrupt the job within one step and start nothing more; :meth:`stop` waits for it."""
        self._closed = True
        self._interrupt()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Interrupt the job within one step, put it back in the queue and end the thread for good.

        :param timeout_s: how long to wait for the engine.
        :returns: whether the thread ended.
        """
        self.close()
        if not self._lifecycle.acquire(timeout=-1 if timeout_s is None else timeout_s):
            return False  # a restart is waiting for an engine that does not react
        try:
            self._interrupt()  # the thread may be a new one, from a restart that was under way
            if self._thread is not None:
                self._thread.join(timeout_s)
            return not self._running()
        finally:
            self._lifecycle.release()

    def restart(self) -> None:
        """Interrupt the job within one step, end the thread and start a new one; does not wait for it."""
        self._interrupt()
        self._relaunches = [thread for thread in self._relaunches if thread.is_alive()]
        if len(self._relaunches) < _MOST_RELAUNCHES:
            relaunch = threading.Thread(target=self._relaunch, daemon=True)
            self._relaunches.append(relaunch)
            relaunch.start()

    def wake(self) -> None:
        """Say that there may be a job."""
        self._wake.set()

    def clear_cache(self) -> None:
        """Have the engine drop its caches before the next job, if it can."""
        self._clear_cache.set()
        self._wake.set()

    def _interrupt(self) -> None:
        self._stop.set()
        self._wake.set()

    def _running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _relaunch(self) -> None:
        with self._lifecycle:
            self._interrupt()  # the thread may be a new one, from a restart just before this one
            if self._thread is not None:
                self._thread.join()
            if not self._closed:
                self._launch()

    def _launch(self) -> None:
        self._stop = threading.Event()
        # A daemon: an engine that hangs in a driver cannot keep the process alive, and the queue survives that.
        name = f"modelslab-worker-{self.number}"
        self._thread = threading.Thread(target=self._loop, args=(self._stop,), name=name, daemon=True)
        self._thread.start()

    def _loop(self, stop: threading.Event) -> None:
        self._preload(stop)
        while not stop.is_set():
            self._wake.clear()  # before looking: whoever adds a job from here on wakes the wait below
            if stop.is_set():
                break
            try:
                self._work.sweep()
                self._drop_caches()
                taken = self._scheduler.take(self.number)
                if taken is not None:
                    self._do(taken, stop)
                    continue
            except Exception:  # a full disk must not end the thread and leave a queue that nobody works on
                log.exception("Worker %s had an error outside a job; it continues", self.number)
                stop.wait(_AFTER_TROUBLE_S)
                continue
            self._wake.wait(_SWEEP_S)
        self._wait_for_finish()

    def _preload(self, stop: threading.Event) -> None:
        preload = getattr(self._engine, "preload", None)
        if not callable(preload):
            return
        for model_id in self._preload_ids:
            if stop.is_set():
                return
            try:
                preload(model_id)
                log.info("%s is loaded on %s", model_id, device_of(self._engine))
            except Exception as error:  # noqa: BLE001  # its jobs fail with the same reason, and other models may be fine
                log.warning("%s could not be loaded: %s", model_id, error)

    def _do(self, taken: ScheduledJob, stop: threading.Event) -> None:
        job, finish, is_mine = taken.job, None, True
        self._on_taken()
        job_folder = self._folder / str(job.id)
        try:
            reading = self._reading(taken)
            if reading is not None and not taken.alone and not reading.wait(stop.is_set, _PATIENCE_S):
                is_mine = not self._scheduler.give_back(reading)
            if is_mine:
                job_folder.mkdir(parents=True, exist_ok=True)
                finish = self._work.begin(job, self._engine, job_folder, stop, reading=reading, alone=taken.alone)
        finally:
            if finish is None and is_mine:
                self._put_away(job.id, job_folder)
        if finish is None:
            if not is_mine:
                log.info("Job %s: its clip downloads slowly; other jobs run first", job.id)
                self._on_free()
            return
        self._wait_for_finish()  # one clip is rendered, one is written: no more are in memory
        if taken.alone or not isinstance(self._engine, StagedEngine):
            self._finish(finish, job.id, job_folder)
            return
        thread = threading.Thread(target=self._finish, args=(finish, job.id, job_folder), daemon=True)
        self._finishing = thread
        thread.start()

    def _reading(self, taken: ScheduledJob) -> Reading | None:
        """The reading of the job's clip, begun; ``None`` for an engine that has no stages."""
        if taken.reading is not None or not isinstance(self._engine, StagedEngine):
            return taken.reading
        reading = Reading(taken.job)
        reading.start(self._engine, self._on_read)
        return reading

    def _finish(self, finish: Finish, job_id: int, job_folder: Path) -> None:
        try:
            finish(lambda: self._put_away(job_id, job_folder))
        except Exception:  # the job's row could not be written; the next start takes the job up
            log.exception("The end of job %s could not be recorded", job_id)

    def _wait_for_finish(self) -> None:
        if self._finishing is not None:
            self._finishing.join()
            self._finishing = None

    def _put_away(self, job_id: int, job_folder: Path) -> None:
        shutil.rmtree(job_folder, ignore_errors=True)
        if self._scheduler.ended(job_id):
            self._on_free()

    def _drop_caches(self) -> None:
        if not self._clear_cache.is_set():
            return
        self._clear_cache.clear()
        clear = getattr(self._engine, "clear_cache", None)
        if callable(clear):
            clear()
            log.info("The caches of %s were cleared", device_of(self._engine))
