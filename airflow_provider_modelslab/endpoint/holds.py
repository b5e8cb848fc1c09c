"""Holding a submit until its job is done: the worker's thread says so, the event loop wakes the one who waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any

__all__ = ["Holds"]


class Holds:
    """The submits that are being held, by job id. Made and used in the event loop, except :meth:`job_ended`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._events: dict[int, asyncio.Event] = {}
        self._closed = False

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

    def release(self) -> None:
        """End every hold now."""
        for event in self._events.values():
            event.set()

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
