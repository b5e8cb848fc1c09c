"""Ten little scenes for screenshots: large flat shapes, which the demo model makes the most of. Each is a loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from PIL import Image, ImageDraw

__all__ = ["SCENES", "draw_loop"]

WIDTH, HEIGHT = 384, 216
_SMOOTH = 2  # drawn this many times larger and scaled down: soft edges

Point = tuple[float, float]


def draw_loop(name: str, count: int) -> list[Image.Image]:
    """``count`` RGB pictures of 384 x 216 pixels of a scene of :data:`SCENES`; the last leads back to the first."""
    return [SCENES[name](2 * math.pi * number / count).picture() for number in range(count)]


class _Canvas:
    """A picture that is 16 wide and 9 high, whatever its pixels; y goes down. It begins as a sky of two colours."""

    def __init__(self, top: str, bottom: str) -> None:
        size = (WIDTH * _SMOOTH, HEIGHT * _SMOOTH)
        sky = Image.linear_gradient("L").resize(size)
        self._image = Image.composite(Image.new("RGB", size, bottom), Image.new("RGB", size, top), sky)
        self._draw = ImageDraw.Draw(self._image)
        self._unit = size[0] / 16

    def area(self, colour: str, *points: Point) -> None:
        self._draw.polygon([(x * self._unit, y * self._unit) for x, y in points], fill=colour)

    def box(self, colour: str, x: float, y: float, width: float, height: float) -> None:
        self.area(colour, (x, y), (x + width, y), (x + width, y + height), (x, y + height))

    def ball(self, colour: str, x: float, y: float, radius: float, flat: float = 1.0) -> None:
        corners = (x - radius, y - radius * flat, x + radius, y + radius * flat)
        self._draw.ellipse([value * self._unit for value in corners], fill=colour)

    def hills(self, colour: str, level: float, swell: float, length: float, shift: float) -> None:
        xs = [number / 8 for number in range(129)]
        self.area(
            colour, *((x, level - swell * math.sin(2 * math.pi * x / length + shift)) for x in xs), (16, 9), (0, 9)
        )

    def picture(self) -> Image.Image:
        return self._image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _turned(points: Iterable[Point], centre: Point, angle: float) -> list[Point]:
    cos, sin = math.cos(angle), math.sin(angle)
    return [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in points]


def _harbour(turn: float) -> _Canvas:
    canvas = _Canvas("#ffd9a0", "#f79d65")
    canvas.ball("#fff3c4", 12.4, 2.6, 1.5)
    place, lean = (7 + 0.6 * math.sin(turn), 6.2), 0.1 * math.sin(turn)
    canvas.area("#fdf6e3", *_turned([(0.2, -5.2), (0.2, -0.6), (3.4, -0.6)], place, lean))
    canvas.area("#e4572e", *_turned([(-0.2, -4.6), (-0.2, -0.6), (-2.6, -0.6)], place, lean))
    canvas.area("#3d1f1f", *_turned([(-3.4, -0.3), (3.8, -0.3), (2.6, 1.4), (-2.4, 1.4)], place, lean))
    canvas.hills("#2a6f97", 7.1, 0.25, 5.3, turn)
    canvas.hills("#013a63", 8.0, 0.25, 4, -turn)
    return canvas


def _lighthouse(turn: float) -> _Canvas:
    canvas = _Canvas("#233a78", "#6d5fa6")
    lamp, aim = (10.8, 2.2), 0.5 * math.sin(turn)
    canvas.area("#ffe08a", lamp, *_turned([(-14, -2), (-14, 2)], lamp, -aim))
    canvas.area("#f5f1e8", (9.9, 2.9), (11.7, 2.9), (12.4, 8), (9.2, 8))
    canvas.area("#d62839", (9.72, 4.2), (11.88, 4.2), (12.08, 5.7), (9.52, 5.7))
    canvas.area("#d62839", (9.6, 1.6), (12, 1.6), (10.8, 0.3))
    canvas.box("#fff1b8", 10.1, 1.6, 1.4, 1)
    canvas.box("#141b33", 9.5, 2.5, 2.6, 0.5)
    canvas.hills("#10182f", 7.6, 0.7, 18, 2.4)
    return canvas


def _balloon(turn: float) -> _Canvas:
    canvas = _Canvas("#4f9ddb", "#bfe3f5")
    canvas.hills("#4d908e", 7.6, 0.7, 9, 0)
    canvas.hills("#1f4e4a", 8.3, 0.4, 7, 2)
    x, y = 8 + 1.6 * math.sin(turn), 3.6 + 0.6 * math.cos(turn)
    canvas.area("#7a3e12", (x - 0.8, y + 3.3), (x + 0.8, y + 3.3), (x + 0.6, y + 4.4), (x - 0.6, y + 4.4))
    canvas.area("#c9184a", (x - 2.3, y + 1.2), (x + 2.3, y + 1.2), (x + 0.7, y + 3.1), (x - 0.7, y + 3.1))
    canvas.ball("#c9184a", x, y, 2.8)
    canvas.ball("#ffca3a", x, y, 1.7, 1.65)
    canvas.ball("#c9184a", x, y, 0.7, 4)
    return canvas


def _summit(turn: float) -> _Canvas:
    canvas = _Canvas("#f6bd60", "#f7ede2")
    canvas.ball("#f25c54", 8 - 5.5 * math.cos(turn / 2), 5.6 - 3.6 * math.sin(turn / 2), 1.4)
    canvas.area("#8d99ae", (7, 9), (12, 2.8), (17.5, 9))
    canvas.area("#ffffff", (12, 2.8), (13.35, 4.3), (12.5, 4.9), (11.8, 4.4), (10.8, 4.3))
    canvas.area("#2b2d42", (-2, 9), (4.6, 1.4), (11.2, 9))
    canvas.area("#ffffff", (4.6, 1.4), (6.35, 3.4), (5.2, 3.2), (4.5, 4.2), (3.8, 3.2), (2.85, 3.4))
    return canvas


def _windmill(turn: float) -> _Canvas:
    canvas = _Canvas("#90e0ef", "#edf6f9")
    canvas.hills("#70a13b", 7.6, 0.5, 15, 1)
    canvas.area("#6b2d1a", (6.6, 8.4), (7.2, 3.6), (8.8, 3.6), (9.4, 8.4))
    canvas.area("#2d1810", (7, 3.7), (9, 3.7), (8, 2.4))
    vane = [(0.0, -0.15), (3.6, -0.15), (3.6, 0.85), (0.8, 0.85)]
    for arm in range(4):
        canvas.area("#e76f51", *_turned(vane, (8, 3.6), turn / 4 + arm * math.pi / 2))
    canvas.ball("#2d1810", 8, 3.6, 0.45)
    return canvas


def _reef(turn: float) -> _Canvas:
    canvas = _Canvas("#0a7fa8", "#04304f")
    canvas.hills("#e9c46a", 8.2, 0.3, 6, 0)
    for at, y, size, body, stripe in ((9.5, 3.4, 2.3, "#ff8c42", "#fff1d0"), (4.2, 6, 1.3, "#ffe066", "#f4f4f4")):
        x, wag = at - 0.9 * math.sin(turn + y), 0.35 * math.sin(2 * turn + y)
        tail = x + 1.7 * size
        canvas.area(body, (x + 0.7 * size, y), (tail, y - 0.7 * size + wag), (tail, y + 0.7 * size + wag))
        canvas.ball(body, x, y, 1.2 * size, 0.62)
        canvas.ball(stripe, x + 0.1 * size, y, 0.2 * size, 3)
        canvas.ball("#101010", x - 0.75 * size, y - 0.15 * size, 0.17 * size)
    return canvas


def _skyline(turn: float) -> _Canvas:
    canvas = _Canvas("#3c1a5b", "#ff7b54")
    canvas.ball("#ffe9b0", 5 + 1.5 * math.sin(turn), 3.4 + 0.5 * math.cos(turn), 2)
    for x, width, height in ((0, 2.6, 4), (2.9, 1.8, 6), (5, 3, 3), (8.3, 2, 7), (10.6, 2.2, 4.6), (13.1, 2.9, 5.7)):
        canvas.box("#1c1230" if height > 5 else "#2a1a3f", x, 9 - height, width, height)
    windows = ((3.3, 4), (8.8, 2.8), (8.8, 5.4), (13.7, 4.2), (13.7, 6.6), (11.1, 5.4), (5.8, 6.9), (0.7, 6))
    for number, (x, y) in enumerate(windows):
        if math.sin(turn + 2.4 * number) > -0.5:
            canvas.box("#ffd166", x, y, 1, 1.1)
    return canvas


def _carousel(turn: float) -> _Canvas:
    canvas = _Canvas("#ffafcc", "#fde2e4")
    canvas.area("#3a0ca3", (7.6, 4.4), (8.4, 4.4), (10.6, 9), (9.6, 9), (8, 5.6), (6.4, 9), (5.4, 9))
    canvas.ball("#7209b7", 8, 4.4, 3.9)
    canvas.ball("#fde2e4", 8, 4.4, 3.1)
    for number, colour in enumerate(("#f72585", "#ffbe0b", "#4361ee", "#fb5607", "#06d6a0", "#8338ec")):
        ((x, y),) = _turned([(3.5, 0)], (8, 4.4), turn + number * math.pi / 3)
        canvas.ball(colour, x, y, 1.05)
    canvas.ball("#3a0ca3", 8, 4.4, 0.8)
    return canvas


def _saturn(turn: float) -> _Canvas:
    canvas = _Canvas("#120b2e", "#2b1a5a")

    def arc(radius: float, end: float) -> list[Point]:
        steps = (end * step / 40 for step in range(41))
        return _turned([(radius * math.cos(t), 0.28 * radius * math.sin(t)) for t in steps], (8, 4.5), -0.35)

    canvas.area("#f4d58d", *arc(5.6, 2 * math.pi))
    canvas.area("#1c1140", *arc(4.3, 2 * math.pi))
    canvas.ball("#e07a5f", 8, 4.5, 2.9)
    canvas.area("#f4d58d", *arc(5.6, math.pi), *reversed(arc(4.3, math.pi)))  # the half of the ring that is in front
    canvas.ball("#f1faee", 8 + 6.6 * math.cos(turn), 4.5 - 3 * math.sin(turn), 0.8)
    return canvas


def _blossom(turn: float) -> _Canvas:
    canvas = _Canvas("#80b918", "#2b6a2f")
    for number in range(6):
        ((x, y),) = _turned([(2.1, 0)], (8, 4.5), turn / 3 + number * math.pi / 3)
        canvas.ball("#ff4d8d" if number % 2 else "#ffb3d1", x, y, 1.75)
    canvas.ball("#ffd60a", 8, 4.5, 1.7 + 0.15 * math.sin(turn))
    return canvas


SCENES: dict[str, Callable[[float], _Canvas]] = {
    "harbour": _harbour,
    "lighthouse": _lighthouse,
    "balloon": _balloon,
    "summit": _summit,
    "windmill": _windmill,
    "reef": _reef,
    "skyline": _skyline,
    "carousel": _carousel,
    "saturn": _saturn,
    "blossom": _blossom,
}
"""What draws a scene at an angle of its loop, in radians, by the scene's name."""
