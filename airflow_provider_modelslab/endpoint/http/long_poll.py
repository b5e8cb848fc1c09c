"""Holding a submit until its job is done: the worker's thread says so, the event loop wakes the one who waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Iterable, Iterator
from typing import Any

__all__ = ["LongPolls"]


_MOST_OF_OWNER = 100
_MOST = 256


class LongPolls:
    """The submits that are being held, by job id. Made and used in the event loop, except :meth:`job_ended`.

    At most 256 are held, and 100 of one key, since each holds a connection.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: dict[int, asyncio.Event] = {}
        self._closed = False
        self._owners: Counter[str] = Counter()

    @contextlib.contextmanager
    def place(self, owner: str) -> Iterator[bool]:
        """Take a place for a submit; ``False`` when there is none, and the submit is to be answered at once."""
        free = self._owners[owner] < _MOST_OF_OWNER and self._owners.total() < _MOST
        self._owners[owner] += free
        try:
            yield free
        finally:
            self._owners[owner] -= free
            if not self._owners[owner]:
                del self._owners[owner]

    def expect(self, job_id: int) -> asyncio.Event:
        """Begin to listen for a job. Look at the job after this and before waiting, since it may have ended already."""
        return self._events.setdefault(job_id, asyncio.Event())

    async def wait(self, job_id: int, seconds: float, disconnected: Awaitable[Any]) -> None:
        """Return when the job ended, after ``seconds``, or when the client went away, whichever comes first.

        :param disconnected: ends when the client is gone.
        """
        if self._closed:
            seconds = 0
        waiting = (asyncio.ensure_future(self.expect(job_id).wait()), asyncio.ensure_future(disconnected))
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._events.pop(job_id, None)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def forget(self, job_id: int) -> None:
        """Stop listening without having waited."""
        self._events.pop(job_id, None)

    def release(self, job_ids: Iterable[int] | None = None) -> None:
        """End the holds of some jobs now, or every hold."""
        for job_id in list(self._events if job_ids is None else job_ids):
            self._set(job_id)

    def close(self) -> None:
        """End every hold now, and hold nothing from here on."""
        self._closed = True
        self.release()

    def job_ended(self, job_id: int) -> None:
        """Tell from any thread that a job ended."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is held any more
            self._loop.call_soon_threadsafe(self._set, job_id)

    def _set(self, job_id: int) -> None:
        event = self._events.get(job_id)
        if event is not None:
            event.set()
