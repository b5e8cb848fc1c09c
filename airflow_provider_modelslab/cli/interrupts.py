"""Ctrl-C while a job is on its way: held back until the job's id is known, since the job would be billed without it."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from airflow_provider_modelslab.cli.common import echo_line

__all__ = ["HeldInterrupts"]


class HeldInterrupts:
    """Holds back SIGINT between :meth:`hold` and :meth:`release`; of use in the main thread, harmless elsewhere."""

    def __init__(self) -> None:
        self.pressed = False
        self._before: Any = None

    def hold(self) -> None:
        """From here on Ctrl-C is only noted."""
        if self._before is None and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._note)

    def release(self) -> None:
        """Ctrl-C works again."""
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True
        echo_line("The job is being submitted. This command stops as soon as the job id is known")
