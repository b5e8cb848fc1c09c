"""Whose turn it is: the one place where lanes take jobs from the queue, and jobs are read before their turn.

Three rules, for one lane as for eight:

1. A lane without a job takes one if there is any. It prefers a job whose model it has in memory, then one whose model
   no lane has, then the oldest. A job is overtaken at most :data:`MOST_OVERTAKES` times; then it is the next.
2. A job on its last attempt (the process died during it before) runs alone: nothing is read, rendered or written
   beside it. So what brings the process down is found out, and its neighbours are not given up with it.
3. While every lane is at work, the jobs that come next are read ahead, one for each lane. The queue does not know of
   it: a job that was read is queued until a lane takes it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from airflow_provider_modelslab.endpoint.engine import Engine, models_of
from airflow_provider_modelslab.endpoint.job import Job
from airflow_provider_modelslab.endpoint.store import Store, Waiting

__all__ = ["MOST_OVERTAKES", "Taken", "Turns", "choose"]

MOST_OVERTAKES = 8
"""How often a job may be overtaken by younger ones whose model is in memory."""

_LOOK = 64  # queued jobs among which those of a warm model are looked for


@dataclass(frozen=True, slots=True)
class Taken:
    """A job that a lane took.

    :param alone: it is the job's last attempt: nothing may run beside it.
    :param read: what :meth:`.engine.StagedEngine.prepare` made of it, or is about to; ``None``: nobody has begun.
    """

    job: Job
    alone: bool
    read: Future[Any] | None


@dataclass(frozen=True, slots=True)
class _Hand:
    lane: int
    model_id: str
    alone: bool


class Turns:
    """Shared by the lanes. Every method may be called from any thread.

    :param engines: one for each lane, by its number; asked which models they have loaded.
    :param clock: seconds since the epoch.
    """

    def __init__(self, store: Store, engines: Sequence[Engine], clock: Callable[[], float]) -> None:
        self._store = store
        self._engines = engines
        self._clock = clock
        self._tell = any(models_of(engine) is not None for engine in engines)
        self._look = _LOOK if self._tell else len(engines) + 1
        self._lock = threading.Lock()
        self._closed = False
        self._in_hand: dict[int, _Hand] = {}
        self._overtaken: Counter[int] = Counter()
        self._read: dict[int, Future[Any]] = {}
        self._held_up = False

    def take(self, lane: int) -> Taken | None:
        """Claim a job for a lane; ``None`` when there is none for it now."""
        with self._lock:
            if self._closed or self._runs_alone():
                return None
            waiting = self._store.waiting(self._look)
            chosen = next((job for job in waiting if job.last_chance), None)
            alone = chosen is not None
            if alone and (self._in_hand or not all(read.done() for read in self._read.values())):
                self._held_up = True
                return None
            chosen = chosen or choose(waiting, *self._warmth(lane), self._overtaken)
            job = self._store.claim(self._clock(), chosen.id) if chosen else None
            if chosen is None or job is None:
                return None
            passed = {other.id: self._overtaken[other.id] + (other.id < chosen.id) for other in waiting}
            self._overtaken = Counter({key: count for key, count in passed.items() if key != chosen.id})
            self._in_hand[job.id] = _Hand(lane, chosen.model_id, alone)
            self._held_up |= alone
            return Taken(job, alone, self._read.pop(job.id, None))

    def ended(self, job_id: int) -> bool:
        """Say that a lane is done with a job; returns whether lanes that found nothing should look again."""
        with self._lock:
            self._in_hand.pop(job_id, None)
            return self._was_held_up()

    def was_read(self) -> bool:
        """Say that a job was read ahead; returns what :meth:`ended` does."""
        with self._lock:
            return self._was_held_up()

    def read_ahead(self) -> tuple[Job, Future[Any]] | None:
        """A job that is likely to come next and is not read yet, and where to put what becomes of it."""
        with self._lock:
            busy = {hand.lane for hand in self._in_hand.values()}
            if self._closed or len(busy) < len(self._engines) or self._runs_alone():
                return None
            waiting = self._store.waiting(self._look)
            if any(job.last_chance for job in waiting):
                return None
            queued = {job.id for job in waiting}
            self._read = {key: read for key, read in self._read.items() if key in queued}
            if len(self._read) >= len(self._engines):
                return None
            warm = {model for lane in busy for model in self._models(lane)}
            chosen = choose([job for job in waiting if job.id not in self._read], warm, (), self._overtaken)
            job = self._store.get(chosen.id) if chosen else None
            if job is None:
                return None
            read = self._read[job.id] = Future()
            return job, read

    def jobs_of(self, lane: int) -> int:
        """How many jobs a lane has in hand: one that it renders, one that it writes."""
        with self._lock:
            return sum(hand.lane == lane for hand in self._in_hand.values())

    def close(self) -> None:
        """Give out no more jobs."""
        with self._lock:
            self._closed = True
            self._read.clear()

    def _runs_alone(self) -> bool:
        return any(hand.alone for hand in self._in_hand.values())

    def _was_held_up(self) -> bool:
        held_up, self._held_up = self._held_up, False
        return held_up

    def _models(self, lane: int) -> set[str]:
        """The models that a lane has, or is about to have; where no engine tells, none: first in, first out."""
        if not self._tell:
            return set()
        loaded = {str(model["model_id"]) for model in models_of(self._engines[lane]) or ()}
        return loaded | {hand.model_id for hand in self._in_hand.values() if hand.lane == lane}

    def _warmth(self, lane: int) -> tuple[set[str], set[str]]:
        others = (self._models(other) for other in range(len(self._engines)) if other != lane)
        return self._models(lane), set[str]().union(*others)


def choose(
    waiting: Sequence[Waiting], warm: Collection[str], elsewhere: Collection[str], overtaken: Mapping[int, int]
) -> Waiting | None:
    """The job that a lane takes, see the first rule above.

    :param waiting: the oldest first.
    :param warm: models that the lane has in memory.
    :param elsewhere: models that other lanes have.
    :param overtaken: how often jobs were overtaken, by their id.
    """
    ranks: tuple[Callable[[Waiting], bool], ...] = (
        lambda job: overtaken.get(job.id, 0) >= MOST_OVERTAKES,
        lambda job: job.model_id in warm,
        lambda job: job.model_id not in elsewhere,
        lambda job: True,
    )
    return next((job for rank in ranks for job in waiting if rank(job)), None)
