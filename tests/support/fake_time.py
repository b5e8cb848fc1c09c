"""An event loop whose clock jumps to the next timer instead of sleeping: an hour of waiting takes no time."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

__all__ = ["FakeTimeLoop"]


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """For coroutines that only sleep; ``time()`` is seconds since the loop was made, plus ``start``."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self.now = start
        super().__init__(_JumpingSelector(self))

    def time(self) -> float:
        return self.now


class _JumpingSelector(selectors.SelectSelector):
    def __init__(self, loop: FakeTimeLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is not None:
            self._loop.now += timeout
        return super().select(0 if timeout is not None else None)
