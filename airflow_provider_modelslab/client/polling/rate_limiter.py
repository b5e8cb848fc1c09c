"""Rate limiter of the polls with one key, shared by all jobs of an event loop; without I/O.

An endpoint that refuses one poll because of load would refuse the next job's poll too. So a refusal slows down all
jobs, and the rate recovers gradually with good responses. A server error counts as load only if many jobs get one: a
job whose polls always fail is polled less and less often by its own
:class:`~airflow_provider_modelslab.api.polling.JobPoller`, and delays no other.
"""

from __future__ import annotations

import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable

from airflow_provider_modelslab.api.errors import ErrorCode
from airflow_provider_modelslab.api.response import Answer, Failed
from airflow_provider_modelslab.client.config import MAX_CONNECTIONS

__all__ = ["RateLimiter"]

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 600.0
_SLOWEST = 1.0
_GROWTH = 1.1
_MEMORY = 10.0
_BURST = 0.02
_RECENT_JOBS = 40  # a server error is an overload if more than half of the last so many jobs got one
_MIN_FAILED_JOBS = 10  # and at least so many; fewer jobs make so few polls that each one's own pauses suffice
_MAX_FAILING = 10_000  # jobs whose failures are remembered


class RateLimiter:
    """Three limits: concurrent polls, polls per second, and a pause in which none begins.

    A refusal halves the first two, down to one concurrent poll and one per second, and pauses all polls: for
    ``Retry-After``, 10 minutes at most, else 1 s, doubled with each consecutive refusal up to a minute. For polls that
    were already in flight only the ``Retry-After`` counts. Good responses raise the rate by 10 % per second, and the
    concurrency by one for each round of responses.

    A rate limit (HTTP 429, or a text that says the same) is always a refusal. A server error (HTTP 408 or 5xx, a text
    that says the same, or no response) is one if more than half of the last 40 different jobs, and at least 10, got
    one. A job's further server errors do not count while other jobs get good responses between its polls.

    :param max_concurrent: calls at once, 1 or more.
    :param max_rate: calls per second, above 1.
    :param clock: seconds, monotonic.
    :param uniform: lengthens a pause by up to a quarter, so that several triggerers do not resume at the same moment.
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
        self._recent_jobs: OrderedDict[str, bool] = OrderedDict()  # whether each one's last poll failed
        self._failing: OrderedDict[str, int] = OrderedDict()  # by job: good answers to all jobs before its last failure
        self._good = 0

    @property
    def concurrency(self) -> int:
        """Polls that may be in flight now."""
        return int(self._concurrent)

    @property
    def slowed(self) -> bool:
        """Whether one of the limits is below its maximum."""
        return self.rate < self._max_rate or self.concurrency < self._max_concurrent

    def started(self) -> None:
        """Count a poll that begins; :attr:`next_start` is the earliest time of the next one."""
        now = self._clock()
        self.next_start = max(self.next_start, now - _BURST) + 1 / self.rate
        self._count = self._recent_calls(now) + 1
        self._counted_at = now

    def answered(self, job_id: str, answer: Answer | None, *, began: float, in_flight: int) -> float | None:
        """Adapt the limits to a response.

        :param answer: ``None`` if there was none.
        :param began: when its poll began, on this clock.
        :param in_flight: concurrent polls when the response arrived, including its own.
        :return: the seconds of the pause, if this response was a refusal that started one.
        """
        now = self._clock()
        is_new = began > self._slowed_at
        if answer is None or _is_server_error(answer):
            if not (is_new and self._is_overload(job_id)):
                return None
        elif not (isinstance(answer, Failed) and answer.code is ErrorCode.RATE_LIMIT):
            if is_new:
                self._note_good(job_id)
                self._refusals = 0
                self._recover(now)
            return None
        retry_after = answer.retry_after if isinstance(answer, Failed) else None
        delay = min(retry_after, _LONGEST_RETRY_AFTER) if retry_after is not None else None
        if not is_new:
            self.resume_at = max(self.resume_at, now + (delay or 0.0))
            return None
        # A few jobs need far less than the maximum, so the first cut starts from the recent rate.
        rate = self.rate if self.slowed else min(self.rate, self._recent_calls(now) / _MEMORY)
        self.rate = max(_SLOWEST, rate / 2)
        self._concurrent = max(1.0, min(self._concurrent, in_flight) / 2)
        pause = delay if delay is not None else min(_FIRST_PAUSE * 2**self._refusals, _LONGEST_PAUSE)
        pause *= self._uniform(1.0, 1.25)
        self._refusals += 1
        self._slowed_at = self._grown_at = now
        self.resume_at = max(self.resume_at, now + pause)
        self._recent_jobs.clear()  # the responses after the pause show whether the overload continues
        return pause

    def _is_overload(self, job_id: str) -> bool:
        """Record a server error; whether enough jobs got one to call it an overload."""
        before = self._failing.pop(job_id, self._good)
        self._failing[job_id] = self._good
        if len(self._failing) > _MAX_FAILING:
            self._failing.popitem(last=False)
        if self._good > before:
            self._recent_jobs.pop(job_id, None)  # other jobs get good responses: only this job fails
            return False
        self._note(job_id, failed=True)
        failed = sum(self._recent_jobs.values())
        return failed >= _MIN_FAILED_JOBS and 2 * failed > len(self._recent_jobs)

    def _note_good(self, job_id: str) -> None:
        self._good += 1
        self._failing.pop(job_id, None)
        self._note(job_id, failed=False)

    def _note(self, job_id: str, *, failed: bool) -> None:
        self._recent_jobs[job_id] = failed
        self._recent_jobs.move_to_end(job_id)
        if len(self._recent_jobs) > _RECENT_JOBS:
            self._recent_jobs.popitem(last=False)

    def _recover(self, now: float) -> None:
        self.rate = min(self._max_rate, self.rate * _GROWTH ** min(now - self._grown_at, 1.0))
        self._grown_at = now
        self._concurrent = min(float(self._max_concurrent), self._concurrent + 1 / self._concurrent)

    def _recent_calls(self, now: float) -> float:
        """Polls of the last seconds, with exponential decay."""
        return self._count * math.exp((self._counted_at - now) / _MEMORY) if self._count else 0.0


def _is_server_error(answer: Answer) -> bool:
    """Whether a response is about the server's state; other HTTP 4xx responses are about the request."""
    if not isinstance(answer, Failed) or answer.code is not ErrorCode.TRANSPORT:
        return False
    status = answer.http_status or 200
    return status == 408 or not 400 <= status < 500
