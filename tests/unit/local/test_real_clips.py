"""Clips as phones, cameras and editors write them are read as players show them."""

from __future__ import annotations

import io
import itertools
import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from airflow_provider_modelslab.local.media.decode import frame_order, read_frames
from airflow_provider_modelslab.local.media.decoder.colours import SIDE, TRANSFERS, to_bt709
from airflow_provider_modelslab.local.media.decoder.frames import frames_by_time
from tests.support.clips import codes_as_frame, set_display_matrix, shift_edit, write_frames
from tools.make_tone_maps import map_colours

BT601, BT709, BT2020 = (0.299, 0.114), (0.2126, 0.0722), (0.2627, 0.0593)
PQ, HLG, SDR = TRANSFERS
CONTAINERS = pytest.mark.parametrize("container", ["mp4", "mov"])


def shades(count: int) -> list[Any]:
    """Frames that tell their number by how light they are, see :func:`numbers`."""
    return [codes_as_frame([[4 * number / 255] * 3] * 2, *BT601, form="yuv420p") for number in range(count)]


def numbers(frames: Sequence[Image.Image]) -> list[int]:
    """Which of :func:`shades` they are."""
    return [round(float(np.asarray(frame).mean()) / 4) for frame in frames]


def patches(path: Path) -> list[tuple[int, int, int]]:
    """The colours of square patches, side by side."""
    frame = np.asarray(read_frames(path, 1)[0][0]).astype(int)
    side = frame.shape[0]
    return [tuple(frame[side // 2, x]) for x in range(side // 2, frame.shape[1], side)]


def near(found: Sequence[Sequence[float]], expected: Sequence[Sequence[float]], shade: float) -> None:
    assert np.abs(np.asarray(found, float) - np.asarray(expected, float)).max() <= shade, found


# Sampling by time.


@pytest.mark.parametrize(
    ("total", "count"), [(25, 25), (26, 25), (300, 25), (299, 16), (9, 3), (2, 1), (7, 16), (1, 4)]
)
@pytest.mark.parametrize("step", [1, 512])
def test_a_constant_frame_rate_is_sampled_by_number(total: int, count: int, step: int) -> None:
    starts = range(40, 40 + step * total, step)
    assert frames_by_time(starts, 40 + step * total, count) == frame_order(total, count)


def test_a_last_frame_that_is_held_is_shown_for_its_time() -> None:
    order = frames_by_time(range(10), 20, 10)  # nine frames in the first half
    assert order == [0, 2, 4, 6, 8, 9, 9, 9, 9, 9]


@pytest.mark.parametrize("starts", [[0, None, 2, 3], [0, 3, 2, 1], [None] * 4])
def test_frames_without_a_time_are_sampled_by_number(starts: list[int | None]) -> None:
    assert frames_by_time(starts, 4, 3) == frame_order(4, 3)


def test_frames_at_one_time_are_no_trouble() -> None:
    assert frames_by_time([5, 5, 5], 5, 3) == [2, 2, 2]


@CONTAINERS
@pytest.mark.parametrize("count", [7, 13, 25])
def test_a_variable_frame_rate_is_sampled_by_time(tmp_path: Path, container: str, count: int) -> None:
    times = [0.02 * number for number in range(50)] + [1 + 0.5 * number for number in range(10)]
    path = tmp_path / f"clip.{container}"
    write_frames(path, shades(60), times=times)
    found = numbers(read_frames(path, count)[0])
    steps = np.linspace(0, max(5.5, 6 * (count - 1) / count), count)  # 6 s, of which the last frame takes half a second
    assert found[0] == 0
    assert found[-1] == 59
    for number, instant in zip(found, steps, strict=True):
        assert abs(times[number] - instant) <= (0.02 if instant < 1 else 0.3)


@CONTAINERS
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25), Fraction(60)])
def test_a_constant_frame_rate(tmp_path: Path, container: str, rate: Fraction) -> None:
    path = tmp_path / f"clip.{container}"
    write_frames(path, shades(30), times=[float(number / rate) for number in range(30)])
    assert numbers(read_frames(path, 10)[0]) == frame_order(30, 10)
    assert numbers(read_frames(path, 30)[0]) == list(range(30))


def test_a_gif_is_sampled_by_its_delays(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), 4 * number) for number in range(30)]
    path = tmp_path / "clip.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[40] * 20 + [400] * 10, loop=0)
    assert numbers(read_frames(path, 12)[0]) == [0, 10, *range(20, 30)]  # every 0.4 s


