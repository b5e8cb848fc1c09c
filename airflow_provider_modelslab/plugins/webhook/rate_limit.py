"""How many claims one process asks the endpoint about, so that a leaked token cannot be turned into a hammer."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["ClaimRateLimiter", "ClosedError"]


class ClosedError(Exception):
    """There is no room now.

    :param retry_after: seconds after which there may be.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"no room for {retry_after:.0f} s")
        self.retry_after = retry_after


class ClaimRateLimiter:
    """Lets so many through at a time and within a minute; a few more wait in line, the rest is sent away.

    :param per_minute: how many may begin within 60 seconds, 1 or more.
    :param at_once: how many may be inside at the same time.
    :param waiting: how many may stand in line.
    """

    def __init__(
        self, per_minute: int, *, at_once: int = 4, waiting: int = 60, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = max(1, per_minute)
        self._room = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._here = 0
        self._begun: deque[float] = deque()
        self._clock = clock

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a place, and keep it for the length of the block.

        :raises ClosedError: at once, when there is none to wait for.
        """
        now = self._clock()
        while self._begun and self._begun[0] <= now - 60.0:
            self._begun.popleft()
        if len(self._begun) >= self._per_minute:
            raise ClosedError(self._begun[0] + 60.0 - now)
        if self._here >= self._most:
            raise ClosedError(5.0)
        self._begun.append(now)
        self._here += 1
        try:
            async with self._room:
                yield
        finally:
            self._here -= 1
