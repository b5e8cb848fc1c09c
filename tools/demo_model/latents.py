"""The UNet's training data: scenes in their own look and in several styles, as latents, kept in memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tools.demo_model.scenes import draw_scene
from tools.demo_model.styles import COLOURS, STYLES, render

__all__ = ["LONG", "SHORT", "Clip", "Look", "Shape", "any_look", "encode_clips"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The size of clips: frames, and pixels that are multiples of 8."""

    frames: int
    height: int
    width: int


SHORT, LONG = Shape(8, 96, 96), Shape(24, 64, 96)

Look = tuple[str, str]
"""A style and a colour, as :func:`~.styles.render` takes them."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One scene's latents of (frames, 4, height / 8, width / 8), of unit variance.

    :param plain: in its own look.
    :param looks: in others.
    """

    plain: Tensor
    looks: tuple[tuple[Look, Tensor], ...]
    shapes: tuple[str, ...]


def any_look(rng: random.Random) -> Look:
    """A style and a colour that the model is to know; never neither."""
    while True:
        look = (rng.choice(["", *STYLES]), rng.choice(["", *COLOURS]) if rng.random() < 0.85 else "")
        if any(look):
            return look


def encode_clips(
    vae: Any, count: int, shape: Shape, seed: int, *, looks: int = 2, draw: Callable[[random.Random], Look] = any_look
) -> list[Clip]:
    """``count`` scenes, each with ``looks`` looks besides its own."""
    rng = random.Random(seed)
    clips = []
    for _ in range(count):
        scene = draw_scene(rng.getrandbits(48), shape.frames, shape.height, shape.width)
        chosen = [draw(rng) for _ in range(looks)]
        pixels = torch.cat([scene.frames, *(render(scene.frames, *look) for look in chosen)]) * 2 - 1
        with torch.no_grad():
            batch = pixels.contiguous(memory_format=torch.channels_last)
            latents = vae.encode(batch).latent_dist.mean * vae.config.scaling_factor
        plain, *others = latents.contiguous().split(shape.frames)
        clips.append(Clip(plain, tuple(zip(chosen, others, strict=True)), scene.shapes))
    return clips
