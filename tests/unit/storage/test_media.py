from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.storage.media import ContainerError, ContainerVerifier, describe_start, sniff
from tests.support.samples import framed_mp4, mp4_box, small_gif, small_mp4

FTYP = mp4_box(b"ftyp", b"isom\0\0\0\0")


def verdict(chunks: Iterable[bytes]) -> str:
    verifier = ContainerVerifier()
    try:
        for chunk in chunks:
            verifier.feed(chunk)
        return f"{verifier.finish()} {verifier.content_type}"
    except ContainerError as error:
        return str(error)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    chunks, at, turn = [], 0, 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        chunks.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return chunks


WHOLE = {
    "mp4": small_mp4(),
    "mp4, index first": small_mp4(faststart=True),
    "mp4, 64-bit size": framed_mp4(3000, large=True),
    "mp4, media up to the end": FTYP + mp4_box(b"moov") + b"\0\0\0\0mdat" + b"x" * 99,
    "mp4, one more box": framed_mp4(3000) + mp4_box(b"free"),
    "gif": small_gif(),
    "gif, padded": small_gif() + b"\0\0",
}
BROKEN = {
    "empty": (b"", "nothing (0 bytes)"),
    "short": (b"GIF89", "47 49 46 38 39"),
    "html": (b"<!DOCTYPE html><title>Not found</title>", "an HTML page"),
    "json": (b'{"status":"error"}', "JSON"),
    "xml": (b'<?xml version="1.0"?><Error/>', "an XML document"),
    "png": (b"\x89PNG\r\n\x1a\n0000", "a PNG image"),
    "webm": (b"\x1a\x45\xdf\xa3\x01\0\0\0", "WebM"),
    "impossible size": (FTYP + b"\0\0\0\x04mdat", "'mdat' has an impossible size"),
    "impossible 64-bit size": (FTYP + b"\0\0\0\x01mdat" + b"\0" * 7 + b"\x0f", "impossible size"),
    "no media": (FTYP + mp4_box(b"moov"), "'mdat'"),
    "no index": (FTYP + mp4_box(b"mdat", b"x"), "'moov'"),
    "media up to the end, no index": (FTYP + b"\0\0\0\0mdat" + b"x" * 99, "the box 'mdat'"),
    "gif with an unknown block": (b"GIF89a\1\0\1\0\0\0\0\x99", "0x99"),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_pass(name: str) -> None:
    kind = name[:3]
    assert verdict([WHOLE[name]]) == f"{kind} {'video/mp4' if kind == 'mp4' else 'image/gif'}"


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_told(name: str) -> None:
    data, says = BROKEN[name]
    assert says in verdict([data])


@pytest.mark.parametrize("name", ["mp4", "mp4, index first", "mp4, 64-bit size", "gif"])
def test_every_cut_is_noticed(name: str) -> None:
    data = WHOLE[name]
    passed = [at for at in range(len(data)) if verdict([data[:at]]).startswith(("mp4 ", "gif "))]
    assert passed == []


@given(
    data=st.sampled_from([*WHOLE.values(), *(data for data, _ in BROKEN.values()), small_mp4()[:-1], small_gif()[:-1]]),
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=8),
)
def test_chunking_does_not_matter(data: bytes, sizes: list[int]) -> None:
    assert verdict(cut(data, sizes)) == verdict([data])


@given(st.binary(max_size=200))
def test_noise_is_never_a_video(noise: bytes) -> None:
    if sniff(noise[:8]) is None:
        assert not verdict([noise]).startswith(("mp4 ", "gif "))


def test_descriptions_repeat_nothing_of_a_text() -> None:
    assert "secret" not in describe_start(b"secret=abc")
