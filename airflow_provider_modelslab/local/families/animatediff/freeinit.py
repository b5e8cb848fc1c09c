"""FreeInit (Wu et al. 2023, arXiv:2312.07537) for video-to-video: a steadier clip from several rounds of denoising.

Each round keeps the slow part of the noise that the first one began with, in space and in time, and draws the rest
anew. The noise then agrees with what became of the clip, and it flickers less. diffusers' own version is made for
text-to-video: in video-to-video it shortens the schedule a second time each round (19 instead of 42 steps for 20 steps
at strength 0.7) and puts the clip back to full noise, whatever the strength was.
"""

from __future__ import annotations

from typing import Any

__all__ = ["ITERATIONS", "low_pass", "mix_noise"]

ITERATIONS = 3
"""Rounds of denoising, as in diffusers and in the paper's results."""

_STOP = 0.25  # the stop frequency in space and in time; also diffusers' default
_ORDER = 4


def low_pass(frames: int, height: int, width: int) -> Any:
    """The Butterworth filter over the shifted spectrum of latents: a tensor of (frames, height, width), 0 to 1."""
    import torch

    def distance(size: int) -> Any:
        return (2 * torch.arange(size, dtype=torch.float64) / size - 1) ** 2

    square = distance(frames)[:, None, None] + distance(height)[None, :, None] + distance(width)[None, None, :]
    return (1 / (1 + (square / _STOP**2) ** _ORDER)).float()


def mix_noise(first: Any, fresh: Any, low: Any) -> Any:
    """The slow part of ``first`` with the fast part of ``fresh``; tensors of (..., frames, height, width)."""
    from torch import fft

    axes = (-3, -2, -1)

    def spectrum(noise: Any) -> Any:
        return fft.fftshift(fft.fftn(noise.float(), dim=axes), dim=axes)

    low = low.to(first.device)
    mixed = spectrum(first) * low + spectrum(fresh) * (1 - low)
    return fft.ifftn(fft.ifftshift(mixed, dim=axes), dim=axes).real.to(first.dtype)
