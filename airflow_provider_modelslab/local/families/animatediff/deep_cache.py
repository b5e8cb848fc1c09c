"""Reusing what the UNet's deep blocks gave a step before, since it changes slowly from step to step.

The idea is DeepCache's (Ma et al. 2023, arXiv:2312.00858), there for pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["DeepCache"]


class DeepCache:
    """Makes a ``UNetMotionModel`` able to run its first resolution alone, on what the others gave earlier.

    Down blocks but the first, the middle block and up blocks but the last are the deep ones. In a step that reuses,
    they pass on what they get, and the last of them gives what it gave before.
    """

    def __init__(self, unet: Any) -> None:
        self._kept: dict[Hashable, Any] = {}
        self._key: Hashable = None
        self._now: Any = None  # what the last block gave; an attribute, as compiled code is bound to a dict's keys
        self._reusing = False
        for block in unet.down_blocks[1:]:
            block.forward = self._passing(block.forward, outputs=len(block.resnets) + len(block.downsamplers or ()))
        if unet.mid_block is not None:
            unet.mid_block.forward = self._passing(unet.mid_block.forward)
        for block in unet.up_blocks[:-2]:
            block.forward = self._passing(block.forward)
        for block in unet.up_blocks[-2:-1]:
            block.forward = self._keeping(block.forward)

    def begin(self, key: Hashable, *, reuse: bool) -> None:
        """Before a call of the UNet.

        :param key: of the calls whose states may stand for each other: those for the same rows.
        :param reuse: run the first resolution alone, if such a call has been.
        """
        if self._now is not None:
            self._kept[self._key] = self._now
        self._key = key
        self._now = self._kept.get(key)
        self._reusing = reuse and self._now is not None

    def clear(self) -> None:
        """Forget everything: another clip, or other weights."""
        self._kept.clear()
        self._now = None
        self._reusing = False

    def _passing(self, forward: Callable[..., Any], outputs: int = 0) -> Callable[..., Any]:
        """A block's forward that may pass on its input; ``outputs`` times more as a down block's own outputs."""

        def run(hidden_states: Any, *arguments: Any, **options: Any) -> Any:
            if not self._reusing:
                return forward(hidden_states, *arguments, **options)
            return (hidden_states, (hidden_states,) * outputs) if outputs else hidden_states

        return run

    def _keeping(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def run(hidden_states: Any, *arguments: Any, **options: Any) -> Any:
            if not self._reusing:
                self._now = forward(hidden_states, *arguments, **options)
            return self._now

        return run
