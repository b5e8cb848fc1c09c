"""Training of the motion UNet: first on pictures, with its motion modules left out, then these alone on clips."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from tools.demo_model.budget import Budget
from tools.demo_model.checkpoint import Checkpoint
from tools.demo_model.clips import Supply
from tools.demo_model.descent import descend
from tools.demo_model.device import mixed_precision
from tools.demo_model.ema import Average
from tools.demo_model.objective import Noise, draw_batch
from tools.demo_model.parts import is_motion, new_scheduler, new_unet
from tools.demo_model.text import Captions
from tools.demo_model.unet_start import set_unet

__all__ = ["freeze", "motionless", "train_unet"]

_RATE = 1.5e-3
_RENEWAL = 25
_OWN_SHARE = 0.35
_STILLS = ((16, 1, 64), (16, 1, 64), (7, 1, 96))
_CLIPS = ((3, 6, 64), (3, 6, 64), (2, 9, 64), (1, 16, 64), (2, 4, 96), (1, 25, 64))
"""Pieces in a batch, frames, pixels a side."""


def train_unet(
    budget: Budget, supply: Supply, captions: Captions, seed: int, device: str, checkpoint: Checkpoint,
    save: Callable[[Any], None], *, clips: bool, start: Any = None,
) -> Any:  # fmt: skip
    """The averaged UNet.

    :param clips: its motion modules on clips, as AnimateDiff's; else all other parts on pictures.
    :param start: the UNet to go on from, ``None`` for a new one.
    :param save: gets the UNet as it is every 50 steps.
    """
    rng = random.Random(seed)
    torch.manual_seed(seed)
    if start is None:
        start = new_unet()
        set_unet(start)
    layout = torch.contiguous_format if clips else torch.channels_last  # in the other, torch 2.13 crashes on clips
    unet = start.train().to(device, memory_format=layout)
    noise = Noise(new_scheduler(), device)
    parameters = freeze(unet, lambda name: clips == ("motion_modules" in name))
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, betas=(0.9, 0.98), weight_decay=1e-3)
    average = Average(unet, horizon=250)
    checkpoint.load(budget, unet, optimizer, average)
    with motionless(unet) if not clips else nullcontext():
        for step in budget.run(optimizer, _RATE):
            if step % _RENEWAL == _RENEWAL - 1:
                supply.renew(8)
            batch = draw_batch(supply, captions, rng, *rng.choice(_CLIPS if clips else _STILLS))
            with mixed_precision(device) if device == "cuda" else nullcontext():  # slower on a CPU
                loss = noise.loss(unet, batch, own=rng.random() < _OWN_SHARE)
            descend(budget, optimizer, loss)
            average.update(unet)
            if (step + 1) % 50 == 0:
                checkpoint.save(budget, unet, optimizer, average)
                save(average.model)
    checkpoint.save(budget, unet, optimizer, average)
    return average.model


def freeze(unet: Any, is_trained: Callable[[str], bool]) -> list[Any]:
    """Takes gradients from what is not trained, chosen by its name, and returns the parameters that are."""
    for name, parameter in unet.named_parameters():
        parameter.requires_grad_(is_trained(name))
    return [parameter for parameter in unet.parameters() if parameter.requires_grad]


@contextmanager
def motionless(unet: Any) -> Iterator[None]:
    """Leaves the motion modules out."""
    left_out = [module for name, module in unet.named_modules() if is_motion(name)]
    for module in left_out:
        module.forward = _pass
    try:
        yield
    finally:
        for module in left_out:
            del module.forward


def _pass(hidden_states: Any, *_: Any, **__: Any) -> Any:
    return hidden_states
