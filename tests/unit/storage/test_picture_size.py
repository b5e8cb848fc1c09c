"""The size of a clip's picture, out of the headers of real files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.storage.picture_size import picture_size
from tests.support.clips import set_display_matrix, write_frames
from tests.support.samples import framed_mp4, mp4_box, small_gif, small_mp4
from tests.support.sounding import grey_frames, write_sounding

START = 4096


class Reader:
    """Reads a file as a store does; counts."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: list[int] = []

    def __call__(self, at: int, size: int) -> bytes:
        self.reads.append(at)
        return self.data[at : at + size]

    def size(self) -> tuple[int, int] | None:
        return picture_size(self.data[:START], self)


def coded(path: Path, width: int = 96, height: int = 64, **options: Any) -> bytes:
    write_frames(path, [av.VideoFrame(width, height, "yuv420p") for _ in range(3)], **options)
    return path.read_bytes()


@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_a_clip(tmp_path: Path, suffix: str) -> None:
    assert Reader(coded(tmp_path / f"a.{suffix}")).size() == (96, 64)


def test_a_gif() -> None:
    reader = Reader(small_gif())
    assert reader.size() == (32, 32)
    assert reader.reads == []


def test_an_index_at_the_beginning_needs_no_more_reads() -> None:
    reader = Reader(small_mp4(faststart=True))
    assert reader.size() == (64, 64)
    assert reader.reads == []


@pytest.mark.parametrize("large", [False, True])
def test_an_index_behind_much_media_needs_two(large: bool) -> None:
    whole = small_mp4()
    moov = whole[whole.index(b"moov") - 4 :]
    head = mp4_box(b"ftyp", b"isom\0\0\0\0isom")
    reader = Reader(head + mp4_box(b"mdat", b"\0" * 1_000_000, large=large) + moov)
    assert reader.size() == (64, 64)
    assert len(reader.reads) <= 2


def test_a_clip_whose_sound_comes_first(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_sounding(path, grey_frames(4), [0, 0.1, 0.2, 0.3])
    data = path.read_bytes()
    tracks = [data[at : at + struct.unpack(">I", data[at : at + 4])[0]] for at in _boxes(data, b"trak")]
    assert len(tracks) == 2
    swapped = data.replace(b"".join(tracks), b"".join(reversed(tracks)))
    assert swapped != data
    assert Reader(swapped).size() == (64, 48)


def _boxes(data: bytes, kind: bytes) -> list[int]:
    found, at = [], data.find(kind)
    while at >= 0:
        found.append(at - 4)
        at = data.find(kind, at + 1)
    return found


@pytest.mark.parametrize(
    ("matrix", "size"),
    [((1, 0, 0, 1), (96, 64)), ((0, 1, -1, 0), (64, 96)), ((-1, 0, 0, -1), (96, 64)), ((0, -1, 1, 0), (64, 96))],
)
def test_a_clip_of_a_phone_is_as_it_is_shown(
    tmp_path: Path, matrix: tuple[int, int, int, int], size: tuple[int, int]
) -> None:
    path = tmp_path / "a.mp4"
    coded(path)
    set_display_matrix(path, *matrix)
    assert Reader(path.read_bytes()).size() == size


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", framed_mp4(5000), mp4_box(b"ftyp", b"isom"), b"\0\0\0\x04ftypisom", b"\0" * 9000]
)
def test_what_does_not_say_it(data: bytes) -> None:
    assert Reader(data).size() is None


def test_a_store_that_reads_no_more(tmp_path: Path) -> None:
    data = coded(tmp_path / "a.mp4", times=[number / 25 for number in range(3)])
    refuses: Callable[[int, int], bytes] = lambda at, size: b""  # noqa: E731
    assert picture_size(data[:64], refuses) is None


MOVIE = small_mp4(faststart=True)


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 700), patch=st.binary(min_size=1, max_size=16))
def test_whatever_is_damaged_it_ends_soon(at: int, patch: bytes) -> None:
    reader = Reader(MOVIE[:at] + patch + MOVIE[at + len(patch) :])
    found = picture_size(reader.data[:256], reader)
    assert found is None or min(found) > 0
    assert len(reader.reads) <= 6
