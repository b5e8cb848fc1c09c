"""Smaller portions when memory does not suffice: the same result from less at a time.

The VAE first takes fewer frames at once, and guidance makes two calls of the UNet instead of one of twice the size.
What was needed is kept for clips of the same size, so the next one does not fail first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from airflow_provider_modelslab.local.runtime.devices import free_memory
from airflow_provider_modelslab.local.runtime.memory import is_out_of_memory

__all__ = ["CHUNKS", "MemoryFallback", "Portions"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")

CHUNKS = (16, 4, 1)
"""Frames that the VAE takes at once: the first as in diffusers, the others when memory is short."""


@dataclass(slots=True)
class Portions:
    """How much a clip of one size takes at a time.

    :param chunk: frames at once in the VAE.
    :param split: guidance's two calls one after the other.
    :param make_room: lets other models go; returns whether any went. Asked before a portion is made smaller.
    """

    chunk: int = CHUNKS[0]
    split: bool = False
    make_room: Callable[[], bool] = lambda: False
    _notes: dict[str, Any] | None = None

    @property
    def notes(self) -> dict[str, Any]:
        """What is smaller than usual, for the result's meta; empty if nothing is."""
        return dict(self._notes or {})

    def vae(self, work: Callable[[int], Result]) -> Result:
        """Run ``work`` with the number of frames at once, and again with fewer when there is too little memory."""
        while True:
            try:
                return work(self.chunk)
            except Exception as error:
                smaller = [chunk for chunk in CHUNKS if chunk < self.chunk]
                room = is_out_of_memory(error) and self.make_room()
                if not is_out_of_memory(error) or not (room or smaller):
                    raise
            # Out of the handler: the error's traceback would hold on to the tensors.
            if room:
                free_memory()
                continue
            self.chunk = smaller[0]
            self._fall_back("vae_frames_at_once", self.chunk, "from now on the VAE processes %s frame(s) at a time")

    def guided(self, whole: Callable[[], Result], split: Callable[[], Result]) -> Result:
        """``whole``, or ``split`` when there is too little memory for it."""
        while not self.split:
            try:
                return whole()
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                room = self.make_room()
            if room:
                free_memory()
                continue
            self.split = True
            self._fall_back("guidance_calls", 2, "from now on guidance makes %s smaller calls instead of one")
        return split()

    def _fall_back(self, name: str, value: Any, text: str) -> None:
        log.warning("Too little memory: %s", text % value)
        self._notes = {**self.notes, name: value}
        free_memory()


class MemoryFallback:
    """The portions by size of clip.

    :param make_room: as in :class:`Portions`.
    """

    def __init__(self, chunk: int = CHUNKS[0], make_room: Callable[[], bool] = lambda: False) -> None:
        self._chunk = chunk
        self._make_room = make_room
        self._sizes: dict[tuple[int, int, int], Portions] = {}

    def of(self, frames: int, width: int, height: int) -> Portions:
        """For clips of so many frames and pixels; the same object each time."""
        return self._sizes.setdefault((frames, width, height), Portions(self._chunk, make_room=self._make_room))
