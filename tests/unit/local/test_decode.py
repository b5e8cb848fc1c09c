from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from airflow_provider_modelslab.api.errors import ClipUnreadableError, ErrorCode
from airflow_provider_modelslab.local.media import decode
from airflow_provider_modelslab.local.media.decode import frame_order, read_frames, resize_frames, sample_indices
from airflow_provider_modelslab.local.media.encode import write_gif, write_mp4
from tests.support.moving import distance, moving_frames


def test_samples_from_the_first_frame_to_the_last() -> None:
    assert sample_indices(9, 3) == [0, 4, 8]
    assert sample_indices(5, 5) == [0, 1, 2, 3, 4]
    assert sample_indices(300, 4) == [0, 100, 199, 299]
    assert sample_indices(7, 1) == [0]


@pytest.mark.parametrize("total", [25, 26, 48, 299])
def test_samples_are_even(total: int) -> None:
    steps = np.diff(sample_indices(total, 25))
    assert steps.min() >= 1
    assert steps.max() - steps.min() <= 1


def test_a_short_clip_is_played_forwards_and_backwards() -> None:
    assert frame_order(3, 9) == [0, 1, 2, 1, 0, 1, 2, 1, 0]
    assert frame_order(2, 5) == [0, 1, 0, 1, 0]
    assert frame_order(1, 3) == [0, 0, 0]


@pytest.mark.parametrize("kind", ["mp4", "gif"])
@pytest.mark.parametrize("count", [1, 4, 12, 16])
def test_reads_the_frames_asked_for(tmp_path: Path, kind: str, count: int) -> None:
    frames = moving_frames(12, 64, 48)
    path = tmp_path / f"clip.{kind}"
    (write_gif if kind == "gif" else write_mp4)(frames, path, 10)
    decoded, fps = read_frames(path, count)
    assert fps == pytest.approx(10)
    assert {frame.mode for frame in decoded} == {"RGB"}
    assert distance([frames[index] for index in frame_order(12, count)], decoded) < 4


def test_palette_frames_become_rgb(tmp_path: Path) -> None:
    frames = [frame.convert("P", palette=Image.Palette.ADAPTIVE) for frame in moving_frames(5, 40, 30)]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:], duration=40)
    decoded, fps = read_frames(tmp_path / "p.gif", 5)
    assert fps == pytest.approx(25)
    assert distance([frame.convert("RGB") for frame in frames], decoded) < 1


def test_transparent_parts_are_white(tmp_path: Path) -> None:
    frames = []
    for x in (0, 4):
        frame = Image.new("RGBA", (8, 4), (0, 0, 0, 0))
        frame.paste((255, 0, 0, 255), (x, 0, x + 4, 4))
        frames.append(frame)
    frames[0].save(tmp_path / "t.gif", save_all=True, append_images=frames[1:], disposal=2)
    first, second = read_frames(tmp_path / "t.gif", 2)[0]
    assert (first.getpixel((1, 1)), first.getpixel((6, 1))) == ((255, 0, 0), (255, 255, 255))
    assert (second.getpixel((1, 1)), second.getpixel((6, 1))) == ((255, 255, 255), (255, 0, 0))


def test_a_gif_without_delays_plays_as_in_browsers(tmp_path: Path) -> None:
    frames = moving_frames(3, 16, 16)
    frames[0].save(tmp_path / "d.gif", save_all=True, append_images=frames[1:], duration=0)
    assert read_frames(tmp_path / "d.gif", 3)[1] == pytest.approx(10)


