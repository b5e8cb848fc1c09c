from __future__ import annotations

import base64
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.storage.base64_stream import VideoStream
from airflow_provider_modelslab.storage.media import ContainerError
from tests.support.samples import small_gif, small_mp4
from tests.unit.storage.test_media import cut

MP4, GIF = small_mp4(), small_gif()
FORMS = {
    "plain": MP4,
    "base64": base64.b64encode(MP4),
    "base64 in lines": base64.encodebytes(MP4),
    "base64, URL-safe, no padding": base64.urlsafe_b64encode(MP4).rstrip(b"="),
    "data URI": b"data:video/mp4;base64," + base64.b64encode(MP4),
    "data URI with a wrong type": b"\r\n data:text/plain;charset=utf-8;base64," + base64.b64encode(MP4) + b"\n",
}


def read(chunks: Iterable[bytes]) -> tuple[bytes, str]:
    stream = VideoStream()
    out = b""
    for chunk in chunks:
        data = stream.feed(chunk)
        assert stream.kind or not data
        out += data
    out += stream.finish()
    return out, stream.content_type


def outcome(chunks: Iterable[bytes]) -> tuple[bytes, str]:
    try:
        return read(chunks)
    except ContainerError:
        return b"", "refused"


@given(form=st.sampled_from(list(FORMS.values())), sizes=st.lists(st.integers(1, 900), min_size=1, max_size=8))
def test_every_form_in_any_chunks_gives_the_file(form: bytes, sizes: list[int]) -> None:
    assert read(cut(form, sizes)) == (MP4, "video/mp4")


def test_a_gif_shorter_than_the_look_ahead() -> None:
    tiny = b"GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
    assert read([base64.b64encode(tiny)]) == (tiny, "image/gif")
    assert read([tiny]) == (tiny, "image/gif")


@pytest.mark.parametrize("form", ["base64", "data URI"])
def test_every_cut_of_the_text_is_noticed(form: str) -> None:
    text = FORMS[form]
    end = len(text.rstrip(b"="))  # the padding alone may be missing: the file is whole then
    passed = [at for at in range(end) if outcome([text[:at]])[1] != "refused"]
    assert passed == []


@pytest.mark.parametrize(
    "text",
    [
        b"data:video/mp4," + MP4,
        b"data:video/mp4" + b"x" * 400,
        base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"0" * 400),
        base64.b64encode(GIF) + b"!" + base64.b64encode(GIF),
        base64.b64encode(GIF + b"0" * ((1 - len(GIF)) % 3)) + b"AAAA",
        b"<html>" + b"x" * 400,
        b"",
    ],
)
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_other_texts_are_refused(text: bytes, size: int) -> None:
    with pytest.raises(ContainerError):
        read(cut(text, [size]))
