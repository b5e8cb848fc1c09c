from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from tools.demo import LOCAL_RUN, write_sheet


def test_the_sheet_shows_the_clip_that_ships_above_the_result(tmp_path: Path) -> None:
    result = [Image.new("RGB", (192, 128), (255, 0, 255))] * 16
    path = write_sheet(result, dict(LOCAL_RUN), tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(int)
    made = (sheet == (255, 0, 255)).all(-1).any(1).nonzero()[0]
    assert (len(made), sheet.shape[1] > 6 * 192) == (128, True)
    above = sheet[made[0] - 136 : made[0] - 8, 64:]
    assert above.std((0, 1)).min() > 20  # the clip's coloured shapes, not paper


def test_of_another_model_the_source_is_not_at_hand(tmp_path: Path) -> None:
    result = [Image.new("RGB", (192, 128), (255, 0, 255))] * 16
    both = Image.open(write_sheet(result, dict(LOCAL_RUN), tmp_path / "both.png")).convert("RGB")
    other = LOCAL_RUN | {"model_id": "dark-sushi-mix"}
    one = Image.open(write_sheet(result, other, tmp_path / "one.png")).convert("RGB")
    assert both.height - one.height == 128 + 8
