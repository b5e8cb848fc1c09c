"""What the UNet learns: to restyle, from noise that hides a clip in its own look to the look that the caption names.

An ordinary diffusion model learns from noise over the clip that it is to make. Video-to-video starts it from noise over
another clip, the source, which so small a model has never seen under such a caption. So it is trained on what it meets:
if the source was noised at time ``s``, and the model is right about the result, then at a later time ``t`` what it
sees is noise over a mix of both, of which ``sqrt(snr(s) / snr(t))`` is the source. That follows from DDIM's step.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tools.demo_model.captions import caption
from tools.demo_model.latents import Clip
from tools.demo_model.text import tokenize

__all__ = ["Batch", "Noise", "draw_batch"]

_UNCAPTIONED = 0.12
_EARLIEST = 300  # starts below this time, of 1000, keep the source's look, as a low strength should
_UNMIXED = 0.15  # how many are trained the ordinary way


@dataclass(frozen=True, slots=True)
class Batch:
    """Latents of (clips, 4, frames, height, width), and the captions' tokens."""

    source: Tensor
    result: Tensor
    tokens: Tensor


def draw_batch(clips: list[Clip], tokenizer: Any, rng: random.Random, cells: int, *, own_look: float = 0.1) -> Batch:
    """Cuts from clips of one size, together about ``cells`` latent cells.

    :param own_look: the share of those that are to stay in their own look.
    """
    total, _, height, width = clips[0].plain.shape
    frames = rng.choice((3, 4, 4, 8)) if total <= 8 else rng.choice((12, 16, 16, 24))
    high, wide = (rng.randrange(8, side + 1, 2) for side in (height, width))
    pairs, texts = [], []
    for _ in range(max(1, cells // (frames * high * wide))):
        clip = rng.choice(clips)
        top, left, first = rng.randint(0, height - high), rng.randint(0, width - wide), rng.randint(0, total - frames)
        look, result = rng.choice(clip.looks) if rng.random() >= own_look else (("", ""), clip.plain)
        source = clip.plain if rng.random() > _UNMIXED else result
        cut = torch.stack([source, result])[:, first : first + frames, :, top : top + high, left : left + wide]
        pairs.append(cut.flip(1) if rng.random() < 0.5 else cut)
        texts.append("" if rng.random() < _UNCAPTIONED else caption(rng, *look, clip.shapes))
    both = torch.stack(pairs).transpose(2, 3)
    return Batch(both[:, 0], both[:, 1], tokenize(tokenizer, texts))


class Noise:
    """The schedule, the noised inputs and the loss."""

    def __init__(self, scheduler: Any) -> None:
        self._kept: Tensor = scheduler.alphas_cumprod

    def loss(self, unet: Any, text_encoder: Any, batch: Batch) -> Any:
        """The squared error of the noise that the UNet tells, weighted by time."""
        frames = batch.source.shape[2]
        states = text_encoder(batch.tokens).last_hidden_state.repeat_interleave(frames, dim=0)
        time, seen, wanted = self._noised(batch)
        told = unet(seen, time, encoder_hidden_states=states).sample
        each = (told - wanted).square().mean((1, 2, 3, 4))
        ratio = self._ratio(time)
        return (each * (ratio.clamp(0.2, 10) / ratio).clamp(max=1.5)).mean()

    def _ratio(self, time: Tensor) -> Tensor:
        """Signal to noise, as variances."""
        return self._kept[time] / (1 - self._kept[time])

    def _noised(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        count, most = len(batch.source), len(self._kept) - 1
        time = (torch.rand(count) ** 1.25 * most).long()  # rather early times: few requests start from pure noise
        start = time.clamp(min=_EARLIEST)
        start = start + (torch.rand(count) * (most - start)).long()
        mix = (self._ratio(start) / self._ratio(time)).sqrt().view(-1, 1, 1, 1, 1)
        signal, spread = (part.sqrt().view(-1, 1, 1, 1, 1) for part in (self._kept[time], 1 - self._kept[time]))
        seen = signal * torch.lerp(batch.result, batch.source, mix) + spread * torch.randn_like(batch.source)
        return time, seen, (seen - signal * batch.result) / spread
