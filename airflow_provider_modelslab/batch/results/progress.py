"""How far a batch is, and when it may be done: from what has landed lately, or "unknown"."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self

from airflow_provider_modelslab.batch.results.outcomes import Status

__all__ = ["Progress", "duration"]


class Progress:
    """Counts outcomes and estimates the time left.

    The rate is that of the last ``window`` clips that landed, up to now: it falls while nothing lands. Clips that were
    skipped or failed say nothing about how long one takes, so they do not count for the rate.

    :param found: clips of the batch.
    :param window: how many of the last landings count.
    :param enough: landings before there is an estimate; clips in flight land in bursts, so give their number.
    :param clock: seconds since the epoch; wall time, so that it goes on in another process.
    """

    def __init__(
        self, found: int, *, window: int = 100, enough: int = 5, clock: Callable[[], float] = time.time
    ) -> None:
        self.found = found
        self._clock = clock
        self._window = max(window, enough, 1)
        self._enough = max(enough, 1)
        self._started = clock()
        self._counts = {Status.LANDED: 0, Status.SKIPPED: 0, Status.FAILED: 0}
        # One more than the window: the landing before it is where its time begins.
        self._landings: deque[float] = deque(maxlen=self._window + 1)

    def tell(self, status: Status, count: int = 1) -> None:
        """So many more clips came to this; :attr:`Status.PENDING` is none of them."""
        if status is Status.PENDING or count < 1:
            raise ValueError(f"Need a final status and a count of at least 1; got {status.value} and {count}")
        self._counts[status] += count
        if status is Status.LANDED:
            self._landings.extend([self._clock()] * count)

    @property
    def left(self) -> int:
        """Clips without an outcome."""
        return max(self.found - sum(self._counts.values()), 0)

    def rate(self) -> float | None:
        """Clips a second that land; ``None`` until enough have landed."""
        if self._counts[Status.LANDED] < self._enough:
            return None
        full = len(self._landings) > self._window
        begun = self._landings[0] if full else self._started
        counted = self._window if full else len(self._landings)
        return counted / max(self._clock() - begun, 1e-3)

    def seconds_left(self) -> float | None:
        """Seconds until all have an outcome, if it goes on like this; ``None`` where that is unknown."""
        rate = self.rate()
        return 0.0 if not self.left else None if rate is None else self.left / rate

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON for a note, an XCom or a link."""
        left, rate = self.seconds_left(), self.rate()
        return {
            "found": self.found,
            **{status.value: count for status, count in self._counts.items()},
            "left": self.left,
            "elapsed_s": round(self._clock() - self._started, 1),
            "landed_per_minute": None if rate is None else round(rate * 60, 2),
            "seconds_left": None if left is None else round(left),
        }

    def line(self) -> str:
        """One line for the log."""
        counts = self._counts
        done = sum(counts.values())
        share = f" ({100 * done // self.found} %)" if self.found else ""
        rate, left = self.rate(), self.seconds_left()
        pace = f"{rate * 60:.1f} a minute, " if rate is not None and self.left else ""
        return (
            f"{done} of {self.found} clips{share}: {counts[Status.LANDED]} landed, {counts[Status.SKIPPED]} were "
            f"already stored, {counts[Status.FAILED]} failed, {self.left} left; {pace}time left: "
            + ("unknown" if left is None else f"about {duration(left)}" if left else "none")
        )

    def state(self) -> dict[str, Any]:
        """Plain JSON from which :meth:`resume` goes on, in the process after a deferral."""
        return {
            "found": self.found,
            "started": self._started,
            "counts": {status.value: count for status, count in self._counts.items()},
            "landings": [round(at, 2) for at in self._landings],
            "window": self._window,
            "enough": self._enough,
        }

    @classmethod
    def resume(cls, state: Mapping[str, Any], *, clock: Callable[[], float] = time.time) -> Self:
        """Go on where :meth:`state` was taken."""
        progress = cls(state["found"], window=state["window"], enough=state["enough"], clock=clock)
        progress._started = state["started"]
        progress._counts |= {Status(name): count for name, count in state["counts"].items()}
        progress._landings.extend(state["landings"])
        return progress


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 20 min``, ``2 d 4 h``: as precise as an estimate deserves."""
    if seconds < 90:
        return f"{max(round(seconds), 1)} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h" if hours % 24 else f"{hours // 24} d"
