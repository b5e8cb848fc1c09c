"""Limits how many claims one process confirms at the endpoint, so that a leaked token cannot cause a flood of polls."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["ClaimRateLimiter", "TooManyClaimsError"]


class TooManyClaimsError(Exception):
    """The limit is reached.

    :param retry_after: seconds after which a new claim may be accepted.
    """

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"too many webhooks; try again in {retry_after:.0f} s")
        self.retry_after = retry_after


class ClaimRateLimiter:
    """Limits concurrent claims and claims per minute. A few more are queued, the others are refused.

    :param per_minute: how many may begin within 60 seconds, 1 or more.
    :param at_once: how many may be handled at the same time.
    :param waiting: how many may be queued.
    """

    def __init__(
        self, per_minute: int, *, at_once: int = 4, waiting: int = 60, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_minute = max(1, per_minute)
        self._slots = asyncio.Semaphore(at_once)
        self._max_entered = at_once + waiting
        self._entered = 0
        self._begun: deque[float] = deque()
        self._clock = clock

    @asynccontextmanager
    async def enter(self) -> AsyncIterator[None]:
        """Wait for a slot, and hold it until the block ends.

        :raises TooManyClaimsError: at once, when the queue is full.
        """
        now = self._clock()
        while self._begun and self._begun[0] <= now - 60.0:
            self._begun.popleft()
        if len(self._begun) >= self._per_minute:
            raise TooManyClaimsError(self._begun[0] + 60.0 - now)
        if self._entered >= self._max_entered:
            raise TooManyClaimsError(5.0)
        self._begun.append(now)
        self._entered += 1
        try:
            async with self._slots:
                yield
        finally:
            self._entered -= 1
