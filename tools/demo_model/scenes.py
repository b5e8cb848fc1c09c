"""Synthetic clips: coloured shapes that move over a gradient. A scene is a function of its seed and size alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["NAMES", "Scene", "draw_scene"]

NAMES = ("ball", "triangle", "square", "pentagon", "hexagon")
"""What the shapes are called in captions."""

_CORNERS = (0, 3, 4, 5, 6)  # of each; an ellipse has none

Draw = Callable[..., float]
"""A random number between two bounds, 0 and 1 by default."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A clip and what is in it.

    :param frames: (frames, 3, height, width), 0 to 1.
    :param shapes: names from :data:`NAMES`, in drawing order.
    """

    frames: Tensor
    shapes: tuple[str, ...]


def draw_scene(seed: int, frames: int, height: int, width: int) -> Scene:
    """A clip of ``frames`` pictures. Sizes are in pixels; shapes are between 8 and 34 pixels in radius at any size."""
    rng = torch.Generator().manual_seed(seed)

    def draw(low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(torch.rand((), generator=rng))

    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    phase = torch.arange(frames) * draw(0.06, 0.4) + draw(0, 2 * math.pi)  # radians of the loop
    clip = _background(rng, draw, x, y, phase)
    if draw() < 0.4:  # a ground
        line = torch.sigmoid((y - height * draw(0.6, 0.9)) * 2)
        clip = clip + (_colour(rng, draw) - clip) * line
    names = []
    for _ in range(1 + int(draw(0, 4.2))):
        kind = int(draw(0, len(_CORNERS)))
        radius = draw(8, 34) if draw() < 0.8 else draw(4, 12)
        centre_x = width * draw(0.1, 0.9) + width * draw(0, 0.4) * torch.sin(phase * draw(0.5, 1.5) + draw(0, 6))
        centre_y = height * draw(0.1, 0.9) - height * draw(0, 0.35) * _bounce(phase, draw)
        turn = phase * draw(-1.5, 1.5) + draw(0, 6)
        mask = _shape(x, y, centre_x, centre_y, radius, turn, _CORNERS[kind], draw(0.7, 1.3))
        fill = _colour(rng, draw) + draw(-0.25, 0.25) * (y[None, None] - centre_y[:, None, None, None]) / 40
        clip = clip + (fill.clamp(0, 1) - clip) * mask * (1 if draw() < 0.85 else draw(0.4, 0.9))
        names.append(NAMES[kind])
    return Scene(clip.clamp(0, 1), tuple(names))


def _background(rng: torch.Generator, draw: Draw, x: Tensor, y: Tensor, phase: Tensor) -> Tensor:
    height, width = x.shape
    angle, first, second = draw(0, 2 * math.pi), _colour(rng, draw), _colour(rng, draw)
    along = ((x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle) + 0.5).clamp(0, 1)
    shift = draw(0, 0.12) * torch.sin(phase)[:, None, None]
    clip = first + (second - first) * (along[None] + shift).clamp(0, 1)[:, None]
    if draw() < 0.35:  # a slowly drifting cloud of light, so that not all is flat
        cloud = torch.zeros(len(phase), 1, height, width)
        for scale in (60.0, 30.0, 15.0):
            place, drift = draw(0, 6), draw(-1, 1)
            u = x / scale * math.cos(place) + y / scale * math.sin(place)
            v = y / scale * math.cos(place) - x / scale * math.sin(place)
            waves = torch.sin(u[None] * 2 + drift * phase[:, None, None]) * torch.sin(v[None] * 2 + place)
            cloud = cloud + waves[:, None] * scale / 60
        clip = clip + draw(0.03, 0.15) * cloud * _colour(rng, draw)
    return clip


def _colour(rng: torch.Generator, draw: Draw) -> Tensor:
    """One colour as (1, 3, 1, 1); greys are rare."""
    channels = torch.rand(3, generator=rng)
    if draw() < 0.6:  # more saturated
        low, high = channels.min(), channels.max()
        channels = (channels - low) / (high - low + 1e-3) * draw(0.5, 0.95) + draw(0, 0.15)
    return channels.clamp(0, 1).view(1, 3, 1, 1)


def _bounce(phase: Tensor, draw: Draw) -> Tensor:
    wave = torch.sin(phase * draw(0.5, 1.5) + draw(0, 6))
    return wave.abs() if draw() < 0.4 else wave


def _shape(
    x: Tensor, y: Tensor, cx: Tensor, cy: Tensor, radius: float, turn: Tensor, corners: int, flat: float
) -> Tensor:
    """How much of each pixel a shape covers: (frames, 1, height, width). ``corners`` 0 is an ellipse."""
    dx, dy = x[None] - cx[:, None, None], y[None] - cy[:, None, None]
    cos, sin = torch.cos(turn)[:, None, None], torch.sin(turn)[:, None, None]
    u, v = (dx * cos + dy * sin) * flat, (dy * cos - dx * sin) / flat
    distance = torch.hypot(u, v)
    if corners:
        sector = 2 * math.pi / corners
        angle = torch.remainder(torch.atan2(v, u), sector) - sector / 2
        distance = distance * torch.cos(angle) / math.cos(sector / 2)
    return torch.sigmoid((radius - distance) * 2)[:, None]
