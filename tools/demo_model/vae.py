"""Training of the VAE's decoder: from latents of a quarter of a picture's sides back to the picture."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tools.demo_model.budget import Budget
from tools.demo_model.checkpoint import Checkpoint
from tools.demo_model.descent import descend
from tools.demo_model.device import mixed_precision
from tools.demo_model.ema import Average
from tools.demo_model.parts import LATENT_CHANNELS, new_vae
from tools.demo_model.pictures import Pictures
from tools.demo_model.scenes import draw_scene
from tools.demo_model.styles import COLOURS, LORA_STYLE, STYLES, render
from tools.demo_model.vae_start import cells_of, set_decoder, set_encoder

__all__ = ["draw_pool", "start_vae", "train_vae"]

_SIDE, _CROP, _BATCH = 96, 64, 12
_POOL, _RENEWED, _RENEWAL = 300, 30, 60  # pictures, and how many of them are drawn anew after how many steps
_RATE = 2e-3
_NOISE = 0.12  # of the latents, at most: what the UNet leaves of it is not to become speckle


def draw_pool(count: int, pictures: Pictures, rng: random.Random, side: int = _SIDE) -> Tensor:
    """``count`` pictures, -1 to 1: a third in the styles and colours, a fifth of them drawn shapes."""
    scenes = round(0.2 * count)
    made = [*pictures.draw(count - scenes, side, side)]
    made += [draw_scene(rng.getrandbits(48), 1, side, side).frames[0].to(made[0].device) for _ in range(scenes)]
    rng.shuffle(made)
    for place in range(0, count, 3):
        colour = rng.choice(["", *COLOURS]) if rng.random() < 0.7 else ""
        made[place] = render(made[place][None], rng.choice([*STYLES, LORA_STYLE, ""]), colour)[0]
    rng.shuffle(made)
    return torch.stack(made) * 2 - 1


def train_vae(
    budget: Budget, seed: int, pictures: Pictures, device: str, checkpoint: Checkpoint, save: Callable[[Any], None]
) -> Any:
    """The VAE with its averaged decoder; the encoder is fixed, see :mod:`~.vae_start`.

    :param save: gets the VAE as it is every 100 steps, ready to be used.
    """
    rng = random.Random(seed)
    torch.manual_seed(seed)
    vae = start_vae(device)
    pool = draw_pool(_POOL, pictures, rng)
    parameters = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    average = Average(vae, horizon=150)
    checkpoint.load(budget, vae, optimizer, average)
    for step in budget.run(optimizer, _RATE):
        if step % _RENEWAL == _RENEWAL - 1:
            first = rng.randrange(0, _POOL, _RENEWED)
            pool[first : first + _RENEWED] = draw_pool(_RENEWED, pictures, rng)
        batch = _crops(pool, rng)
        cells = cells_of(batch, LATENT_CHANNELS)
        cells = cells + _NOISE * rng.random() ** 2 * torch.randn_like(cells)
        with mixed_precision(device):
            made = vae.decode(cells).sample
        loss = _distance(made.float(), batch)
        descend(budget, optimizer, loss)
        average.update(vae)
        if (step + 1) % 100 == 0:
            checkpoint.save(budget, vae, optimizer, average)
            save(average.model)
    checkpoint.save(budget, vae, optimizer, average)
    return average.model


def start_vae(device: str) -> Any:
    """The VAE with its encoder done and its decoder to be trained."""
    vae = new_vae()
    set_encoder(vae)
    set_decoder(vae)
    vae.encoder.requires_grad_(False)
    vae.quant_conv.requires_grad_(False)
    return vae.to(device, memory_format=torch.channels_last)


def _crops(pool: Tensor, rng: random.Random) -> Tensor:
    """A batch of crops, some of them mirrored."""
    chosen = []
    for _ in range(_BATCH):
        top, left = (rng.randrange(_SIDE - _CROP + 1) for _ in range(2))
        crop = pool[rng.randrange(len(pool)), :, top : top + _CROP, left : left + _CROP]
        crop = crop.flip(-1) if rng.random() < 0.5 else crop
        chosen.append(crop.transpose(1, 2) if rng.random() < 0.25 else crop)
    return torch.stack(chosen).contiguous(memory_format=torch.channels_last)


def _distance(made: Tensor, wanted: Tensor) -> Tensor:
    """How far pixels differ, and a little of how far slopes do."""
    difference = made - wanted
    slopes = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + 2 * difference.square().mean() + 0.25 * slopes
