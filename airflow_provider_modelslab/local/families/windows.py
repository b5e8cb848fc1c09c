"""Context windows: how a clip that is longer than what a model sees at once is denoised as one clip.

In each step the model predicts the noise of overlapping windows. Where windows overlap, the predictions are averaged,
so neighbours agree in every step, and nothing has to be joined afterwards. This is MultiDiffusion (Bar-Tal et al. 2023,
arXiv:2302.08113) in time, as ComfyUI's AnimateDiff-Evolved has it. The windows begin elsewhere in each step, so no
frame is at a border all the time.

diffusers has FreeNoise for AnimateDiff (``enable_free_noise``). It puts the windows into the attention layers, so all
else of the UNet still holds all frames at once, and memory grows with the clip; and it takes no embedded prompts.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ClipRun", "ContextWindows"]


class ClipRun(ABC):
    """One pass over a clip of any length: frames in, one by one, and later frames out, one by one.

    Between them only the latents of the clip are in memory.
    """

    @abstractmethod
    def add(self, picture: Image) -> None:
        """Take the next frame."""

    @abstractmethod
    def finish(self, write: Callable[[Image], object]) -> None:
        """Denoise the clip.

        :param write: called with each frame of the result, in order; as many as were added, of the same size.
        :raises ArithmeticError: when there are values that are no numbers.
        """

    @abstractmethod
    def notes(self) -> dict[str, Any]:
        """How it was done, for the result's meta: JSON, empty where there is nothing to say."""


@dataclass(frozen=True, slots=True)
class ContextWindows:
    """Windows over a clip.

    :param total: frames of the clip, 1 or more.
    :param length: frames of a window, 1 or more; a shorter clip is one window.
    :param overlap: frames that neighbours share at least, 0 or more and less than ``length``.
    """

    total: int
    length: int
    overlap: int

    @property
    def size(self) -> int:
        """Frames that the model sees at once."""
        return min(self.total, self.length)

    def starts(self, step: int) -> list[int]:
        """Where the windows begin in a step, in order. Together they cover the clip; each has :attr:`size` frames."""
        last = self.total - self.size
        count = math.ceil(last / (self.length - self.overlap))
        stride = last / max(1, count)
        shift = _spread(step) * stride
        return sorted({0, *(int(index * stride + shift + 0.5) for index in range(count)), last})

    def average(self, latents: Any, step: int, predict: Callable[[Any], Any]) -> Any:
        """What a model predicts for all frames, which it sees window by window.

        A frame counts the more, the nearer it is to the middle of its window.

        :param latents: (1, channels, frames, height, width).
        :param step: the number of the step, from 0.
        :param predict: called with the latents of each window; gives a prediction of the same shape.
        """
        import torch

        starts = self.starts(step)
        if len(starts) == 1:
            return predict(latents)
        ramp = torch.arange(1.0, self.size + 1)
        weights = torch.minimum(ramp, ramp.flip(0)).to(latents.device)[:, None, None]
        total = torch.zeros_like(latents, dtype=torch.float32)
        shares = torch.zeros(self.total, 1, 1, device=latents.device)
        for start in starts:
            frames = slice(start, start + self.size)
            total[:, :, frames] += weights * predict(latents[:, :, frames])
            shares[frames] += weights
        return (total / shares).to(latents.dtype)


def _spread(number: int) -> float:
    """0, 1/2, 1/4, 3/4, 1/8, ...: each in the middle of a gap that those before it leave between 0 and 1."""
    spread, place = 0.0, 0.5
    while number:
        spread += place * (number & 1)
        number, place = number >> 1, place / 2
    return spread
