"""Running a batch: a window of jobs in flight, landing beside it, and a stop at any moment that loses nothing.

This decides what happens next and when; the paid job of a clip, and the record of its outcome, are given to it. A
process that dies here leaves everything that matters in the ledgers of the results, so the next one can start afresh.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from airflow_provider_modelslab.api.errors import (
    BudgetExhaustedError,
    EndpointSettingsError,
    EndpointUnreachableError,
    ModelsLabError,
    RateLimitError,
    StorageUnavailableError,
    TransportError,
)
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.batch.running.circuit_breaker import CircuitBreaker, describe_error
from airflow_provider_modelslab.batch.running.protocols import ClipJobs, InFlight, OutcomeSink, Waiter
from airflow_provider_modelslab.batch.running.window import Window
from airflow_provider_modelslab.ledger.chain import RunHere
from airflow_provider_modelslab.ledger.model import Stored, Submission

__all__ = ["BatchRunner"]

log = logging.getLogger(__name__)

Clip = TypeVar("Clip")

THREADS = 16
"""Clips that are being submitted or landed at once: as many connections as the S3 client keeps."""

_TRIES = 3  # of a clip that could not be submitted because something on the way to it had trouble
_LANDINGS_WAITING = 4 * THREADS  # beyond which nothing more is submitted: links die while results wait


class BatchRunner(Generic[Clip]):
    """One segment of a batch's run, in one process.

    :param todo: the clips to be made, in order.
    :param window: how many jobs may be in flight.
    :param defer_after: seconds of nothing but waiting after which the segment ends, so that no worker is held;
        ``None`` stays to the end.
    :param refusal_timeout: seconds of nothing but refusals, while no job runs, after which the batch is given up. An
        endpoint that cannot be reached counts as one that refuses.
    :param stopped: why an earlier segment gave the batch up: nothing more is submitted, what is paid for is landed.
    :param on_change: called after each outcome; must be quick.
    """

    def __init__(
        self,
        todo: Iterable[Clip],
        jobs: ClipJobs[Clip],
        waiter: Waiter,
        outcomes: OutcomeSink[Clip],
        window: Window,
        *,
        defer_after: float | None = None,
        refusal_timeout: float = 3600.0,
        stopped: str | None = None,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.todo = deque(todo)
        self.waiting: dict[tuple[str, str], InFlight[Clip]] = {}
        self.stopped = stopped
        self.suspended = False
        self._jobs = jobs
        self._waiter = waiter
        self._outcomes = outcomes
        self._window = window
        self._defer_after = defer_after
        self._refusal_timeout = refusal_timeout
        self._on_change = on_change
        self._clock = clock
        self._acquiring: dict[asyncio.Future[Stored | Submission | RunHere], Clip] = {}
        self._to_run_here: deque[tuple[Clip, RunHere]] = deque()
        self._running_here: dict[asyncio.Future[dict[str, Any]], Clip] = {}
        self._landing: dict[asyncio.Future[dict[str, Any]], InFlight[Clip]] = {}
        self._closing: dict[asyncio.Future[bool], tuple[InFlight[Clip], ModelsLabError]] = {}
        self._tries: Counter[int] = Counter()
        self._refusals = CircuitBreaker()
        self._interrupted: asyncio.Future[None] | None = None
        self._last_news = clock()

    @property
    def in_flight(self) -> int:
        """Jobs that run, or are just being submitted."""
        return len(self.waiting) + len(self._acquiring)

    def resume(self, in_flight: Iterable[InFlight[Clip]]) -> None:
        """Take over jobs that an earlier segment of the run submitted."""
        for item in in_flight:
            self._wait_for(item)

    def interrupt(self, error: BaseException) -> None:
        """Have :meth:`run` raise an error as soon as it can; called in the loop's thread, also by a signal handler.

        What has begun ends by itself, and writes down what it paid for; nothing else is begun.
        """
        waiting = self._interrupted
        if waiting is not None:
            # A handler of signals does not wake the loop from its sleep; this does.
            waiting.get_loop().call_soon_threadsafe(_raise_in, waiting, error)

    async def run(
        self, ended: Iterable[tuple[InFlight[Clip], Finished | ModelsLabError]] = ()
    ) -> tuple[InFlight[Clip], ...]:
        """Work until all is done, or only waiting is left: then :attr:`suspended` is set, and what runs is returned.

        :param ended: jobs of an earlier segment that have ended meanwhile.
        """
        loop = asyncio.get_running_loop()
        self._interrupted = interrupted = loop.create_future()
        loop.set_exception_handler(self._on_fault)
        with ThreadPoolExecutor(THREADS, thread_name_prefix="modelslab-batch") as pool:
            self._pool = pool
            for item, answer in ended:
                self._ended(item, answer)
            news = asyncio.ensure_future(self._waiter.next())
            try:
                while True:
                    self._fill()
                    left = self.todo or self._to_run_here
                    if not self._work() and not self.waiting and not (left and self.stopped is None):
                        return ()
                    done, _ = await asyncio.wait(
                        {*self._work(), news, interrupted},
                        timeout=self._refusal_time_left(),
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    if interrupted in done:
                        interrupted.result()
                    if news in done:
                        key, answer = news.result()
                        item_ = self.waiting.pop(key, None)
                        if item_ is not None:
                            self._ended(item_, answer)
                        news = asyncio.ensure_future(self._waiter.next())
                    for future in done:
                        self._settle(future)
                    if done:
                        self._last_news = self._clock()
                        self._on_change()
                    elif self._idle() and self._clock() - self._last_news >= (self._defer_after or 0.0):
                        self.suspended = True
                        return tuple(self.waiting.values())
            finally:
                self._interrupted = None
                self._jobs.stop()
                loop.set_exception_handler(None)
                news.cancel()
                interrupted.add_done_callback(_heard)
                interrupted.cancel()
                pool.shutdown(wait=False, cancel_futures=True)
                for future in self._work():  # what has begun ends by itself, and has written down why
                    future.add_done_callback(_heard)

    def _on_fault(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback of the loop raised: a task's time-out comes by a signal, so it may strike there too."""
        error = context.get("exception")
        if error is None or isinstance(error, Exception):
            loop.default_exception_handler(context)
        else:
            self.interrupt(error)

    # -- deciding -------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Begin as many submits as there is room for."""
        if self.stopped is None:
            self.stopped = self._outcomes.too_many()
        while (
            self.todo
            and self.stopped is None
            and not self._window.pause()
            and self.in_flight < self._window.limit
            and len(self._acquiring) < THREADS
            and len(self._landing) < _LANDINGS_WAITING
        ):
            clip = self.todo.popleft()
            started = asyncio.get_running_loop().run_in_executor(self._pool, self._jobs.acquire, clip)
            self._acquiring[started] = clip
        if self._to_run_here and not self._running_here and self.stopped is None:  # one device: one clip at a time
            clip, found = self._to_run_here.popleft()
            self._running_here[self._start(self._jobs.run_here, clip, found)] = clip

    def _work(self) -> set[asyncio.Future[Any]]:
        return {*self._acquiring, *self._landing, *self._closing, *self._running_here}

    def _idle(self) -> bool:
        """Whether all there is to do is to wait: for jobs, or for the endpoint to take any."""
        paused = bool(self.todo) and self.stopped is None and self._window.pause() > 0
        return self._defer_after is not None and not self._work() and (bool(self.waiting) or paused)

    def _refusal_time_left(self) -> float | None:
        """Seconds until something is to be decided although nothing has happened."""
        times = [math.inf]
        if self.todo and self.stopped is None and self._window.pause():
            times.append(self._window.pause())
        if self._defer_after is not None and self._idle():
            times.append(max(0.0, self._last_news + self._defer_after - self._clock()))
        least = min(times)
        return None if math.isinf(least) else least + 0.001

    # -- what has happened ----------------------------------------------------------------------------------------

    def _settle(self, future: asyncio.Future[Any]) -> None:
        if future in self._acquiring:
            self._acquired(self._acquiring.pop(future), future)
        elif future in self._landing:
            item = self._landing.pop(future)
            self._landed(item.clip, future, item.submission)
        elif future in self._running_here:
            self._landed(self._running_here.pop(future), future, None)
        elif future in self._closing:
            item, why = self._closing.pop(future)
            error = future.exception()
            if error is not None or not future.result():
                self._outcomes.failed(item.clip, why, item.submission)
            else:
                self.todo.appendleft(item.clip)

    def _acquired(self, clip: Clip, future: asyncio.Future[Stored | Submission | RunHere]) -> None:
        error = future.exception()
        if error is not None:
            self._not_acquired(clip, _ordinary(error))
            return
        found = future.result()
        if isinstance(found, Stored):
            self._outcomes.stored(clip, found)
            return
        if isinstance(found, RunHere):
            self._to_run_here.append((clip, found))
            return
        if not found.resumed:
            self._window.accepted()
            self._refusals.accepted()
        item = InFlight(clip, found)
        if found.finished is not None:
            self._land(item, found.finished)
        else:
            self._wait_for(item)

    def _not_acquired(self, clip: Clip, error: Exception) -> None:
        if isinstance(error, BudgetExhaustedError):
            self.stopped = self.stopped or describe_error(error)
            return  # the clip is pending, as those after it
        if isinstance(error, RateLimitError | EndpointUnreachableError):
            if self._window.refused_for() < self._refusal_timeout:
                pause = self._window.refused(error, in_flight=len(self.waiting), refusal_timeout=self._refusal_timeout)
                log.info(
                    "The endpoint refused a submit (%s). The next submit is in %.0f s, with at most %d jobs in flight",
                    error,
                    pause,
                    self._window.limit,
                )
                # The others have the place before, so a clip that a later place refuses does not hold them up.
                is_at_later_place = bool(error.chain and error.chain["fallback_from"])
                (self.todo.append if is_at_later_place else self.todo.appendleft)(clip)
                return
            self.stopped = (
                self.stopped
                or f"{describe_error(error)}. The endpoint has refused every submit for {self._refusal_timeout:g} s"
            )
        elif isinstance(error, StorageUnavailableError | TransportError) and not isinstance(
            error, EndpointSettingsError
        ):
            self._tries[id(clip)] += 1
            if self._tries[id(clip)] < _TRIES:
                self.todo.append(clip)
                return
        self.stopped = self.stopped or self._refusals.stopping(error)
        self._outcomes.failed(clip, error, None)

    def _wait_for(self, item: InFlight[Clip]) -> None:
        self.waiting[item.submission.job.key] = item
        self._waiter.add(item.submission)

    def _ended(self, item: InFlight[Clip], answer: Finished | ModelsLabError) -> None:
        if isinstance(answer, Finished):
            self._land(item, answer)
        else:
            self._closing[self._start(self._jobs.close, item.clip, item.submission, answer)] = (item, answer)

    def _land(self, item: InFlight[Clip], finished: Finished) -> None:
        self._landing[self._start(self._jobs.land, item.clip, item.submission, finished)] = item

    def _landed(self, clip: Clip, future: asyncio.Future[dict[str, Any]], submission: Submission | None) -> None:
        error = future.exception()
        if error is None:
            self._outcomes.landed(clip, future.result())
        else:
            self._outcomes.failed(clip, _ordinary(error), submission)

    def _start(self, call: Callable[..., Any], *arguments: Any) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().run_in_executor(self._pool, call, *arguments)


def _ordinary(error: BaseException) -> Exception:
    """An error that belongs to one clip; anything else, such as a kill before the claim, ends the batch."""
    if isinstance(error, Exception) and not isinstance(error, InterruptedError):
        return error
    raise error


def _heard(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()


def _raise_in(waiting: asyncio.Future[None], error: BaseException) -> None:
    if not waiting.done():
        waiting.set_exception(error)
