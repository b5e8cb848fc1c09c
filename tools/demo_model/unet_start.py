"""The UNet before its training: it gives back the latents that it is given, so that it learns what is to change.

The first layer's output comes to the last block by a skip connection. There a value passes the norm and the activation
with its negative and two constants beside it, as in :mod:`~.vae_start`.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from tools.demo_model.parts import LATENT_CHANNELS

__all__ = ["set_unet"]

_CONSTANT = 20.0


@torch.no_grad()
def set_unet(unet: Any) -> None:
    """Let the latents through."""
    count = LATENT_CHANNELS
    unet.conv_in.weight[:count] = 0
    unet.conv_in.bias[:count] = 0
    last = unet.up_blocks[-1].resnets[-1]
    last.conv2.weight.zero_()
    last.conv2.bias.zero_()
    passed = 2 * count + 2
    before = last.in_channels - unet.conv_in.out_channels  # the skipped channels come after these
    last.conv_shortcut.weight[:passed] = 0
    last.conv_shortcut.bias[:passed] = 0
    last.conv_shortcut.weight[passed:] *= 0.3
    unet.conv_out.weight.mul_(0.1)
    unet.conv_out.weight[:, :passed] = 0
    unet.conv_out.bias.zero_()
    group = unet.conv_norm_out.num_channels // unet.conv_norm_out.num_groups
    gain = math.sqrt(2 / group) * _CONSTANT
    for channel in range(count):
        unet.conv_in.weight[channel, channel, 1, 1] = 1
        for sign, row in ((1.0, channel), (-1.0, count + channel)):
            last.conv_shortcut.weight[row, before + channel, 0, 0] = sign
            unet.conv_out.weight[channel, row, 1, 1] = sign * gain
    last.conv_shortcut.bias[passed - 2], last.conv_shortcut.bias[passed - 1] = _CONSTANT, -_CONSTANT
