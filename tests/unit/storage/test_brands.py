"""Pictures and music have an mp4's frame: their brands tell them apart, in clips before they are paid for, and results.

The brand lists are those of real files: iPhone photos, libavif, iTunes, Canon, ffmpeg, QuickTime, GoPro, Sony.
"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from airflow_provider_modelslab.api.brands import BRAND_BYTES, describe_non_video
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.media.fetch import FetchLimits, fetch_clip
from airflow_provider_modelslab.storage.base64_stream import VideoStream
from airflow_provider_modelslab.storage.inputs import prepare_input
from airflow_provider_modelslab.storage.media import ContainerError
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.files_server import FilesServer, ServedFile
from tests.support.samples import branded, mp4_box, small_gif, small_mp4

NOT_VIDEOS = {
    "HEIC": branded(b"heic", b"mif1", b"MiHB", b"MiHE", b"MiPr", b"miaf", b"heic", b"tmap"),
    "HEIC sequence": branded(b"hevc", b"msf1", b"hevc", b"iso8"),
    "HEIF": branded(b"mif1", b"heic", b"mif1"),
    "HEIF sequence": branded(b"msf1", b"hevc", b"msf1", b"iso8"),
    "AVIF": branded(b"avif", b"mif1", b"miaf", b"MA1B"),
    "AVIF sequence": branded(b"avis", b"avif", b"msf1", b"iso8", b"mif1", b"miaf"),
    "M4A": branded(b"M4A ", b"M4A ", b"mp42", b"isom"),
    "M4B": branded(b"M4B ", b"M4A ", b"mp42", b"isom"),
    "F4A": branded(b"F4A ", b"isom", b"mp42"),
    "CR3": branded(b"crx ", b"crx ", b"isom"),
    "JPEG XL": branded(b"jxl ", b"jxl "),
    "64-bit ftyp": branded(b"heic", b"mif1", large=True),
    "no compatible brand": branded(b"avif"),
    "unknown major brand among pictures": branded(b"xyz1", b"mif1", b"heic"),
}
VIDEOS = {
    "ffmpeg": branded(b"isom", b"isom", b"iso2", b"avc1", b"mp41"),
    "mp42": branded(b"mp42", b"isom", b"mp42"),
    "QuickTime": branded(b"qt  ", b"qt  "),
    "iTunes video": branded(b"M4V ", b"M4V ", b"M4A ", b"mp42", b"isom"),
    "3GPP": branded(b"3gp5", b"3gp5", b"isom"),
    "DASH": branded(b"dash", b"iso6", b"mp41"),
    "Sony": branded(b"XAVC", b"XAVC", b"mp42", b"iso2"),
    "unknown major brand": branded(b"xyz1", b"xyz1"),
    "unknown major brand and a video's": branded(b"xyz1", b"mif1", b"isom"),
    "video with a picture's brand": branded(b"isom", b"mif1", b"heic"),
    "64-bit ftyp": branded(b"isom", b"mif1", large=True),
    "many brands": branded(b"xyz1", *[b"mif1"] * 100, b"isom"),
    "more brands than are read": branded(b"isom", *[b"mif1"] * 3000),
    "no brand": mp4_box(b"ftyp") + mp4_box(b"moov") + mp4_box(b"mdat", b"x"),
}


@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_a_picture_or_music_is_refused_before_it_is_paid_for(name: str, tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(NOT_VIDEOS[name])
    with pytest.raises(InvalidRequestError) as caught:
        prepare_input(str(path), lambda: pytest.fail("nothing is uploaded"), staging=S3Uri("clips"))
    assert list(caught.value.fields) == ["init_video"]
    with pytest.raises(InvalidRequestError) as caught:
        fetch_clip(str(path), tmp_path, limits=FetchLimits())
    assert list(caught.value.fields) == ["init_video"]


@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_is_accepted(name: str) -> None:
    assert describe_non_video(VIDEOS[name][:BRAND_BYTES]) is None


@pytest.mark.parametrize(
    ("name", "told"), [("HEIC", "HEIC"), ("AVIF", "AVIF"), ("M4A", "audio"), ("CR3", "CR3"), ("JPEG XL", "JPEG XL")]
)
def test_the_message_names_what_it_is(name: str, told: str) -> None:
    assert told in str(describe_non_video(NOT_VIDEOS[name]))


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("form", ["plain", "base64"])
@pytest.mark.parametrize("name", NOT_VIDEOS)
def test_a_picture_or_music_is_no_result(name: str, form: str, size: int) -> None:
    data = NOT_VIDEOS[name] if form == "plain" else base64.b64encode(NOT_VIDEOS[name])
    with pytest.raises(ContainerError):
        _read(data, size)


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", VIDEOS)
def test_a_video_is_a_result(name: str, size: int) -> None:
    assert _read(VIDEOS[name], size) == "mp4"


def _read(data: bytes, size: int) -> str | None:
    stream = VideoStream()
    for at in range(0, len(data), size):
        stream.feed(data[at : at + size])
    stream.finish()
    return stream.kind


def test_brands_that_have_not_come_yet_are_waited_for() -> None:
    start = VIDEOS["many brands"]
    assert {describe_non_video(start[:length]) for length in range(500)} == {None}
    assert describe_non_video(small_mp4()) is describe_non_video(small_gif()) is describe_non_video(b"") is None


def test_a_download_is_judged_by_all_its_brands(files: FilesServer, tmp_path: Path) -> None:
    limits = FetchLimits(allow_private_addresses=True)
    for name in ("many brands", "more brands than are read"):
        assert fetch_clip(files.add("/a.mp4", ServedFile(VIDEOS[name])), tmp_path, limits=limits).exists()
    with pytest.raises(InvalidRequestError):
        fetch_clip(files.add("/b.mp4", ServedFile(NOT_VIDEOS["HEIC"])), tmp_path, limits=limits)
