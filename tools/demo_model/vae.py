"""Training of the VAE: pictures in every style to latents of an eighth of their sides, and back."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tools.demo_model.budget import Budget
from tools.demo_model.ema import Average
from tools.demo_model.parts import new_vae
from tools.demo_model.scenes import draw_scene
from tools.demo_model.styles import COLOURS, LORA_STYLE, STYLES, render
from tools.demo_model.vae_start import GAIN, set_colours

__all__ = ["draw_pictures", "train_vae"]

_SIDE, _CROP, _BATCH, _POOL = 96, 64, 8, 1600
_RATE = 1.2e-3
_KL = 3e-4  # of the mean per latent value: small, so that the latents are near to normal but exact
_HOLD = 0.05  # on the three channels that begin as the cells' colours


def draw_pictures(count: int, seed: int) -> Tensor:
    """``count`` pictures of 96 x 96 pixels, -1 to 1, in all styles and colours."""
    rng = random.Random(seed)
    pictures: list[Tensor] = []
    while len(pictures) < count:
        frames = draw_scene(rng.getrandbits(48), 2, _SIDE, _SIDE).frames
        for frame in (frames[:1], frames[1:]):
            style = rng.choice(["", "", "", "", *STYLES, *STYLES, LORA_STYLE])
            colour = rng.choice(["", *COLOURS]) if rng.random() < 0.7 else ""
            pictures.append(render(frame, style, colour))
    return torch.cat(pictures)[:count] * 2 - 1


def train_vae(budget: Budget, seed: int, save: Callable[[Any], None]) -> Any:
    """The averaged VAE. Its latents have zero mean and, times the scaling factor, unit variance.

    :param save: gets the VAE as it is now and then.
    """
    torch.manual_seed(seed)
    vae = new_vae()
    set_colours(vae, draw_pictures(64, seed))
    vae = vae.to(memory_format=torch.channels_last)

    def loss_of(batch: Tensor) -> Any:
        posterior = vae.encode(batch).latent_dist
        kl = posterior.kl().mean() / posterior.mean[0].numel()
        moved = (posterior.mean[:, :3] - GAIN * functional.avg_pool2d(batch, 8)).abs().mean()
        return _distance(vae.decode(posterior.sample()).sample, batch) + _KL * kl + _HOLD * moved

    optimizer = torch.optim.AdamW(vae.parameters(), lr=_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average(vae, horizon=200)
    rng = random.Random(seed)
    pool = draw_pictures(_POOL, seed)
    for step in budget.run(optimizer, _RATE):
        if step and step % _POOL == 0:
            pool = draw_pictures(_POOL, seed + step)
        loss = loss_of(_crops(pool, rng))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        average.update(vae)
        budget.note(loss.item())
        if (step + 1) % 500 == 0:
            save(average.model)
    _normalise(average.model, draw_pictures(256, seed))
    return average.model


@torch.no_grad()
def _normalise(vae: Any, pictures: Any) -> None:
    """Shift and scale each channel of the latents, in the last layer before them and back in the first one after."""
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in pictures.split(32)])
    mean, spread = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += (after.weight * mean.view(1, -1, 1, 1)).sum((1, 2, 3))
    after.weight *= spread.view(1, -1, 1, 1)
    channels = len(mean)
    before.bias[:channels] -= mean
    before.bias[:channels] /= spread
    before.weight[:channels] /= spread.view(-1, 1, 1, 1)
    before.bias[channels:] -= 2 * spread.log()  # of the variance, which is told as its logarithm
    vae.register_to_config(scaling_factor=1.0)


def _crops(pool: Tensor, rng: random.Random) -> Tensor:
    """A batch of crops. They start on the grid of the latents, as the tiles of the LoRA's style do."""
    chosen = []
    for _ in range(_BATCH):
        top, left = (rng.randrange(0, _SIDE - _CROP + 1, 8) for _ in range(2))
        chosen.append(pool[rng.randrange(len(pool)), :, top : top + _CROP, left : left + _CROP])
    return torch.stack(chosen).contiguous(memory_format=torch.channels_last)


def _distance(made: Tensor, wanted: Tensor) -> Tensor:
    """How far pixels differ, how far the picture at a quarter of its size does, and a little of how far slopes do."""
    difference = made - wanted
    slopes = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    coarse = functional.avg_pool2d(difference, 4)
    return difference.abs().mean() + difference.square().mean() + coarse.abs().mean() + 0.25 * slopes
