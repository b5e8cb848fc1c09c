"""How a caller follows the work, and stops it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["GenerationInterruptedError", "StepProgress"]


class GenerationInterruptedError(Exception):
    """The caller's ``should_stop`` said yes. Nothing was written."""


class StepProgress:
    """Counts the steps of all passes together, and asks whether to go on."""

    def __init__(
        self, total: int, on_step: Callable[[int, int], None] | None, should_stop: Callable[[], bool] | None
    ) -> None:
        self.before = 0  # steps of the passes that are done
        self._done = 0
        self._total = total
        self._on_step = on_step
        self._should_stop = should_stop

    def step(self, done: int) -> None:
        """Tell that so many steps of this pass are done.

        :raises GenerationInterruptedError: when the caller wants no more.
        """
        done += self.before
        if self._on_step is not None and done:
            self._on_step(done, self._total)
        self._done = done
        self.check()

    def check(self) -> None:
        """Ask whether to go on, between two steps.

        :raises GenerationInterruptedError: when the caller wants no more.
        """
        if self._should_stop is not None and self._should_stop():
            raise GenerationInterruptedError(f"stopped after {self._done} of {self._total} steps")
