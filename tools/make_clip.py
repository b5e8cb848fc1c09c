"""Writes the small clip that ships with the project: ``python -m tools.make_clip [PATH]``.

Large shapes that move a little over a gradient: 4 seconds of 192 x 128 pixels at 12 frames per second. The drawing is a
function of the frame's number alone, and the encoder is told to give the same bytes each time.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from airflow_provider_modelslab.local.media.encode import write_mp4

__all__ = ["draw_frames", "main"]

DEFAULT_PATH = Path(__file__).parents[1] / "dags_examples" / "media" / "clip.mp4"
FRAMES, FPS = 48, 12
WIDTH, HEIGHT = 192, 128
_PALE = (250, 236, 150)
_SMOOTH = 4  # drawn this many times larger and scaled down: soft edges


def draw_frames(count: int = FRAMES) -> list[Image.Image]:
    """``count`` RGB pictures of 192 x 128 pixels; the last leads back to the first, so the clip loops."""
    return [_draw(2 * math.pi * number / count) for number in range(count)]


def main(path: Path = DEFAULT_PATH) -> None:
    """Write the clip to ``path`` and say what it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = write_mp4(draw_frames(), path, FPS)
    print(f"{path}: {FRAMES} frames of {width}x{height} at {FPS} fps, {path.stat().st_size} bytes")


def _draw(turn: float) -> Image.Image:
    """The picture at an angle of the loop, in radians."""
    picture = _gradient(turn).resize((WIDTH * _SMOOTH, HEIGHT * _SMOOTH), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture)
    across, down = picture.size
    draw.rectangle((0, 0.86 * down, across, down), fill=(38, 70, 83))
    # A ball that bounces twice in a loop.
    x, y, r = across * (0.19 - 0.04 * math.cos(turn)), down * (0.6 - 0.16 * abs(math.sin(turn))), down * 0.22
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(251, 133, 100))
    # A square that sways.
    _polygon(draw, (across * 0.51, down * 0.44), down * 0.36, 4, 0.35 * math.sin(turn), (18, 60, 74))
    # A triangle that comes down and goes up.
    _polygon(
        draw, (across * 0.82, down * (0.48 + 0.08 * math.sin(turn))), down * 0.34, 3, 0.5 - 0.2 * math.sin(turn), _PALE
    )
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _gradient(turn: float) -> Image.Image:
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    wave = 24 * math.sin(turn)
    sky = np.stack([60 + 90 * columns / WIDTH + wave, 110 + 70 * rows / HEIGHT, 190 - 60 * rows / HEIGHT - wave], -1)
    return Image.fromarray(sky.clip(0, 255).astype(np.uint8))


def _polygon(
    draw: ImageDraw.ImageDraw,
    centre: tuple[float, float],
    radius: float,
    corners: int,
    turn: float,
    fill: tuple[int, int, int],
) -> None:
    angles = [turn + 2 * math.pi * corner / corners for corner in range(corners)]
    draw.polygon([(centre[0] + radius * math.cos(a), centre[1] + radius * math.sin(a)) for a in angles], fill=fill)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
