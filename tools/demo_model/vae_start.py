"""The VAE before its training: an encoder that is done, and a decoder that begins with smooth colours.

The encoder is a fixed linear map, so that only the decoder is trained, and the UNet does not wait for it. A latent cell
is 4 x 4 pixels: the means of luma and of two colour differences, and the lowest frequencies of the luma's cosine
transform. In a network with norms and activations a value passes unchanged when its negative goes beside it, since
silu(x) - silu(-x) = x, and when two large constants of opposite signs set what the norm divides by.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["SPREADS", "cells_of", "set_decoder", "set_encoder"]

_LUMA = (0.30, 0.59, 0.11)
_CONSTANT = 40.0
_FREQUENCIES = ((0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
SPREADS = (0.45, 0.25, 0.25, 0.075, 0.075, 0.03, 0.036, 0.036)
"""What each channel is divided by: near its deviation over the training's pictures, a little more for the details."""

_SMALL = 0.1
_LIT = 4.0


def _functionals(channels: int) -> Tensor:
    """What each latent channel takes from a cell's luma and colour differences: (channels, 3, 4, 4)."""
    made = torch.zeros(channels, 3, 4, 4)
    place = (torch.arange(4) + 0.5) * math.pi / 4
    for channel in range(channels):
        if channel in (1, 2):
            made[channel, channel] = 1 / 16
        else:
            down, across = _FREQUENCIES[0 if channel == 0 else channel - 2]
            made[channel, 0] = torch.outer((place * down).cos(), (place * across).cos()) / 16
        made[channel] /= SPREADS[channel]
    return made


def _luma(pictures: Tensor) -> Tensor:
    red, green, blue = pictures.unbind(1)
    light = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return torch.stack([light, blue - light, red - light], 1)


def cells_of(pictures: Tensor, channels: int) -> Tensor:
    """The latents of pictures (-1 to 1), as the encoder makes them, in one convolution."""
    weights = _functionals(channels).to(pictures.device)
    return torch.nn.functional.conv2d(_luma(pictures), weights, stride=4)


@torch.no_grad()
def set_encoder(vae: Any) -> None:
    """Make the encoder, and the layer after it, that linear map."""
    channels = vae.config.latent_channels
    encoder = vae.encoder
    for block in encoder.modules():
        if hasattr(block, "conv2"):
            for layer in (block.conv1, block.conv2):
                layer.weight.zero_()
                layer.bias.zero_()
    _clear(encoder.conv_in)
    for row, weights in enumerate(_luma(torch.eye(3).view(3, 3, 1, 1)).view(3, 3).T):
        encoder.conv_in.weight[row, :, 1, 1] = weights
    halves = [block.downsamplers[0].conv for block in encoder.down_blocks[:-1]]
    signs = torch.tensor([[[1.0, 1], [1, 1]], [[1, -1], [1, -1]], [[1, 1], [-1, -1]], [[1, -1], [-1, 1]]])
    _clear(halves[0])
    halves[0].weight[:4, 0, :2, :2] = signs / 4
    for colour in (1, 2):
        halves[0].weight[3 + colour, colour, :2, :2] = 0.25
    _clear(encoder.down_blocks[1].resnets[0].conv_shortcut)
    for kept in range(6):
        encoder.down_blocks[1].resnets[0].conv_shortcut.weight[kept, kept] = 1
    _clear(halves[1])
    quarters = _functionals(channels).view(channels, 3, 2, 2, 2, 2).permute(0, 1, 2, 4, 3, 5)  # block, then place in it
    halves[1].weight[:channels, :4, :2, :2] = torch.einsum("lijpq,kpq->lkij", quarters[:, 0], signs)
    halves[1].weight[:channels, 4:6, :2, :2] = quarters[:, 1:].sum((-1, -2))
    last = encoder.down_blocks[2].resnets[0].conv_shortcut
    _clear(last)
    _clear(encoder.conv_out)
    gain = math.sqrt(2 / last.out_channels) * _CONSTANT
    for channel in range(channels):
        for sign, row in ((1.0, channel), (-1.0, channels + channel)):
            last.weight[row, channel] = sign
            encoder.conv_out.weight[channel, row, 1, 1] = sign * gain
    last.bias[2 * channels], last.bias[2 * channels + 1] = _CONSTANT, -_CONSTANT
    encoder.conv_out.bias[channels:] = -8.0  # the logarithm of the posterior's variance: nearly exact
    _clear(vae.quant_conv)
    vae.quant_conv.weight[:, :, 0, 0] = torch.eye(2 * channels)


@torch.no_grad()
def set_decoder(vae: Any) -> None:
    """The decoder's first eight channels carry red, green and blue, the same negated, and two constants."""
    decoder, channels = vae.decoder, vae.config.latent_channels
    for block in decoder.modules():
        if hasattr(block, "conv2"):
            block.conv2.weight *= _SMALL
            block.conv2.bias.zero_()
            if block.conv_shortcut is not None:
                _clear(block.conv_shortcut, 8)
                block.conv_shortcut.weight[:8, :8, 0, 0] = torch.eye(8)
    _clear(decoder.conv_in, 8)
    light, blue, red = (torch.eye(channels)[channel] * SPREADS[channel] for channel in range(3))
    green = light - (_LUMA[0] * red + _LUMA[2] * blue) / _LUMA[1]
    for row, weights in enumerate((light + red, green, light + blue)):
        decoder.conv_in.weight[row, :, 1, 1] = weights
        decoder.conv_in.weight[row + 3, :, 1, 1] = -weights
    decoder.conv_in.bias[6], decoder.conv_in.bias[7] = _LIT, -_LIT
    smooth = torch.outer(torch.tensor([0.25, 0.5, 0.25]), torch.tensor([0.25, 0.5, 0.25]))  # bilinear, after doubling
    for block in decoder.up_blocks[:-1]:
        layer = block.upsamplers[0].conv
        _clear(layer, 8)
        for kept in range(8):
            layer.weight[kept, kept] = smooth
    _clear(decoder.conv_out)
    gain = math.sqrt(2 / decoder.conv_out.in_channels) * _LIT
    for colour in range(3):
        decoder.conv_out.weight[colour, colour, 1, 1] = gain
        decoder.conv_out.weight[colour, colour + 3, 1, 1] = -gain
    _clear(vae.post_quant_conv)
    vae.post_quant_conv.weight[:, :, 0, 0] = torch.eye(channels)


def _clear(layer: Any, rows: int | None = None) -> None:
    """The first ``rows`` outputs give nothing, or all of them."""
    layer.weight[:rows] = 0
    layer.bias[:rows] = 0