@CONTAINERS
def test_what_an_edit_list_cuts_is_not_shown(tmp_path: Path, container: str) -> None:
    path = tmp_path / f"clip.{container}"
    write_frames(path, shades(30))
    shift_edit(path, Fraction(10, 25))
    assert numbers(read_frames(path, 20)[0]) == list(range(10, 30))


# Another shape than was asked for.


def _corners(frame: Image.Image) -> list[str]:
    """Which of red, green, blue and white the four corners are."""
    names: dict[tuple[int, ...], str] = {
        (1, 0, 0): "red",
        (0, 1, 0): "green",
        (0, 0, 1): "blue",
        (1, 1, 1): "white",
        (0, 0, 0): "black",
    }
    places = [(x, y) for y in (3, frame.height - 4) for x in (3, frame.width - 4)]
    return [names[tuple(int(value > 128) for value in np.asarray(frame)[y, x])] for x, y in places]


@pytest.mark.parametrize(
    ("keep_aspect", "size", "expected", "corners"),
    [
        ("stretch", (64, 64), (64, 64), ["red", "green", "blue", "white"]),
        ("crop", (64, 64), (64, 64), ["black"] * 4),  # the middle
        ("fit", (64, 64), (64, 24), ["red", "green", "blue", "white"]),
        ("fit", (320, 64), (160, 64), ["red", "green", "blue", "white"]),
        ("fit", (160, 64), (160, 64), ["red", "green", "blue", "white"]),
        ("fit", (8, 8), (8, 8), None),
    ],
)
def test_a_clip_of_another_aspect_ratio(
    tmp_path: Path, keep_aspect: Any, size: tuple[int, int], expected: tuple[int, int], corners: list[str] | None
) -> None:
    picture = Image.new("RGB", (160, 64), "black")
    for colour, place in {"red": (0, 0), "green": (128, 0), "blue": (0, 32), "white": (128, 32)}.items():
        picture.paste(colour if colour != "green" else "lime", (*place, place[0] + 32, place[1] + 32))
    path = tmp_path / "wide.mp4"
    frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
    write_frames(path, [frame.reformat(format="yuv420p") for _ in range(2)])
    shown = read_frames(path, 2, size=size, keep_aspect=keep_aspect)[0][0]
    assert shown.size == expected
    assert corners is None or _corners(shown) == corners


@pytest.mark.parametrize("keep_aspect", ["crop", "fit"])
def test_the_aspect_ratio_is_that_of_the_clip_as_it_is_shown(tmp_path: Path, keep_aspect: Any) -> None:
    path = tmp_path / "phone.mp4"
    write_frames(path, [av.VideoFrame(96, 32, "yuv420p") for _ in range(2)])
    set_display_matrix(path, 0, 1, -1, 0)  # filmed upright
    shown = read_frames(path, 2, size=(96, 96), keep_aspect=keep_aspect)[0][0]
    assert shown.size == ((96, 96) if keep_aspect == "crop" else (32, 96))


# Turned and mirrored.


