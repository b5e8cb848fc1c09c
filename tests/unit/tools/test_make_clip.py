from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_modelslab.local.media.decode import read_frames
from tests.support.moving import distance
from tools.make_clip import DEFAULT_PATH, draw_frames, main


def test_writes_the_same_clip_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(tmp_path / "new" / "a.mp4")
    main(tmp_path / "b.mp4")
    assert (tmp_path / "new" / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert "48 frames of 192x128 at 12 fps" in capsys.readouterr().out


def test_the_clip_that_ships_is_this_one() -> None:
    assert DEFAULT_PATH.stat().st_size < 100_000
    frames, fps = read_frames(DEFAULT_PATH, 48)
    assert fps == 12
    assert distance(draw_frames(), frames) < 3


def test_it_moves_and_loops() -> None:
    frames = draw_frames(48)
    steps = [distance([first], [second]) for first, second in zip(frames, [*frames[1:], frames[0]], strict=True)]
    assert min(steps) > 0.2
    assert max(steps) < 10
