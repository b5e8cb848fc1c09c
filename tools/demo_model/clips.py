"""The UNet's training data: pictures and clips, and how they are to look. They are drawn anew all the time."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from tools.demo_model.pictures import Pictures
from tools.demo_model.scenes import draw_scene
from tools.demo_model.styles import COLOURS, STYLES, Look, render

__all__ = ["LOOKS", "Pair", "Supply"]

_SIDE, _FRAMES = 128, 25
_GRAIN = 0.025


@dataclass(frozen=True, slots=True)
class Pair:
    """A clip as it is and as it is to look: (frames, 3, height, width), -1 to 1."""

    source: Tensor
    result: Tensor
    look: Look


LOOKS: list[Look] = [
    *((style, "") for style in STYLES for _ in range(8)),
    *((style, colour) for style in STYLES for colour in COLOURS),
    *(("", colour) for colour in COLOURS),
]
"""What the model is to know; the styles in the clip's own colours as often as those in one colour."""


class Supply:
    """Keeps some pictures and clips, of which it cuts pieces.

    :param looks: how its pieces are to look; one that is named twice comes twice as often.
    :param pool: how many pictures it keeps, and a quarter as many clips.
    """

    def __init__(self, pictures: Pictures, rng: random.Random, device: str, looks: list[Look], pool: int = 160) -> None:
        self._pictures, self._rng, self._device, self._looks = pictures, rng, device, looks
        self._still = [*pictures.draw(pool, _SIDE, _SIDE)]
        self._moving = [self._scene() for _ in range(pool // 4)]

    def renew(self, count: int) -> None:
        """Replace some of what it keeps."""
        for picture in self._pictures.draw(count, _SIDE, _SIDE):
            self._still[self._rng.randrange(len(self._still))] = picture
        for _ in range(max(1, count // 4)):
            self._moving[self._rng.randrange(len(self._moving))] = self._scene()

    def draw(self, count: int, frames: int, side: int, plain: float = 0.0) -> list[Pair]:
        """``count`` pieces of ``frames`` square pictures, with grain on the sources, which the results are free of.

        :param plain: the share that is to stay as it is.
        """
        pairs = []
        for _ in range(count):
            piece = self._piece(frames, side)
            look = self._rng.choice(self._looks) if self._rng.random() >= plain else ("", "")
            grain = _GRAIN * self._rng.random() ** 2 * torch.randn_like(piece)
            pairs.append(Pair(2 * (piece + grain) - 1, 2 * render(piece, *look) - 1, look))
        return pairs

    def _piece(self, frames: int, side: int) -> Tensor:
        rng = self._rng
        if rng.random() < 0.3:
            clip = rng.choice(self._moving)
            first = rng.randint(0, len(clip) - frames)
            top, left = (rng.randint(0, _SIDE - side) for _ in range(2))
            piece = clip[first : first + frames, :, top : top + side, left : left + side]
        else:  # the camera moves over a picture
            picture, room = rng.choice(self._still), _SIDE - side
            rows, columns = (self._path(frames, room) for _ in range(2))
            piece = torch.stack(
                [
                    picture[:, row : row + side, column : column + side]
                    for row, column in zip(rows, columns, strict=True)
                ]
            )
        return piece.flip(-1) if rng.random() < 0.5 else piece

    def _path(self, frames: int, room: int) -> list[int]:
        """Where the camera is, 0 to ``room`` pixels: at rest, on its way, or anywhere if frames are far apart."""
        rng = self._rng
        kind = rng.random()
        if kind < 0.1:
            return [rng.randint(0, room) for _ in range(frames)]
        most = 0.0 if kind < 0.45 else min(rng.choice((1.0, 3.0, 8.0)), room / max(1, frames - 1))
        step = rng.uniform(-most, most)
        start = rng.uniform(max(0.0, -step * (frames - 1)), room - max(0.0, step * (frames - 1)))
        return [round(start + step * frame) for frame in range(frames)]

    def _scene(self) -> Tensor:
        return draw_scene(self._rng.getrandbits(48), _FRAMES, _SIDE, _SIDE).frames.to(self._device)
