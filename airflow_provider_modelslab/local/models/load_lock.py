"""Loading a model beside others that run in the same process.

While diffusers and transformers load, they change what holds for the whole process: torch's default type, and how a
module takes in a parameter (it lands on the ``meta`` device). Another thread that runs a model, puts LoRAs into one or
loads one too would get wrong types and empty weights. So models are loaded one at a time, and while one is loaded those
that run pause between two steps.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["GATE", "LoadingGate"]


class LoadingGate:
    """Any number of threads may work with models, or one may load. Who wants to load goes before who wants to work."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._working = 0
        self._wanting = 0
        self._loader: int | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Use models; call :meth:`pause` now and then."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def pause(self) -> None:
        """Let others load that want to, within :meth:`working`."""
        if self._wanting or self._loader is not None:
            self._leave()
            self._enter()

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Load, or build, a model; outside of :meth:`working`. It may be nested."""
        me = threading.get_ident()
        if self._loader == me:
            yield
            return
        with self._changed:
            self._wanting += 1
            try:
                self._changed.wait_for(lambda: self._loader is None and not self._working)
                self._loader = me
            finally:
                self._wanting -= 1
        try:
            yield
        finally:
            with self._changed:
                self._loader = None
                self._changed.notify_all()

    def _enter(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._loader is None and not self._wanting)
            self._working += 1

    def _leave(self) -> None:
        with self._changed:
            self._working -= 1
            self._changed.notify_all()


GATE = LoadingGate()
"""Of this process."""
