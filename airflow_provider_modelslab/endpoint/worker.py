"""The worker: the lanes that take jobs from the one queue, each with an engine on a device of its own."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from typing import Any

from airflow_provider_modelslab.endpoint.engine import Engine, StagedEngine
from airflow_provider_modelslab.endpoint.lane import Lane
from airflow_provider_modelslab.endpoint.misbehave import Misbehaviour
from airflow_provider_modelslab.endpoint.publish import Publisher
from airflow_provider_modelslab.endpoint.reader import Reader
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.store import Store
from airflow_provider_modelslab.endpoint.turns import Turns
from airflow_provider_modelslab.endpoint.work import Work

__all__ = ["Worker"]


class Worker:
    """Runs jobs on all engines, first in first out but for what :mod:`.turns` says.

    :param engines: one for each lane; all can do the same, on devices of their own.
    :param on_done: called with the id of each job that ended, in the thread in which it ended.
    :param clock: seconds since the epoch.
    :param misbehaviour: what is to go wrong, if anything.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        engines: Sequence[Engine],
        publisher: Publisher,
        *,
        on_done: Callable[[int], None],
        clock: Callable[[], float] = time.time,
        misbehaviour: Misbehaviour | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._desks = settings.state_dir / "work"
        self._turns = Turns(store, engines, clock)
        work = Work(settings, store, publisher, on_done=on_done, clock=clock, misbehaviour=misbehaviour)
        self._lanes = [
            Lane(number, engine, work, self._turns, self._desks, on_taken=self._read_ahead, on_free=self.wake)
            for number, engine in enumerate(engines)
        ]
        staged = [engine for engine in engines if isinstance(engine, StagedEngine)]
        self._reader = Reader(self._turns, staged[0], wake_lanes=self.wake) if len(staged) == len(engines) else None

    @property
    def alive(self) -> bool:
        """Whether every lane is there to take jobs, or about to be after a restart."""
        return all(lane.alive for lane in self._lanes)

    def lanes(self) -> list[dict[str, Any]]:
        """What each lane is doing, see :meth:`.lane.Lane.details`."""
        return [lane.details() for lane in self._lanes]

    def start(self) -> None:
        """Start the lanes. Jobs that an earlier process left running go back to the queue first."""
        shutil.rmtree(self._desks, ignore_errors=True)
        self._desks.mkdir(parents=True)
        self._store.recover(self._clock(), keep_stuck=self._settings.misbehaves)
        for lane in self._lanes:
            lane.start()
        if self._reader is not None:
            self._reader.start()

    def stop(self, timeout_s: float | None = None) -> bool:
        """Interrupt the jobs within one step, put them back in the queue and end the lanes for good.

        :param timeout_s: how long to wait for all engines; a job that does not react is taken up by the next start.
        :returns: whether all lanes ended.
        """
        self._turns.close()
        if self._reader is not None:
            self._reader.stop()
        for lane in self._lanes:
            lane.close()
        end = None if timeout_s is None else time.monotonic() + timeout_s
        ended = [lane.stop(None if end is None else max(0.0, end - time.monotonic())) for lane in self._lanes]
        return all(ended)

    def restart(self) -> None:
        """Interrupt the jobs within one step, end the lanes and start new ones; queued jobs stay where they are.

        This does not wait for it: an engine that is loading a model reacts only when it is done. Call it from one
        thread only.
        """
        for lane in self._lanes:
            lane.restart()

    def wake(self) -> None:
        """Say that there is a job."""
        for lane in self._lanes:
            lane.wake()
        self._read_ahead()

    def clear_cache(self) -> None:
        """Have each engine drop its caches before its next job, if it can."""
        for lane in self._lanes:
            lane.clear_cache()

    def _read_ahead(self) -> None:
        if self._reader is not None:
            self._reader.wake()
