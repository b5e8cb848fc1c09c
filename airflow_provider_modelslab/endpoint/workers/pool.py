"""The worker: the workers that take jobs from the one queue, each with an engine on a device of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from airflow_provider_modelslab.endpoint.engine import Engine, StagedEngine
from airflow_provider_modelslab.endpoint.faults.injector import FaultInjector
from airflow_provider_modelslab.endpoint.queue.scheduler import Scheduler
from airflow_provider_modelslab.endpoint.queue.store import QueueStore
from airflow_provider_modelslab.endpoint.results.publish import Publisher
from airflow_provider_modelslab.endpoint.results.webhooks import Webhooks
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.workers.device_worker import DeviceWorker
from airflow_provider_modelslab.endpoint.workers.fair_pool import FairPool
from airflow_provider_modelslab.endpoint.workers.job_runner import JobRunner
from airflow_provider_modelslab.endpoint.workers.prefetch import Prefetcher

__all__ = ["WorkerPool"]


class WorkerPool:
    """Runs jobs on all engines, first in first out but for what :mod:`.scheduler` says.

    :param engines: one for each worker; all can do the same, on devices of their own.
    :param on_done: called with the id of each job that ended, in the thread in which it ended.
    :param clock: seconds since the epoch.
    :param misbehaviour: what is to go wrong, if anything.
    :ivar webhooks: calls the webhooks of jobs that ended.
    """

    def __init__(
        self,
        settings: Settings,
        store: QueueStore,
        engines: Sequence[Engine],
        publisher: Publisher,
        *,
        on_done: Callable[[int], None],
        clock: Callable[[], float] = time.time,
        misbehaviour: FaultInjector | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._folder = settings.state_dir / "work"
        self._scheduler = Scheduler(store, engines, clock)
        self.webhooks = Webhooks(settings)
        self._uploads = FairPool("modelslab-upload", threads=4, per_owner=2, waiting_per_owner=20, waiting=100)
        work = JobRunner(
            settings,
            store,
            publisher,
            uploads=self._uploads,
            on_done=on_done,
            call_webhook=self.webhooks.send,
            clock=clock,
            misbehaviour=misbehaviour,
        )
        staged = [engine for engine in engines if isinstance(engine, StagedEngine)]
        self._reader = (
            Prefetcher(self._scheduler, staged[0], wake_workers=self.wake) if len(staged) == len(engines) else None
        )
        self._workers = [
            DeviceWorker(
                number,
                engine,
                work,
                self._scheduler,
                self._folder,
                preload=[settings.aliases.get(model, model) for model in settings.preload],
                on_taken=self._read_ahead,
                on_free=self.wake,
                on_read=self._was_read,
            )
            for number, engine in enumerate(engines)
        ]

    @property
    def alive(self) -> bool:
        """Whether every worker is there to take jobs, or about to be after a restart."""
        return all(worker.alive for worker in self._workers)

    def workers(self) -> list[dict[str, Any]]:
        """What each worker is doing, see :meth:`.device_worker.DeviceWorker.details`."""
        return [worker.details() for worker in self._workers]

    def start(self) -> None:
        """Start the workers. Jobs that an earlier process left running go back to the queue first."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        self._store.recover(self._clock(), keep_stuck=self._settings.misbehaves)
        for worker in self._workers:
            worker.start()
        if self._reader is not None:
            self._reader.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Interrupt the jobs within one step, put them back in the queue and end the workers for good.

        :param timeout_s: how long to wait for all engines; a job that does not react is taken up by the next start.
        :returns: whether all workers ended.
        """
        self._scheduler.close()
        if self._reader is not None:
            self._reader.stop()
        for worker in self._workers:
            worker.close()
        end = None if timeout_s is None else time.monotonic() + timeout_s

        def left() -> float | None:
            return None if end is None else max(0.0, end - time.monotonic())

        ended = [*[worker.stop(left()) for worker in self._workers], self._uploads.close(left())]
        self.webhooks.close()
        return all(ended)

    def restart(self, owner: str | None = None) -> None:
        """Interrupt the jobs within one step, end the workers and start new ones; queued jobs stay where they are.

        This does not wait for it: an engine that is loading a model reacts only when it is done. Downloads end at once.
        Call it from one thread only.

        :param owner: only the workers that have this key's jobs in hand, and its downloads.
        """
        workers = self._scheduler.interrupt(owner)
        for worker in self._workers:
            if owner is None or worker.number in workers:
                worker.restart()

    def wake(self) -> None:
        """Say that there is a job."""
        for worker in self._workers:
            worker.wake()
        self._read_ahead()

    def clear_cache(self) -> None:
        """Have each engine drop its caches before its next job, if it can."""
        for worker in self._workers:
            worker.clear_cache()

    def _was_read(self) -> None:
        if self._scheduler.was_read():
            self.wake()

    def _read_ahead(self) -> None:
        if self._reader is not None:
            self._reader.wake()
