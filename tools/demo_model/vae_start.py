"""The VAE before its training: cells of 8 x 8 pixels in their mean colours, so that what is left to learn is detail.

From random weights it takes thousands of steps until all colours come through. The first eight channels carry red,
green and blue, the same negated, and two constants of opposite signs that keep the norms from dividing the colours
away. What a norm and an activation do to them cancels out: silu(x) - silu(-x) = x. The other channels stay random.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["GAIN", "set_colours"]

GAIN = 1.5
"""Of the latents over the mean colours (-1 to 1): brings them near to unit variance."""

_KEPT = 8
_CONSTANT = 4.0
_SMALL = 0.1
_SIGNS = {(sign * 3 + c, c): 1.0 - 2 * sign for c in range(3) for sign in (0, 1)}
_DIFFERENCE = {(c, out): weight for (out, c), weight in _SIGNS.items()}
_SAME = {(c, c): 1.0 for c in range(_KEPT)}


@torch.no_grad()
def set_colours(vae: Any, pictures: Tensor) -> None:
    """Change the VAE's random weights; gains are measured on ``pictures``, -1 to 1."""
    for half in (vae.encoder, vae.decoder):
        for block in half.modules():
            if hasattr(block, "conv2"):
                block.conv2.weight *= _SMALL
                block.conv2.bias.zero_()
                if block.conv_shortcut is not None:
                    _route(block.conv_shortcut, _SAME, _KEPT)
            if hasattr(block, "to_out"):
                block.to_out[0].weight *= _SMALL
        _route(half.conv_in, _SIGNS, _KEPT)
        half.conv_in.bias[6], half.conv_in.bias[7] = _CONSTANT, -_CONSTANT
        _route(half.conv_out, _DIFFERENCE, 3)
    quarters = dict.fromkeys(_SAME, 0.25)
    for block in vae.encoder.down_blocks[:-1]:
        _route(block.downsamplers[0].conv, quarters, _KEPT, taps=[(0, 0), (0, 1), (1, 0), (1, 1)])
    for block in vae.decoder.up_blocks[:-1]:
        _route(block.upsamplers[0].conv, _SAME, _KEPT)
    vae.encoder.conv_out.weight[4:] = 0
    vae.encoder.conv_out.bias[4:] = -5.0  # the posterior's log variance: nearly exact
    for conv in (vae.quant_conv, vae.post_quant_conv):
        _route(conv, {(c, c): 1.0 for c in range(conv.out_channels)}, conv.out_channels)
    colours = functional.avg_pool2d(pictures, 8)
    latents = vae.encode(pictures).latent_dist.mean
    vae.encoder.conv_out.weight[:3] *= GAIN / _gain(latents[:, :3], colours)
    made = functional.avg_pool2d(vae.decode(GAIN * functional.pad(colours, (0, 0, 0, 0, 0, 1))).sample, 8)
    vae.decoder.conv_out.weight *= 1 / _gain(made, colours)


def _route(
    layer: Any, weights: dict[tuple[int, int], float], rows: int, taps: list[tuple[int, int]] | None = None
) -> None:
    """The first ``rows`` outputs become these weights (out, in) at the kernel's middle or at ``taps``, and no more."""
    layer.weight[:rows] = 0
    layer.bias[:rows] = 0
    for (out, source), weight in weights.items():
        middle = layer.kernel_size[0] // 2
        for row, column in taps or [(middle, middle)]:
            layer.weight[out, source, row, column] = weight


def _gain(made: Tensor, wanted: Tensor) -> float:
    """How much larger, by least squares."""
    made, wanted = made - made.mean(), wanted - wanted.mean()
    return float((made * wanted).sum() / wanted.square().sum())