def test_a_clip_filmed_sideways_is_turned(tmp_path: Path) -> None:
    path = tmp_path / "phone.mp4"
    picture = Image.new("RGB", (64, 32), (0, 0, 255))
    picture.paste((255, 0, 0), (0, 0, 32, 32))
    write_mp4([picture] * 2, path, 8)
    upright = b"".join(number.to_bytes(4, "big") for number in (1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    turned = b"".join(
        number.to_bytes(4, "big", signed=True) for number in (0, 1 << 16, 0, -(1 << 16), 0, 0, 32 << 16, 0, 1 << 30)
    )  # a quarter turn clockwise, the way phones write it
    data = path.read_bytes()
    track = data.index(b"tkhd")
    place = data.index(upright, track)
    path.write_bytes(data[:place] + turned + data[place + len(turned) :])
    frame = read_frames(path, 2)[0][0]
    assert frame.size == (32, 64)
    top, bottom = frame.getpixel((16, 8)), frame.getpixel((16, 56))
    assert isinstance(top, tuple)
    assert isinstance(bottom, tuple)
    assert top[0] > 200 > 50 > top[2]  # what was left is now on top
    assert bottom[2] > 200 > 50 > bottom[0]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\x00\x00\x00\x18ftypisom" + b"\x00" * 64, "cannot be decoded as mp4"),
        (b"GIF89a" + b"\x10\x00\x10\x00" + b"\x00" * 3, "cannot be decoded as gif"),
        (b"GIF89a", "cannot be decoded as gif"),
        (b"GIF89a" + b"\xff" * 40, "65535x65535 are too large"),
        (b"<html>", "must be an mp4 or a gif"),
        (b"", "must be an mp4 or a gif"),
    ],
)
def test_damaged_clips_are_the_requests_fault(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / "clip").write_bytes(content)
    with pytest.raises(ClipUnreadableError) as caught:
        read_frames(tmp_path / "clip", 4)
    assert problem in caught.value.message
    assert (caught.value.code, caught.value.retryable) == (ErrorCode.CLIP_UNREADABLE, False)


# Early means that no frame is whole: the mp4's index is cut, or the gif's first picture.
@pytest.mark.parametrize(
    ("kind", "keep"), [*(("mp4", keep) for keep in (0.05, 0.1, 0.2, 0.45)), ("gif", 0.05), ("gif", 0.1)]
)
def test_a_clip_that_was_cut_off_early_is_refused(tmp_path: Path, kind: str, keep: float) -> None:
    with pytest.raises(ClipUnreadableError) as caught:
        read_frames(_cut_off(tmp_path, kind, keep), 5)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("keep", [0.3, 0.45, 0.9, 0.999])
def test_a_gif_without_its_end_is_shown_as_far_as_it_goes(tmp_path: Path, keep: float) -> None:
    write_gif(moving_frames(8, 64, 48), tmp_path / "whole.gif", 8)
    whole, _ = read_frames(tmp_path / "whole.gif", 8)
    frames, fps = read_frames(_cut_off(tmp_path, "gif", keep), 8)
    assert fps == pytest.approx(8, rel=0.05)
    assert distance([frames[0]], [whole[0]]) == 0


def test_an_mp4_without_its_end_is_shown_as_far_as_it_goes(tmp_path: Path) -> None:
    write_mp4(moving_frames(8, 64, 48), tmp_path / "whole.mp4", 8)
    whole, _ = read_frames(tmp_path / "whole.mp4", 8)
    frames, fps = read_frames(_cut_off(tmp_path, "mp4", 0.9), 8)  # its header promises all 8
    assert fps == pytest.approx(8)
    last = next(number for number in range(1, 8) if distance([frames[number]], [whole[number]]) > 0)
    assert distance(frames, [whole[index] for index in frame_order(last, 8)]) == 0


def _cut_off(folder: Path, kind: str, keep: float) -> Path:
    path = folder / "clip"
    (write_gif if kind == "gif" else write_mp4)(moving_frames(8, 64, 48), path, 8)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    return path


def test_sound_alone_is_no_clip(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), dtype=np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ClipUnreadableError, match="no video track"):
        read_frames(path, 2)


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_pixels_are_capped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / "clip"
    (write_gif if kind == "gif" else write_mp4)(moving_frames(8, 64, 48), path, 8)
    monkeypatch.setattr(decode, "MAX_CLIP_PIXELS", 8 * 64 * 48 - 1)
    with pytest.raises(ClipUnreadableError, match="8 frames of 64x48 are too much"):
        read_frames(path, 2)
    monkeypatch.setattr(decode, "MAX_FRAME_PIXELS", 64 * 48 - 1)
    with pytest.raises(ClipUnreadableError, match="64x48 are too large"):
        read_frames(path, 2)


def test_resizing_stretches_and_leaves_what_fits() -> None:
    frames = moving_frames(2, 64, 48)
    assert [frame.size for frame in resize_frames(frames, 30, 70)] == [(30, 70)] * 2
    assert resize_frames(frames, 64, 48)[0] is frames[0]
