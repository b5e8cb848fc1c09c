"""A clip cut into segments and joined again has its length, its frames at their times, and its sound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageSequence

from airflow_provider_modelslab.api.errors import ClipUnreadableError, InvalidRequestError, LandingError
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.encode import write_gif, write_mp4
from airflow_provider_modelslab.local.media.whole_clip.join import Joiner, blend, join_segments
from airflow_provider_modelslab.local.media.whole_clip.plan import plan_segments
from airflow_provider_modelslab.local.media.whole_clip.source import (
    Probe,
    probe_clip,
    read_all,
    read_at_rate,
    read_sound,
)
from airflow_provider_modelslab.local.media.whole_clip.split import split_clip
from tests.support.clips import codes_as_frame, set_display_matrix, write_frames
from tests.support.moving import moving_frames
from tests.support.sounding import BEEP, beep_time, frame_times, grey_frames, greys, spoil_sound, write_sounding

SIZE = (64, 48)
STEADY = [number / 25 for number in range(30)]
VARIABLE = [*(number / 50 for number in range(20)), *(0.4 + number / 4 for number in range(6))]


def rejoined(path: Path, folder: Path, fps: int, *, frames: int = 9, overlap: int = 2) -> Path:
    """The clip, cut, joined as it is, and with its sound."""
    probe = probe_clip(path)
    plan = plan_segments(probe.frames(fps), fps, frames, overlap)
    files = split_clip(path, probe, plan, folder)
    sound = None
    if probe.has_sound:
        sound = folder / "sound.mp4"
        sound.write_bytes(read_sound(path, probe, seconds=Fraction(plan.total, fps)).data)
    join_segments(plan, files, folder / "joined.mp4", sound=sound)
    return folder / "joined.mp4"


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
@pytest.mark.parametrize(("times", "fps"), [(STEADY, 25), (STEADY, 12), (VARIABLE, 30)])
def test_length_frames_and_sound_are_the_sources(tmp_path: Path, suffix: str, times: Sequence[float], fps: int) -> None:
    source = tmp_path / f"in.{suffix}"
    write_sounding(source, grey_frames(len(times)), times)
    length = 2 * times[-1] - times[-2]
    result = rejoined(source, tmp_path, fps)
    shown = frame_times(result)
    assert len(shown) == round(length * fps)
    assert shown == pytest.approx([number / fps for number in range(len(shown))], abs=1e-3)
    beep = beep_time(result)
    assert beep is not None
    assert abs(beep - BEEP) < 0.04
    # Each frame is the one that is shown at that time, or begins within half of a frame.
    expected = [16 + 5 * max(i for i, at in enumerate(times) if at <= (n + 0.5) / fps) for n in range(len(shown))]
    assert greys(result) == pytest.approx(expected, abs=3)


@pytest.mark.parametrize("codec", ["alac", "libmp3lame", "libopus", "pcm_s16le"])
def test_sound_is_copied_where_mp4_takes_it_and_encoded_else(tmp_path: Path, codec: str) -> None:
    source = tmp_path / ("in.mov" if codec == "pcm_s16le" else "in.mp4")
    write_sounding(source, grey_frames(30), STEADY, codec=codec)
    sound = read_sound(source, probe_clip(source), seconds=Fraction(6, 5))
    names = {"alac": "alac", "libmp3lame": "mp3", "libopus": "opus", "pcm_s16le": "aac"}
    assert (sound.codec, sound.copied) == (names[codec], codec != "pcm_s16le")
    beep = beep_time(rejoined(source, tmp_path, 25))
    assert beep is not None
    assert abs(beep - BEEP) < 0.04


@pytest.mark.parametrize(("codec", "delay"), [("aac", 0.25), ("pcm_s16le", 0.25), ("aac", -0.3)])
def test_a_delay_of_the_sound_or_of_the_video_is_kept(tmp_path: Path, codec: str, delay: float) -> None:
    source = tmp_path / "in.mov"
    times = [time + max(0.0, -delay) for time in STEADY]
    write_sounding(source, grey_frames(30), times, codec=codec, sound_from=max(0.0, delay))
    result = rejoined(source, tmp_path, 25)
    beep = beep_time(result)
    assert beep is not None
    assert abs(beep - BEEP) < 0.04
    assert len(frame_times(result)) == round((1.2 + max(0.0, -delay)) * 25)


def test_sound_that_is_longer_is_cut_to_the_length_of_the_frames(tmp_path: Path) -> None:
    write_sounding(tmp_path / "in.mp4", grey_frames(30), STEADY, seconds=5)
    sound = tmp_path / "sound.mp4"
    sound.write_bytes(read_sound(tmp_path / "in.mp4", probe_clip(tmp_path / "in.mp4"), seconds=Fraction(6, 5)).data)
    with av.open(str(sound)) as container:
        last = max((frame.time or 0.0) + frame.samples / frame.sample_rate for frame in container.decode(audio=0))
    assert 1.2 <= last < 1.24


def test_a_rotated_clip_is_upright(tmp_path: Path) -> None:
    source = tmp_path / "in.mov"
    write_sounding(source, grey_frames(30), STEADY)
    set_display_matrix(source, 0, 1, -1, 0)
    probe = probe_clip(source)
    (file, *_) = split_clip(source, probe, plan_segments(30, 25, 9, 2), tmp_path)
    sizes = []
    assert read_all(file, lambda _, picture: sizes.append(picture.size), max_frames=100) == 9
    assert set(sizes) == {(48, 64)}
    result = rejoined(source, tmp_path, 25)
    beep = beep_time(result)
    assert beep is not None
    assert abs(beep - BEEP) < 0.04
    assert frame_times(result) == pytest.approx(STEADY, abs=1e-3)


FORMS = [*((a, 0, 0, d) for a in (1, -1) for d in (1, -1)), *((0, b, c, 0) for b in (1, -1) for c in (1, -1))]
UPRIGHT = (0, 1, -1, 0)
SLOW_HDR = {"form": "yuv420p10le", "codec": "libx265"}


@pytest.mark.parametrize(
    ("matrix", "options"),
    [
        *(pytest.param(matrix, {}, id=f"matrix {matrix}") for matrix in FORMS),
        pytest.param(UPRIGHT, {"aspect": Fraction(64, 45)}, id="no square pixels"),
        pytest.param(UPRIGHT, {"side": 320}, id="untagged HD"),
        pytest.param(UPRIGHT, {"tags": (6, 6, 6)}, id="BT.601"),
        pytest.param(UPRIGHT, {**SLOW_HDR, "tags": (9, 16, 9)}, id="PQ", marks=pytest.mark.slow),
        pytest.param(UPRIGHT, {**SLOW_HDR, "tags": (9, 18, 9)}, id="HLG", marks=pytest.mark.slow),
    ],
)
def test_a_whole_clip_is_shown_as_a_sample_of_it(
    tmp_path: Path, matrix: tuple[int, int, int, int], options: dict[str, Any]
) -> None:
    """What phones and cameras write is tested with samples, in ``test_real_clips``; whole clips are read the same."""
    path, options = tmp_path / "IMG_0001.mov", dict(options)
    codes = [[0.8, 0.2, 0.2], [0.2, 0.7, 0.3], [0.2, 0.3, 0.8]]
    form, side = options.pop("form", "yuv420p"), options.pop("side", None)
    write_frames(path, [codes_as_frame(codes, 0.2126, 0.0722, form=form, side=side)] * 4, **options)
    set_display_matrix(path, *matrix)
    probe = probe_clip(path)
    seen: list[Image.Image] = []
    read_at_rate(path, probe, 25, size=None, on_begin=seen.clear, on_frame=lambda _, picture: seen.append(picture))
    sample = np.asarray(read_frames(path, 1)[0][0], int)
    assert len(seen) == probe.frames(25) == 4
    assert max(np.abs(np.asarray(picture, int) - sample).max() for picture in seen) <= 2


def test_a_gif_is_cut_by_its_delays(tmp_path: Path) -> None:
    write_gif(grey_frames(10, step=20), tmp_path / "in.gif", 10)
    probe = probe_clip(tmp_path / "in.gif")
    assert (float(probe.seconds), probe.result_fps(None), probe.has_sound) == (1, 10, False)
    result = rejoined(tmp_path / "in.gif", tmp_path, 20)
    assert greys(result) == pytest.approx([16 + 20 * (n // 2) for n in range(20)], abs=3)


def test_segments_lose_hardly_anything(tmp_path: Path) -> None:
    frames = moving_frames(9, 128, 96)
    write_mp4(frames, tmp_path / "in.mp4", 25)
    source: list[Image.Image] = []
    read_all(tmp_path / "in.mp4", lambda _, picture: source.append(picture), max_frames=100)
    (file,) = split_clip(tmp_path / "in.mp4", probe_clip(tmp_path / "in.mp4"), plan_segments(9, 25, 9, 2), tmp_path)
    read: list[Image.Image] = []
    read_all(file, lambda _, picture: read.append(picture), max_frames=100)
    error = np.mean([(np.asarray(a, float) - np.asarray(b, float)) ** 2 for a, b in zip(source, read, strict=True)])
    assert 10 * np.log10(255**2 / error) > 42


# -- joining ----------------------------------------------------------------------------------------------------------


def test_a_fade_is_linear_in_light_and_counts_every_frame_once() -> None:
    plan = plan_segments(12, 10, 8, 4)
    joined: list[float] = []
    joiner = Joiner(plan, lambda picture: joined.append(float(np.asarray(picture).mean())))
    for segment, grey in zip(plan.segments, (0, 255), strict=True):
        for number in range(segment.frames):
            joiner.add(segment.index, number, Image.new("RGB", SIZE, (grey,) * 3))
    assert len(joined) == joiner.written == 12
    assert joined[:4] == [0] * 4
    assert joined[8:] == [255] * 4
    assert [round(((code / 255 + 0.055) / 1.055) ** 2.4, 1) for code in joined[4:8]] == [0.2, 0.4, 0.6, 0.8]


def test_a_picture_blended_with_itself_is_the_same() -> None:
    picture = Image.fromarray(np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 256, 3))
    assert blend(picture, picture, 0.3).tobytes() == picture.tobytes()


def results(folder: Path, *shapes: tuple[int, tuple[int, int]]) -> list[Path]:
    files = [folder / f"{number}.mp4" for number in range(len(shapes))]
    for file, (count, size) in zip(files, shapes, strict=True):
        write_mp4(grey_frames(count, size=size), file, 10)
    return files


@pytest.mark.parametrize("count", [7, 9])
def test_a_result_with_other_frames_than_asked_for_names_its_segment(tmp_path: Path, count: int) -> None:
    plan = plan_segments(12, 10, 8, 4)
    with pytest.raises(LandingError, match=rf"segment 2 of 2 .* has {count} frames, but 8"):
        join_segments(plan, results(tmp_path, (8, SIZE), (count, SIZE)), tmp_path / "out.mp4")


def test_results_of_different_sizes_are_not_joined(tmp_path: Path) -> None:
    plan = plan_segments(12, 10, 8, 4)
    with pytest.raises(LandingError, match=r"segment 2 of 2 .* 32x32"):
        join_segments(plan, results(tmp_path, (8, SIZE), (8, (32, 32))), tmp_path / "out.mp4")


def test_a_gif_is_joined_too(tmp_path: Path) -> None:
    plan = plan_segments(12, 10, 8, 4)
    assert join_segments(plan, results(tmp_path, (8, SIZE), (8, SIZE)), tmp_path / "out.gif", kind="gif") == SIZE
    assert read_all(tmp_path / "out.gif", lambda *_: None, max_frames=100) == 12


@pytest.mark.parametrize(("fps", "frames"), [(60, 10), (50, 12), (100, 6)])
def test_a_gif_takes_as_long_as_its_clip_whatever_the_frame_rate(tmp_path: Path, fps: int, frames: int) -> None:
    plan = plan_segments(12, fps, 8, 4)
    join_segments(plan, results(tmp_path, (8, SIZE), (8, SIZE)), tmp_path / "out.gif", kind="gif")
    assert read_all(tmp_path / "out.gif", lambda *_: None, max_frames=100) == frames
    with Image.open(tmp_path / "out.gif") as made:
        assert sum(frame.info["duration"] for frame in ImageSequence.Iterator(made)) / 1000 == frames / min(fps, 50)


# -- sources that cannot be read --------------------------------------------------------------------------------------


def test_a_source_without_a_frame_rate_needs_one() -> None:
    probe = Probe(Fraction(0), Fraction(1), 0.0, has_sound=False)
    with pytest.raises(InvalidRequestError) as refused:
        probe.result_fps(None)
    assert list(refused.value.fields) == ["fps"]
    assert probe.result_fps(12) == 12


def test_a_single_frame_says_no_frame_rate(tmp_path: Path) -> None:
    write_mp4(grey_frames(1), tmp_path / "in.mp4", 25)
    assert probe_clip(tmp_path / "in.mp4").fps == 0


def test_sound_that_cannot_be_decoded_is_told(tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    write_sounding(source, grey_frames(30), STEADY, codec="alac")
    spoil_sound(source)
    with pytest.raises(ClipUnreadableError, match="sound"):
        read_sound(source, probe_clip(source), seconds=Fraction(1))
