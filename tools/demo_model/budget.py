"""How long a stage of the training lasts, and how its learning rate goes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["Budget"]

_WARM = 50


class Budget:
    """A number of steps, cut short after ``seconds`` if they are given.

    The rate rises for 50 steps and falls to nothing along half a cosine, also when time cuts it short. Up to that cut a
    run depends on nothing but its seed.

    :param log: where each hundredth step goes.
    """

    def __init__(self, name: str, steps: int, seconds: float | None, log: Callable[[str], None]) -> None:
        self._name, self._steps, self._limit, self._log = name, steps, seconds or math.inf, log
        self._began = time.monotonic()
        self._losses: list[float] = []

    @property
    def seconds(self) -> float:
        """Since the stage began."""
        return time.monotonic() - self._began

    def run(self, optimizer: Any, peak: float, agree: Callable[[float], float] = float) -> Iterator[int]:
        """The numbers of the steps; sets the rate before each.

        :param agree: makes one of how far each of several processes believes to be, 0 to 1.
        """
        for step in range(self._steps):
            done = agree(max(step / self._steps, self.seconds / self._limit))
            if done >= 1:
                break
            for group in optimizer.param_groups:
                group["lr"] = peak * min(1.0, (step + 1) / _WARM) * 0.5 * (1 + math.cos(math.pi * done))
            yield step

    def note(self, loss: float) -> None:
        """The loss of the step."""
        self._losses.append(loss)
        count = len(self._losses)
        if count % 100 == 0:
            self._log(
                f"{self._name} {count}/{self._steps}: loss {sum(self._losses[-100:]) / 100:.4f}, {self.seconds:.0f} s"
            )

    @property
    def steps(self) -> int:
        """Steps made."""
        return len(self._losses)
