"""How many jobs a batch keeps in flight: up to what was allowed, fewer while the endpoint refuses."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_modelslab.api.errors import EndpointUnreachableError, RateLimitError

__all__ = ["Window"]

_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 120.0
_LONGEST_ASKED = 600.0  # however long the endpoint asks for: it may have room long before


class Window:
    """Additive increase, multiplicative decrease, shared by everything that submits in one batch.

    An account's queue takes 5, 10 or 15 jobs, and other tasks fill it too, so the right number is not known in advance.
    A refusal halves the window, to no fewer than one job, and pauses all submits: for as long as the endpoint asked, 10
    minutes at most, else 2 s, doubled with each refusal in a row, 2 minutes at most. An endpoint that cannot be reached
    counts as one that refuses. After as many accepted jobs as fit into the window, it grows by one.

    :param most: jobs that may be in flight at all, 1 or more.
    :param clock: seconds, monotonic.
    :param wall: seconds since the epoch, by which another process tells how long refusals have lasted.
    """

    def __init__(
        self, most: int, *, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time
    ) -> None:
        self.most = most
        self.limit = most
        self._clock = clock
        self._wall = wall
        self._paused_until = -math.inf
        self._refusals = 0
        self._accepted = 0
        self._refused_since: float | None = None

    def refused(
        self, error: RateLimitError | EndpointUnreachableError, *, in_flight: int, refusal_timeout: float = math.inf
    ) -> float:
        """Slow down after a refusal; the seconds of the pause.

        :param in_flight: jobs that run at the endpoint now, those being submitted not counted.
        :param refusal_timeout: seconds of nothing but refusals; no pause goes beyond them.
        """
        now = self._clock()
        if now >= self._paused_until:  # of several submits under way at once only the first counts
            self._refusals += 1
            self.limit = max(1, min(self.limit // 2, max(in_flight, 1)))
        if in_flight:
            self._refused_since = None  # jobs of ours fill the queue too, and make room as they end
        elif self._refused_since is None:
            self._refused_since = now
        self._accepted = 0
        pause = min(_FIRST_PAUSE * 2 ** (self._refusals - 1), _LONGEST_PAUSE) if self._refusals else _FIRST_PAUSE
        asked = error.retry_after or 0.0 if isinstance(error, RateLimitError) else 0.0
        pause = min(max(pause, asked), _LONGEST_ASKED, max(0.0, refusal_timeout - self.refused_for()))
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

    def state(self) -> dict[str, float | None]:
        """Plain JSON from which :meth:`resume` goes on in another process."""
        since = None if self._refused_since is None else self._wall() - self.refused_for()
        return {"limit": self.limit, "refusals": self._refusals, "refused_since": since}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Go on as another process left it; its pause is over. Time until now counts as refused, if no job ran then."""
        self.limit = max(1, min(int(state["limit"]), self.most))
        self._refusals = int(state["refusals"])
        since = state["refused_since"]
        self._refused_since = None if since is None else self._clock() - max(0.0, self._wall() - since)

    def refused_for(self) -> float:
        """Seconds for which every submit was refused though no job of ours ran; 0 when the last was accepted."""
        return 0.0 if self._refused_since is None else self._clock() - self._refused_since