@CONTAINERS
@pytest.mark.parametrize(
    "matrix",
    [*((a, 0, 0, d) for a in (1, -1) for d in (1, -1)), *((0, b, c, 0) for b in (1, -1) for c in (1, -1))],
)
def test_the_eight_display_forms(tmp_path: Path, container: str, matrix: tuple[int, int, int, int]) -> None:
    corners = {(-1, -1): (200, 40, 40), (1, -1): (40, 200, 40), (-1, 1): (40, 40, 200), (1, 1): (200, 200, 200)}
    picture = Image.new("RGB", (64, 32))
    for (x, y), colour in corners.items():
        picture.paste(colour, (0 if x < 0 else 32, 0 if y < 0 else 16, 32 if x < 0 else 64, 16 if y < 0 else 32))
    path = tmp_path / f"phone.{container}"
    frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
    write_frames(path, [frame.reformat(format="yuv420p") for _ in range(2)])
    set_display_matrix(path, *matrix)
    a, b, c, d = matrix
    for size in (None, (30, 50)):
        shown = read_frames(path, 2, size=size)[0][0]
        width, height = size or ((64, 32) if a else (32, 64))
        assert shown.size == (width, height)
        for (x, y), colour in corners.items():
            right, down = a * x + c * y, b * x + d * y
            pixel: Any = shown.getpixel((width // 2 + right * width // 4, height // 2 + down * height // 4))
            near([pixel], [colour], 20)


@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_motion_jpeg_with_exif_is_shown_as_its_orientation_says(tmp_path: Path, orientation: int | None) -> None:
    """FFmpeg gives such frames a kind of side data that PyAV does not know."""
    upright = Image.new("RGB", (96, 64), "grey")
    upright.paste("red", (0, 0, 48, 32))
    upright.paste("blue", (48, 0, 96, 32))
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera"
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    picture = io.BytesIO()
    upright.save(picture, "JPEG", exif=exif, quality=95)
    path = tmp_path / "clip.mov"
    with av.open(path, "w", format="mov") as container:
        stream = container.add_stream("mjpeg", rate=8, width=96, height=64, pix_fmt="yuvj420p")
        for number in range(4):
            packet = av.Packet(picture.getvalue())
            packet.stream, packet.time_base, packet.duration = stream, Fraction(1, 8), 1
            packet.pts = packet.dts = number
            container.mux(packet)

    frame = read_frames(path, 4)[0][0]
    expected = ImageOps.exif_transpose(Image.open(picture)).convert("RGB")
    assert frame.size == expected.size
    for place in itertools.product(range(8, frame.width, 16), range(8, frame.height, 16)):
        found, wanted = np.asarray(frame.getpixel(place)), np.asarray(expected.getpixel(place))
        assert np.abs(found - wanted).max() <= 6, place


@pytest.mark.parametrize("pixels", ["rgb24", "gray"])
def test_tiff_in_quicktime(tmp_path: Path, pixels: str) -> None:
    path = tmp_path / "clip.mov"
    with av.open(path, "w", format="mov") as container:
        stream = container.add_stream("tiff", rate=8, width=96, height=64, pix_fmt=pixels)
        for shade in (40, 80, 120):
            picture = np.full((64, 96, 3), shade, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    shades = [np.asarray(frame).mean() for frame in read_frames(path, 3)[0]]
    assert np.abs(np.subtract(shades, [40, 80, 120])).max() <= 2


def test_an_angle_that_is_no_quarter_turn_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "tilted.mp4"
    write_frames(path, shades(2))
    set_display_matrix(path, 1, 1, -1, 1)
    assert read_frames(path, 2)[0][0].size == (32, 16)


# Pixels that are no squares.


@CONTAINERS
@pytest.mark.parametrize(
    ("aspect", "size"),
    [(Fraction(8, 9), (28, 16)), (Fraction(64, 45), (46, 16)), (Fraction(1), (32, 16)), (Fraction(1, 200), (32, 16))],
)
def test_pixels_become_squares(tmp_path: Path, container: str, aspect: Fraction, size: tuple[int, int]) -> None:
    path = tmp_path / f"clip.{container}"
    write_frames(path, shades(2), aspect=aspect)
    assert read_frames(path, 2)[0][0].size == size
    assert read_frames(path, 2, size=(40, 24))[0][0].size == (40, 24)
    set_display_matrix(path, 0, 1, -1, 0)
    assert read_frames(path, 2)[0][0].size == size[::-1]


# Colours.

COLOURS = [(200, 40, 40), (40, 180, 60), (50, 60, 220), (128, 128, 128)]


@CONTAINERS
@pytest.mark.parametrize(
    ("side", "written", "tags"),
    [
        (16, BT601, None),
        (320, BT709, None),  # 1280 pixels wide: HD
        (16, BT709, (1, 1, 1)),
        (320, BT601, (6, 6, 6)),
    ],
    ids=["untagged SD", "untagged HD", "tagged BT.709", "tagged BT.601"],
)
def test_sdr(
    tmp_path: Path, container: str, side: int, written: tuple[float, float], tags: tuple[int, int, int] | None
) -> None:
    path = tmp_path / f"clip.{container}"
    codes = np.asarray(COLOURS) / 255
    write_frames(path, [codes_as_frame(codes, *written, form="yuv420p", side=side)], tags=tags)
    frame = read_frames(path, 1)[0][0]
    found: list[Any] = [frame.getpixel((side * number + side // 2, 8)) for number in range(len(COLOURS))]
    near(found, COLOURS, 4)


def pq(light: Any) -> Any:
    """SMPTE ST 2084: the code of light in cd/m²."""
    power = (np.asarray(light) / 10000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)


def hlg(light: Any) -> Any:
    """ARIB STD-B67: the code of light in cd/m² on a screen of 1000, with the system gamma 1.2 of BT.2100."""
    shown = np.asarray(light) / 1000
    luminance = np.maximum(shown @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
    scene = shown * luminance ** (1 / 1.2 - 1)
    low = np.sqrt(3 * scene)
    return np.where(scene <= 1 / 12, low, 0.17883277 * np.log(np.maximum(12 * scene, 0.3) - 0.28466892) + 0.55991073)


GREYS = {0: 0, 1: 24, 10: 63, 36.5: 103, 100: 143, 203: 173, 400: 205, 600: 226, 800: 241, 1000: 254}
"""Light in cd/m², and what FFmpeg's scale filter with intent=perceptual makes of it in a clip mastered at 1000."""

TO_BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Of linear BT.709, from ITU-R BT.2087."""


@CONTAINERS
@pytest.mark.parametrize(("transfer", "code"), [(PQ, pq), (HLG, hlg)], ids=["PQ", "HLG"])
def test_hdr_greys_are_those_of_the_reference(tmp_path: Path, container: str, transfer: int, code: Any) -> None:
    path = tmp_path / f"clip.{container}"
    codes = code([[light] * 3 for light in GREYS])
    write_frames(path, [codes_as_frame(codes, *BT2020, form="yuv420p10le")] * 3, codec="libx265", tags=(9, transfer, 9))
    near(patches(path), [[shade] * 3 for shade in GREYS.values()], 6)  # looked up by 8 bits


@pytest.mark.parametrize(("transfer", "code"), [(PQ, pq), (HLG, hlg)], ids=["PQ", "HLG"])
def test_hdr_keeps_the_colours_that_a_screen_can_show(tmp_path: Path, transfer: int, code: Any) -> None:
    path = tmp_path / "clip.mp4"
    light = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.2, 0.1]]) * 50
    codes = code(light @ TO_BT2020.T)
    write_frames(path, [codes_as_frame(codes, *BT2020, form="yuv420p10le")] * 3, codec="libx265", tags=(9, transfer, 9))
    found = np.asarray(patches(path))
    for number in range(3):
        others = np.delete(found[number], number)
        assert found[number, number] > 90
        assert others.max() < 0.45 * found[number, number]
    assert found[3, 0] > found[3, 1] > found[3, 2] > 0


@pytest.mark.parametrize("transfer", [1, 14, 15])
def test_sdr_in_bt2020_keeps_greys_and_gets_stronger_colours(tmp_path: Path, transfer: int) -> None:
    path = tmp_path / "clip.mp4"
    codes = [[0.5, 0.5, 0.5], [0.2, 0.2, 0.2], [0.5, 0.3, 0.3], [0.9, 0.9, 0.9]]
    write_frames(path, [codes_as_frame(codes, *BT2020, form="yuv420p10le")] * 3, codec="libx265", tags=(9, transfer, 9))
    grey, dark, red, light = patches(path)
    near([grey, dark, light], [[128] * 3, [51] * 3, [230] * 3], 3)
    assert red[0] - red[1] > 1.2 * 0.2 * 255


def test_hdr_of_a_phone_held_upright(tmp_path: Path) -> None:
    """All at once: a .mov of HEVC in HLG, its frames at odd times, turned by a quarter."""
    path = tmp_path / "IMG_0001.mov"
    frame = codes_as_frame(hlg([[203] * 3, [36.5] * 3]), *BT2020, form="yuv420p10le")
    write_frames(path, [frame] * 4, times=[0, 0.03, 0.07, 0.5], codec="libx265", tags=(9, HLG, 9))
    set_display_matrix(path, 0, 1, -1, 0)
    shown = read_frames(path, 2)[0][0]
    assert shown.size == (64, 128)
    colours: list[Any] = [shown.getpixel((32, 32)), shown.getpixel((32, 96))]
    near(colours, [[173] * 3, [103] * 3], 5)


@pytest.mark.slow  # FFmpeg prepares for seconds
@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_tables_are_ffmpegs(transfer: int) -> None:
    rng = random.Random(transfer)
    steps = [round(1023 * number / (SIDE - 1)) for number in range(SIDE)]
    on_grid = [[rng.choice(steps) for _ in range(3)] for _ in range(64 * 64)]
    given = np.asarray(on_grid, np.uint16).reshape(64, 64, 3)
    expected = map_colours(given, TRANSFERS[transfer]).astype(int)
    found = np.asarray(to_bt709(Image.fromarray(np.round(given / 1023 * 255).astype(np.uint8)), transfer)).astype(int)
    difference = np.abs(found - expected)  # 8 bits instead of 10 in what is looked up
    assert difference.mean() < 2
    assert np.percentile(difference, 99) <= 16
