"""What the UNet learns: to restyle, from noise that hides a clip in its own look to the look that the caption names.

An ordinary diffusion model learns from noise over the clip that it is to make. Video-to-video starts it from noise over
another clip, the source, which so small a model has never seen under such a caption. So it is trained on what it meets:
if the source was noised at time ``s``, and the model is right about the result, then at a later time ``t`` what it
sees is noise over a mix of both, of which ``sqrt(snr(s) / snr(t))`` is the source. That follows from DDIM's step.
Some of the time the mix is of what the model itself says at time ``s``, so that it learns to mend its own mistakes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tools.demo_model.clips import Supply
from tools.demo_model.parts import LATENT_CHANNELS, LATENT_SPREAD
from tools.demo_model.text import Captions
from tools.demo_model.vae_start import SPREADS, cells_of

__all__ = ["Batch", "Noise", "draw_batch"]

_UNCAPTIONED = 0.08
_LATEST = 999
_USUAL, _USUAL_SHARE = 450, 0.75  # most requests start before this time
_WHOLE_LOOK = 60.0  # a run that starts below this time goes only part of the way to the new look
_STEADY = 2.0  # the weight of flicker, which the eye forgives less
_FIRST_SHARE = 0.4  # of the questions are about the first step, which does the most


@dataclass(frozen=True, slots=True)
class Batch:
    """Latents of (clips, channels, frames, height, width), and the captions' states, (clips, tokens, width)."""

    source: Tensor
    result: Tensor
    states: Tensor


def draw_batch(supply: Supply, captions: Captions, rng: random.Random, count: int, frames: int, side: int) -> Batch:
    """Pieces of one size, in pixels a side. Those without a caption stay as they are."""
    pairs = supply.draw(count, frames, side, plain=_UNCAPTIONED)
    pixels = torch.cat([part for pair in pairs for part in (pair.source, pair.result)])
    cells = LATENT_SPREAD * cells_of(pixels, LATENT_CHANNELS)
    both = cells.view(count, 2, frames, *cells.shape[1:]).transpose(2, 3)
    states = torch.stack([captions.states(pair.look, rng) for pair in pairs])
    return Batch(both[:, 0], both[:, 1], states)


class Noise:
    """The schedule, the noised inputs and the loss."""

    def __init__(self, scheduler: Any, device: str) -> None:
        self._kept: Tensor = scheduler.alphas_cumprod.to(device)
        weights = (torch.tensor(SPREADS[:LATENT_CHANNELS], device=device) / SPREADS[0]).sqrt()
        self._weights = weights.view(1, -1, 1, 1, 1)  # the eye forgives the small channels more

    def loss(self, unet: Any, batch: Batch, own: bool = False) -> Any:
        """How far the clean latents are from the wanted ones, absolutely and squared, and how much that flickers.

        :param own: the model is asked a second time, about what it said the first time.
        """
        states = batch.states.repeat_interleave(batch.source.shape[2], dim=0)
        time, start = self._times(len(batch.source))
        noise = torch.randn_like(batch.source)
        share = (start / _WHOLE_LOOK).clamp(max=1).view(-1, 1, 1, 1, 1)
        wanted = result = torch.lerp(batch.source, batch.result, share)
        if own:
            with torch.no_grad():
                first = self._noised(batch.source, start, noise)
                result = unet(first, start, encoder_hidden_states=states).sample.float()
        mix = (self._ratio(start) / self._ratio(time)).sqrt().view(-1, 1, 1, 1, 1)
        seen = self._noised(torch.lerp(result, batch.source, mix), time, noise)
        predicted = unet(seen, time, encoder_hidden_states=states).sample.float()
        difference = (predicted - wanted) * self._weights / LATENT_SPREAD
        loss = difference.abs().mean() + difference.square().mean()
        if difference.shape[2] > 1:
            loss = loss + _STEADY * difference.diff(dim=2).abs().mean()
        return loss

    def _ratio(self, time: Tensor) -> Tensor:
        """Signal to noise, as variances, for latents of variance 1."""
        return self._kept[time] / (1 - self._kept[time])

    def _times(self, count: int) -> tuple[Tensor, Tensor]:
        """When the UNet is asked, and when the denoising began."""
        device = self._kept.device
        usual = torch.rand(count, device=device) < _USUAL_SHARE
        latest = torch.where(usual, _USUAL, _LATEST)
        start = torch.rand(count, device=device) * latest
        first = torch.rand(count, device=device) < _FIRST_SHARE
        time = torch.where(first, start, start * torch.rand(count, device=device))
        return time.long(), start.long()

    def _noised(self, latents: Tensor, time: Tensor, noise: Tensor) -> Tensor:
        signal, spread = (part.sqrt().view(-1, 1, 1, 1, 1) for part in (self._kept[time], 1 - self._kept[time]))
        return signal * latents + spread * noise
