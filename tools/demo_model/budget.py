"""How long a stage of the training lasts, and how its learning rate goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Budget"]

_WARM = 50
_EVERY = 50


class Budget:
    """A number of steps, cut short after ``seconds`` if they are given.

    The rate rises for 50 steps and falls to nothing along half a cosine, also when time cuts it short. Up to that cut a
    run depends on nothing but its seed.

    :param log: where each fiftieth step goes.
    """

    def __init__(self, name: str, steps: int, seconds: float | None, log: Callable[[str], None]) -> None:
        self._name, self._total, self._limit, self._log = name, steps, seconds or math.inf, log
        self._began = time.monotonic()
        self._losses: list[float] = []
        self._resumed = 0

    @property
    def seconds(self) -> float:
        """Since the stage began, the time before it was resumed included."""
        return time.monotonic() - self._began

    @property
    def steps(self) -> int:
        """Steps made, those before it was resumed included."""
        return self._resumed + len(self._losses)

    def resume(self, steps: int, seconds: float) -> None:
        """Go on after this many steps and seconds."""
        self._resumed = steps
        self._began = time.monotonic() - seconds

    def run(self, optimizer: Any, peak: float) -> Iterator[int]:
        """The numbers of the steps; sets the rate before each."""
        for step in range(self._resumed, self._total):
            done = max(step / self._total, self.seconds / self._limit)
            if done >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = peak * min(1.0, (step + 1) / _WARM) * 0.5 * (1 + math.cos(math.pi * done))
            yield step

    def note(self, loss: float) -> None:
        """The loss of the step."""
        self._losses.append(loss)
        if len(self._losses) % _EVERY == 0:
            mean = sum(self._losses[-_EVERY:]) / _EVERY
            self._log(f"{self._name} {self.steps}/{self._total}: loss {mean:.4f}, {self.seconds:.0f} s")
