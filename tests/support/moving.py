"""Small moving pictures, and how far apart two clips are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

__all__ = ["distance", "moving_frames"]


def moving_frames(count: int, width: int, height: int) -> list[Image.Image]:
    """A disc on its way over a gradient; each frame differs from every other."""
    rows, columns = np.mgrid[0:height, 0:width]
    frames = []
    for number in range(count):
        centre = width * (number + 1) / (count + 1)
        disc = (columns - centre) ** 2 + (rows - height / 2) ** 2 < (height / 4) ** 2
        ground = [columns * 200 // width + 20, rows * 150 // height + 40, np.full_like(rows, 90)]
        picture = np.stack(
            [np.where(disc, colour, part) for colour, part in zip((240, 230, 40), ground, strict=True)], -1
        )
        frames.append(Image.fromarray(picture.astype(np.uint8)))
    return frames


def distance(first: Sequence[Image.Image], second: Sequence[Image.Image]) -> float:
    """The mean difference of all channels of all pixels, 0 to 255. The clips must have the same size and length."""
    pairs = zip(first, second, strict=True)
    return float(np.mean([np.abs(np.asarray(a, dtype=float) - np.asarray(b, dtype=float)).mean() for a, b in pairs]))
