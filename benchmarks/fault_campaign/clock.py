"""A clock that can be set wrong in one process, as an administrator or a time server does it.

:func:`install` comes before the package is imported: some of its functions have ``time.time`` as a default argument.
``time.monotonic`` and ``time.time_ns`` stay right: the first is not set on a real machine either, and by the second the
campaign itself tells the time.
"""

from __future__ import annotations

import time

__all__ = ["install", "now", "step"]

_real = time.time
_ahead = 0.0


def install() -> None:
    """Replace ``time.time`` in this process and in those that are forked from it."""
    time.time = _told


def step(seconds: float) -> None:
    """Set the clock of this process forward, or back."""
    global _ahead
    _ahead += seconds


def now() -> float:
    """The right time, in seconds since the epoch."""
    return _real()


def _told() -> float:
    return _real() + _ahead
