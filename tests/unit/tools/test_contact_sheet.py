from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tools.contact_sheet import draw_sheet

RED, BLUE = (255, 0, 0), (0, 0, 255)


def plain(count: int, colour: tuple[int, int, int], size: tuple[int, int] = (48, 32)) -> list[Image.Image]:
    return [Image.new("RGB", size, colour) for _ in range(count)]


def rows_of(sheet: Image.Image, colour: tuple[int, int, int]) -> list[int]:
    """The rows of the sheet in which this colour is."""
    found = (np.asarray(sheet) == colour).all(-1).any(1)
    return [int(row) for row in found.nonzero()[0]]


def test_the_source_lies_above_and_the_result_below(tmp_path: Path) -> None:
    path = draw_sheet(plain(16, BLUE, (96, 64)), plain(16, RED), "a red poster", tmp_path / "new" / "sheet.png")
    sheet = Image.open(path).convert("RGB")
    above, below = rows_of(sheet, BLUE), rows_of(sheet, RED)
    assert len(above) == len(below) == 32
    assert max(above) < min(below)


def test_frames_are_spread_over_the_clip(tmp_path: Path) -> None:
    result = [Image.new("RGB", (20, 10), (number, 0, 200)) for number in range(11)]
    sheet = Image.open(draw_sheet([], result, "", tmp_path / "sheet.png", columns=3)).convert("RGB")
    row = [sheet.getpixel((x, sheet.height - 12)) for x in range(sheet.width)]
    shown = [pixel[0] for pixel in row if isinstance(pixel, tuple) and pixel[2] == 200]
    assert sorted(set(shown)) == [0, 5, 10]


def test_the_caption_is_there_and_is_broken(tmp_path: Path) -> None:
    short = Image.open(draw_sheet([], plain(1, RED), "red", tmp_path / "short.png")).convert("RGB")
    long = Image.open(draw_sheet([], plain(1, RED), "a very long caption " * 5, tmp_path / "long.png")).convert("RGB")
    assert short.width == long.width
    assert long.height > short.height + 32
    dark = sum(value < 100 for value in short.convert("L").crop((0, 0, short.width, 24)).tobytes())
    assert dark > 20


@pytest.mark.parametrize(
    ("source", "result", "columns", "problem"),
    [
        ([], [], 6, "at least one frame"),
        ([], plain(1, RED), 0, "one column"),
        (plain(2, BLUE), plain(3, RED), 6, "the source has 2 frames and the result 3"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path, source: list[Image.Image], result: list[Image.Image], columns: int, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        draw_sheet(source, result, "", tmp_path / "sheet.png", columns=columns)
    assert list(tmp_path.iterdir()) == []
