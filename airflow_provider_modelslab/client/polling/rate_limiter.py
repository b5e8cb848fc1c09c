"""Rate limiter of the polls with one key, shared by all jobs of an event loop; without I/O.

An endpoint that refuses one poll because of load would refuse the next one too, whichever job it is about. So one
refusal slows all of them down, and the rate recovers little by little while answers are good.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable

from airflow_provider_modelslab.api.errors import ErrorCode
from airflow_provider_modelslab.api.response import Answer, Failed
from airflow_provider_modelslab.client.core import MAX_CONNECTIONS

__all__ = ["RateLimiter"]

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 600.0
_SLOWEST = 1.0
_GROWTH = 1.1
_MEMORY = 10.0
_BURST = 0.02


class RateLimiter:
    """Three limits: calls at once, calls per second, and a pause in which none begins.

    A refusal (HTTP 429, a 5xx, or a 200 that says the same) halves the first two, to no less than one call at once and
    one a second, and pauses all calls: as long as ``Retry-After`` says, 10 minutes at most, else 1 s, doubled with each
    refusal in a row up to a minute. Of calls that were in flight by then only the ``Retry-After`` counts. Good answers
    raise the rate by 10 % a second, and the calls at once by one for each round of answers.

    :param max_concurrent: calls at once, 1 or more.
    :param max_rate: calls per second, above 1.
    :param clock: seconds, monotonic.
    :param uniform: lengthens a pause by up to a quarter, so that several triggerers do not come back in step.
    """

    def __init__(
        self,
        *,
        max_concurrent: int = MAX_CONNECTIONS,
        max_rate: float = 500.0,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.resume_at = -math.inf
        self.next_start = -math.inf
        self.rate = max_rate
        self._max_rate = max_rate
        self._max_concurrent = max_concurrent
        self._concurrent = float(max_concurrent)
        self._clock = clock
        self._uniform = uniform
        self._refusals = 0
        self._slowed_at = -math.inf
        self._grown_at = -math.inf
        self._counted_at = -math.inf
        self._count = 0.0

    @property
    def concurrency(self) -> int:
        """Calls that may be in flight at once now."""
        return int(self._concurrent)

    @property
    def slowed(self) -> bool:
        """Whether one of the limits is below its maximum."""
        return self.rate < self._max_rate or self.concurrency < self._max_concurrent

    def started(self) -> None:
        """Count a call that begins; :attr:`next_start` says from when on the next one may."""
        now = self._clock()
        self.next_start = max(self.next_start, now - _BURST) + 1 / self.rate
        self._count = self._recent(now) + 1
        self._counted_at = now

    def answered(self, answer: Answer, *, began: float, in_flight: int) -> float | None:
        """Learn from an answer.

        :param began: when its call began, on this clock.
        :param in_flight: calls at once when the answer came, its own included.
        :return: the seconds of the pause, when this answer was a refusal that started one.
        """
        now = self._clock()
        refusal = _refusal(answer)
        if refusal is None:
            if began > self._slowed_at:
                self._refusals = 0
                self._recover(now)
            return None
        asked = min(refusal.retry_after, _LONGEST_RETRY_AFTER) if refusal.retry_after is not None else None
        if began <= self._slowed_at:
            self.resume_at = max(self.resume_at, now + (asked or 0.0))
            return None
        # A few jobs need far less than the maximum, so the first cut starts from the recent rate.
        rate = self.rate if self.slowed else min(self.rate, self._recent(now) / _MEMORY)
        self.rate = max(_SLOWEST, rate / 2)
        self._concurrent = max(1.0, min(self._concurrent, in_flight) / 2)
        pause = asked if asked is not None else min(_FIRST_PAUSE * 2**self._refusals, _LONGEST_PAUSE)
        pause *= self._uniform(1.0, 1.25)
        self._refusals += 1
        self._slowed_at = self._grown_at = now
        self.resume_at = max(self.resume_at, now + pause)
        return pause

    def _recover(self, now: float) -> None:
        self.rate = min(self._max_rate, self.rate * _GROWTH ** min(now - self._grown_at, 1.0))
        self._grown_at = now
        self._concurrent = min(float(self._max_concurrent), self._concurrent + 1 / self._concurrent)

    def _recent(self, now: float) -> float:
        """Calls of the last seconds, with exponential decay."""
        return self._count * math.exp((self._counted_at - now) / _MEMORY) if self._count else 0.0


def _refusal(answer: Answer) -> Failed | None:
    """The answer, if it is about the endpoint's load and not about the job."""
    if not isinstance(answer, Failed):
        return None
    if answer.code is ErrorCode.RATE_LIMIT:
        return answer
    return answer if answer.code is ErrorCode.TRANSPORT and not 400 <= (answer.http_status or 200) < 500 else None
