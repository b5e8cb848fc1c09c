"""Whose turn it is: the one place where workers take jobs from the queue, and jobs are read before their turn.

Four rules, for one worker as for eight:

1. Keys take turns: the one whose turn was longest ago comes first, with its oldest job. So a key that floods the queue
   delays the others by one of its jobs each time.
2. A worker without a job takes one if there is any. It prefers a job whose model it has in memory, then one whose model
   no worker has, then the first by the turns. A job is overtaken at most :data:`MOST_OVERTAKES` times; then it is the
   next.
3. A job on its last attempt (the process died during it before) runs alone: nothing is read, rendered or written
   beside it. So what brings the process down is found out, and its neighbours are not given up with it.
4. While every worker is busy, the clips of the next jobs are prefetched, one job for each worker. A prefetched job
   stays in state ``queued`` until a worker takes it. A job whose clip comes slowly is given back and is passed over
   until the clip is there; a key with :data:`MOST_SLOW` of them waits for these.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from airflow_provider_modelslab.endpoint.engine import Engine, models_of
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.store import QueueStore, Waiting
from airflow_provider_modelslab.endpoint.workers.reading import Reading

__all__ = ["MOST_OVERTAKES", "MOST_SLOW", "ScheduledJob", "Scheduler", "choose"]

MOST_OVERTAKES = 8
"""How often a job may be overtaken by younger ones whose model is in memory."""

MOST_SLOW = 2
"""How many jobs of one key may be read beside the workers because their clips come slowly."""

_MOST_SLOW_OF_ALL = 16
_LOOK = 64  # queued jobs among which those of a warm model are looked for
_MOST_SERVED = 1024  # keys whose last turn is remembered


@dataclass(frozen=True, slots=True)
class ScheduledJob:
    """A job that a worker took.

    :param alone: it is the job's last attempt: nothing may run beside it.
    :param reading: of its clip; ``None``: nobody has begun.
    """

    job: QueuedJob
    alone: bool
    reading: Reading | None


@dataclass(frozen=True, slots=True)
class _Hand:
    worker: int
    owner: str
    model_id: str
    alone: bool


class Scheduler:
    """Shared by the workers. Every method may be called from any thread.

    :param engines: one for each worker, by its number; asked which models they have loaded.
    :param clock: seconds since the epoch.
    """

    def __init__(self, store: QueueStore, engines: Sequence[Engine], clock: Callable[[], float]) -> None:
        self._store = store
        self._engines = engines
        self._clock = clock
        self._tell = any(models_of(engine) is not None for engine in engines)
        self._look = _LOOK if self._tell else len(engines) + 1
        self._lock = threading.Lock()
        self._closed = False
        self._in_hand: dict[int, _Hand] = {}
        self._overtaken: Counter[int] = Counter()
        self._served: dict[str, int] = {}
        self._turn = 0
        self._readings: dict[int, Reading] = {}
        self._stopped: list[Reading] = []
        self._held_up = False

    def take(self, worker: int) -> ScheduledJob | None:
        """Claim a job for a worker; ``None`` when there is none for it now."""
        with self._lock:
            if self._closed:
                return None
            if self._runs_alone():
                self._held_up = True
                return None
            waiting = self._store.waiting(self._look, self._served)
            chosen = next((job for job in waiting if job.last_chance), None)
            alone = chosen is not None
            if alone and not self._is_quiet():
                self._held_up = True
                return None
            chosen = chosen or choose(self._ready(waiting), *self._warmth(worker), self._overtaken)
            job = self._store.claim(self._clock(), chosen.id) if chosen else None
            if chosen is None or job is None:
                self._held_up |= bool(waiting)  # for their clips: the worker looks again when one was read
                return None
            self._note_turn(chosen, waiting)
            self._in_hand[job.id] = _Hand(worker, job.owner, chosen.model_id, alone)
            self._held_up |= alone
            return ScheduledJob(job, alone, self._readings.pop(job.id, None))

    def give_back(self, reading: Reading) -> bool:
        """Put a job back in the queue until its clip was read; ``False`` when too many such jobs are there already."""
        with self._lock:
            if self._closed or len(self._slow()) >= _MOST_SLOW_OF_ALL:
                return False
            reading.slow = True
            self._readings[reading.job_id] = reading
            self._in_hand.pop(reading.job_id, None)
            self._store.requeue(reading.job_id)
            self._held_up = True  # workers look again when it was read
            return True

    def interrupt(self, owner: str | None = None) -> set[int]:
        """Stop the readings of jobs that wait; they are read anew when their turn comes.

        :param owner: those of one key only.
        :returns: the workers that have a job of this key, or of any key, in hand.
        """
        with self._lock:
            for reading in list(self._readings.values()):
                if owner is None or reading.owner == owner:
                    reading.stop()
                    del self._readings[reading.job_id]
            return {hand.worker for hand in self._in_hand.values() if owner is None or hand.owner == owner}

    def ended(self, job_id: int) -> bool:
        """Say that a worker is done with a job; returns whether workers that found nothing should look again."""
        with self._lock:
            self._in_hand.pop(job_id, None)
            return self._was_held_up()

    def was_read(self) -> bool:
        """Say that a job was read ahead; returns what :meth:`ended` does."""
        with self._lock:
            return self._was_held_up()

    def read_ahead(self) -> Reading | None:
        """The reading, to be begun, of a job that is likely to come next and is not read yet."""
        with self._lock:
            busy = {hand.worker for hand in self._in_hand.values()}
            if self._closed or len(busy) < len(self._engines) or self._runs_alone():
                return None
            waiting = self._store.waiting(self._look, self._served)
            if any(job.last_chance for job in waiting):
                return None
            self._drop_readings({job.id for job in waiting})
            if sum(not reading.slow for reading in self._readings.values()) >= len(self._engines):
                return None
            warm = {model for worker in busy for model in self._models(worker)}
            unread = [job for job in self._ready(waiting) if job.id not in self._readings]
            chosen = choose(unread, warm, (), self._overtaken)
            job = self._store.get(chosen.id) if chosen else None
            if job is None:
                return None
            reading = self._readings[job.id] = Reading(job)
            return reading

    def jobs_of(self, worker: int) -> int:
        """How many jobs a worker has in hand: one that it renders, one that it writes."""
        with self._lock:
            return sum(hand.worker == worker for hand in self._in_hand.values())

    def close(self) -> None:
        """Give out no more jobs."""
        with self._lock:
            self._closed = True
            self._drop_readings(())

    def _note_turn(self, chosen: Waiting, waiting: Sequence[Waiting]) -> None:
        place = waiting.index(chosen)
        passed = {other.id: self._overtaken[other.id] + (n < place) for n, other in enumerate(waiting) if n != place}
        self._overtaken = Counter(passed)
        self._turn += 1
        self._served.pop(chosen.owner, None)
        self._served[chosen.owner] = self._turn
        if len(self._served) > _MOST_SERVED:
            del self._served[next(iter(self._served))]  # the one whose turn was longest ago

    def _is_quiet(self) -> bool:
        """Whether a job may run alone now. Slow readings are stopped for it, any others are waited for."""
        for reading in self._slow():
            reading.stop()
            self._stopped.append(self._readings.pop(reading.job_id))
        self._stopped = [reading for reading in self._stopped if not reading.done]
        return not (self._in_hand or self._stopped) and all(reading.done for reading in self._readings.values())

    def _slow(self) -> list[Reading]:
        return [reading for reading in self._readings.values() if reading.slow and not reading.done]

    def _ready(self, waiting: Sequence[Waiting]) -> list[Waiting]:
        """The jobs whose turn it can be: those whose clip does not come slowly."""
        slow = self._slow()
        owners = Counter(reading.owner for reading in slow)
        ids = {reading.job_id for reading in slow}
        return [
            job for job in waiting
            if job.id not in ids and (owners[job.owner] < MOST_SLOW or job.id in self._readings)
        ]  # fmt: skip

    def _drop_readings(self, queued: Collection[int]) -> None:
        """Forget what was read of jobs that are no longer in the queue."""
        for reading in list(self._readings.values()):
            if reading.job_id not in queued:
                reading.stop()
                del self._readings[reading.job_id]

    def _runs_alone(self) -> bool:
        return any(hand.alone for hand in self._in_hand.values())

    def _was_held_up(self) -> bool:
        held_up, self._held_up = self._held_up, False
        return held_up

    def _models(self, worker: int) -> set[str]:
        """The models that a worker has, or is about to have; where no engine tells, none: first in, first out."""
        if not self._tell:
            return set()
        loaded = {str(model["model_id"]) for model in models_of(self._engines[worker]) or ()}
        return loaded | {hand.model_id for hand in self._in_hand.values() if hand.worker == worker}

    def _warmth(self, worker: int) -> tuple[set[str], set[str]]:
        others = (self._models(other) for other in range(len(self._engines)) if other != worker)
        return self._models(worker), set[str]().union(*others)


def choose(
    waiting: Sequence[Waiting], warm: Collection[str], elsewhere: Collection[str], overtaken: Mapping[int, int]
) -> Waiting | None:
    """The job that a worker takes, see the first rule above.

    :param waiting: the oldest first.
    :param warm: models that the worker has in memory.
    :param elsewhere: models that other workers have.
    :param overtaken: how often jobs were overtaken, by their id.
    """
    ranks: tuple[Callable[[Waiting], bool], ...] = (
        lambda job: overtaken.get(job.id, 0) >= MOST_OVERTAKES,
        lambda job: job.model_id in warm,
        lambda job: job.model_id not in elsewhere,
        lambda job: True,
    )
    return next((job for rank in ranks for job in waiting if rank(job)), None)
