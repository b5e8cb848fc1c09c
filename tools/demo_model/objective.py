"""What the UNet learns: to restyle, from noise that hides a clip in its own look to the look that the caption names.

An ordinary diffusion model learns from noise over the clip that it is to make. Video-to-video starts it from noise over
another clip, the source, which so small a model has never seen under such a caption. So it is trained on what it meets:
if the source was noised at time ``s``, and the model is right about the result, then at a later time ``t`` what it
sees is noise over a mix of both, of which ``sqrt(snr(s) / snr(t))`` is the source. That follows from DDIM's step.
The UNet tells the velocity (``v_prediction``): near the end of the denoising it leaves what it sees as it is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tools.demo_model.captions import caption
from tools.demo_model.clips import Supply
from tools.demo_model.parts import LATENT_CHANNELS, LATENT_SPREAD
from tools.demo_model.scenes import NAMES
from tools.demo_model.vae_start import cells_of

__all__ = ["Batch", "Noise", "draw_batch"]

_UNCAPTIONED = 0.1
_EARLIEST, _LATEST = 150, 950  # starts before the first keep the source's look, as a low strength should
_USUAL, _USUAL_SHARE = 420, 0.75  # most requests start before this time


@dataclass(frozen=True, slots=True)
class Batch:
    """Latents of (clips, channels, frames, height, width), and the captions."""

    source: Tensor
    result: Tensor
    captions: list[str]


def draw_batch(supply: Supply, rng: random.Random, count: int, frames: int, side: int) -> Batch:
    """Pieces of one size, in pixels a side."""
    pairs = supply.draw(count, frames, side)
    pixels = torch.cat([part for pair in pairs for part in (pair.source, pair.result)])
    cells = LATENT_SPREAD * cells_of(pixels, LATENT_CHANNELS)
    both = cells.view(count, 2, frames, *cells.shape[1:]).transpose(2, 3)
    texts = [
        "" if rng.random() < _UNCAPTIONED else caption(rng, *pair.look, (rng.choice(NAMES),)) for pair in pairs
    ]
    return Batch(both[:, 0], both[:, 1], texts)


class Noise:
    """The schedule, the noised inputs and the loss."""

    def __init__(self, scheduler: Any, device: str) -> None:
        self._kept: Tensor = scheduler.alphas_cumprod.to(device)

    def loss(self, unet: Any, states: Tensor, batch: Batch) -> Any:
        """The squared error of the velocity; late starts, of which less of the source is seen, count more.

        :param states: the captions as the text encoder tells them, (clips, tokens, width).
        """
        frames = batch.source.shape[2]
        time, start = self._times(len(batch.source))
        seen, wanted = self._noised(batch, time, start)
        told = unet(seen, time, encoder_hidden_states=states.repeat_interleave(frames, dim=0)).sample
        each = (told.float() - wanted).square().mean((1, 2, 3, 4))
        return (each / (2 + 0.25 * LATENT_SPREAD**2 * self._ratio(start))).mean()

    def _ratio(self, time: Tensor) -> Tensor:
        """Signal to noise, as variances, for latents of variance 1."""
        return self._kept[time] / (1 - self._kept[time])

    def _times(self, count: int) -> tuple[Tensor, Tensor]:
        """When the UNet is asked, and when the denoising began."""
        device = self._kept.device
        usual = torch.rand(count, device=device) < _USUAL_SHARE
        latest = torch.where(usual, _USUAL, _LATEST)
        start = _EARLIEST + torch.rand(count, device=device) * (latest - _EARLIEST)
        first = torch.rand(count, device=device) < 0.3  # the first step does the most
        time = torch.where(first, start, start * torch.rand(count, device=device))
        return time.long(), start.long()

    def _noised(self, batch: Batch, time: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        mix = (self._ratio(start) / self._ratio(time)).sqrt().view(-1, 1, 1, 1, 1)
        signal, spread = (part.sqrt().view(-1, 1, 1, 1, 1) for part in (self._kept[time], 1 - self._kept[time]))
        seen = signal * torch.lerp(batch.result, batch.source, mix) + spread * torch.randn_like(batch.source)
        noise = (seen - signal * batch.result) / spread
        return seen, signal * noise - spread * batch.result
