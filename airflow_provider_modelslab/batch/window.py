"""How many jobs a batch keeps in flight: up to what was allowed, fewer while the endpoint refuses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping

from airflow_provider_modelslab.api.errors import RateLimitError

__all__ = ["Window"]

_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 120.0


class Window:
    """Additive increase, multiplicative decrease, shared by everything that submits in one batch.

    An account's queue takes 5, 10 or 15 jobs, and other tasks fill it too, so the right number is not known in advance.
    A refusal halves the window, to no fewer than one job, and pauses all submits: for as long as the endpoint asked,
    else 2 s, doubled with each refusal in a row, 2 minutes at most. After as many accepted jobs as fit into the window,
    it grows by one.

    :param most: jobs that may be in flight at all, 1 or more.
    :param clock: seconds, monotonic.
    """

    def __init__(self, most: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.most = most
        self.limit = most
        self._clock = clock
        self._paused_until = -math.inf
        self._refusals = 0
        self._accepted = 0
        self._refused_since: float | None = None

    def refused(self, error: RateLimitError, *, in_flight: int) -> float:
        """Slow down after a refusal; the seconds of the pause.

        :param in_flight: jobs that run at the endpoint now, those being submitted not counted.
        """
        now = self._clock()
        if now >= self._paused_until:  # of several submits under way at once only the first counts
            self._refusals += 1
            self.limit = max(1, min(self.limit // 2, max(in_flight, 1)))
        if self._refused_since is None:
            self._refused_since = now
        self._accepted = 0
        pause = min(_FIRST_PAUSE * 2 ** (self._refusals - 1), _LONGEST_PAUSE) if self._refusals else _FIRST_PAUSE
        pause = max(pause, error.retry_after or 0.0)
        self._paused_until = max(self._paused_until, now + pause)
        return self.pause()

    def accepted(self) -> None:
        """Recover by one job for each window full of jobs accepted."""
        self._refusals = 0
        self._refused_since = None
        self._accepted += 1
        if self._accepted >= self.limit and self.limit < self.most:
            self.limit += 1
            self._accepted = 0

    def pause(self) -> float:
        """Seconds until the next submit; 0 when there may be one now."""
        return max(0.0, self._paused_until - self._clock())

    def state(self) -> dict[str, float]:
        """Plain JSON from which :meth:`resume` goes on in another process."""
        return {"limit": self.limit, "refusals": self._refusals, "refused_for": self.refused_for()}

    def resume(self, state: Mapping[str, float]) -> None:
        """Go on as another process left it; its pause is over."""
        self.limit = max(1, min(int(state["limit"]), self.most))
        self._refusals = int(state["refusals"])
        self._refused_since = self._clock() - state["refused_for"] if self._refusals else None

    def refused_for(self) -> float:
        """Seconds for which every submit has been refused; 0 when the last was accepted."""
        return 0.0 if self._refused_since is None else self._clock() - self._refused_since
