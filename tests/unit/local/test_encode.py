from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.encode import MAX_GIF_FPS, even_size, write_gif, write_mp4
from tests.support.moving import distance, moving_frames


def test_mp4_keeps_frames_size_and_speed(tmp_path: Path) -> None:
    frames = moving_frames(9, 64, 48)
    assert write_mp4(frames, tmp_path / "a.mp4", 7) == (64, 48)
    decoded, fps = read_frames(tmp_path / "a.mp4", 9)
    assert fps == 7
    assert [frame.size for frame in decoded] == [(64, 48)] * 9
    assert distance(frames, decoded) < 3


def test_mp4_is_what_browsers_play(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_mp4(moving_frames(3, 64, 48), path, 8)
    data = path.read_bytes()
    assert data.find(b"moov") < data.find(b"mdat")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
        assert (stream.codec_context.colorspace, stream.codec_context.color_range) == (6, 1)  # BT.601, as converted


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)])
def test_mp4_keeps_colours(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    write_mp4([Image.new("RGB", (32, 32), colour)] * 2, tmp_path / "a.mp4", 8)
    pixel = read_frames(tmp_path / "a.mp4", 2)[0][1].getpixel((16, 16))
    assert isinstance(pixel, tuple)
    assert all(abs(got - wanted) <= 3 for got, wanted in zip(pixel, colour, strict=True))


@pytest.mark.parametrize(
    ("size", "encoded"),
    [((33, 47), (32, 46)), ((8, 9), (8, 8)), ((1, 1), (2, 2)), ((1, 9), (2, 8)), ((520, 72), (520, 72))],
)
def test_mp4_reports_its_even_size(tmp_path: Path, size: tuple[int, int], encoded: tuple[int, int]) -> None:
    frames = moving_frames(2, *size)
    assert write_mp4(frames, tmp_path / "a.mp4", 8) == even_size(*size) == encoded
    assert read_frames(tmp_path / "a.mp4", 2)[0][0].size == encoded


def test_mp4_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    frames = moving_frames(8, 64, 64)
    files = set()
    for number in range(20):
        write_mp4(frames, tmp_path / f"{number}.mp4", 8)
        files.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize("size", [(64, 48), (33, 47), (1, 1)])
def test_gif_keeps_frames_and_size(tmp_path: Path, size: tuple[int, int]) -> None:
    frames = moving_frames(9, *size)
    write_gif(frames, tmp_path / "a.gif", 8)
    decoded, _ = read_frames(tmp_path / "a.gif", 9)
    assert [frame.size for frame in decoded] == [size] * 9
    assert distance(frames, decoded) < 4


def test_gif_of_few_colours_is_exact(tmp_path: Path) -> None:
    colours = [(255, 0, 0), (12, 200, 33), (1, 2, 3), (254, 255, 253)]
    frames = [Image.new("RGB", (10, 6), colour) for colour in colours]
    write_gif(frames, tmp_path / "a.gif", 8)
    assert distance(frames, read_frames(tmp_path / "a.gif", 4)[0]) == 0


@pytest.mark.slow
def test_gif_of_many_colours_beats_a_palette_for_each_frame(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    coarse = [Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8)) for _ in range(6)]
    frames = [frame.resize((128, 96), Image.Resampling.BICUBIC) for frame in coarse]
    write_gif(frames, tmp_path / "a.gif", 8)
    median_cut = [frame.quantize(256, dither=Image.Dither.NONE).convert("RGB") for frame in frames]
    assert distance(frames, read_frames(tmp_path / "a.gif", 6)[0]) < distance(frames, median_cut)


def test_gif_has_every_frame_even_when_they_are_equal(tmp_path: Path) -> None:
    write_gif([Image.new("RGB", (8, 8), "red")] * 5, tmp_path / "a.gif", 8)
    with Image.open(tmp_path / "a.gif") as gif:
        assert getattr(gif, "n_frames", 1) == 5
        assert gif.info["loop"] == 0  # for ever


@pytest.mark.parametrize(
    ("fps", "expected"), [(1, 1), (7, 7), (8, 8), (30, 30), (50, 50), (60, MAX_GIF_FPS), (1000, 50)]
)
def test_gif_keeps_its_time(tmp_path: Path, fps: int, expected: int) -> None:
    frames = [Image.new("RGB", (2, 2), (number, 0, 0)) for number in range(25)]
    assert write_gif(frames, tmp_path / "a.gif", fps) == expected
    assert read_frames(tmp_path / "a.gif", 25)[1] == pytest.approx(expected, rel=0.01)
