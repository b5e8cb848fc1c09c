from __future__ import annotations

from pathlib import Path

import pytest
from airflow.sdk import Asset

from airflow_provider_modelslab.lineage.uris import DatasetUri, asset_uri, uri_of


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("s3://clips/in/a b#1?.mp4", DatasetUri("s3://clips", "in/a b#1?.mp4")),
        ("s3://clips", DatasetUri("s3://clips", "/")),
        ("S3://clips/in/", DatasetUri("s3://clips", "in/")),
        ("https://cdn.example.com/a.mp4", DatasetUri("https://cdn.example.com", "/a.mp4")),
        (
            "https://me:pass@cdn.example.com:8443/a.mp4?X-Amz-Signature=s#f",
            DatasetUri("https://cdn.example.com:8443", "/a.mp4"),
        ),
        ("file:///data/a%20b.mp4", DatasetUri("file", "/data/a b.mp4")),
        ("/data/a.mp4", DatasetUri("file", "/data/a.mp4")),
        ("a.mp4", DatasetUri("file", str(Path("a.mp4").absolute()))),
    ],
)
def test_a_place_has_the_name_that_other_tools_give_it(text: str, place: DatasetUri) -> None:
    assert uri_of(text) == place


@pytest.mark.parametrize("text", ["", "  ", None, 7, "s3://", "https://", "https://[bad/a.mp4", "ftp://host/a.mp4"])
def test_what_is_no_place(text: object) -> None:
    assert uri_of(text) is None


@pytest.mark.parametrize("key", ["out/a.mp4", "out/a b#1?x=2&y.mp4", "out/100%.mp4", "out/été/ü.mp4", "out//a.mp4"])
def test_airflow_takes_an_asset_for_each_key(key: str) -> None:
    uri = asset_uri(f"s3://clips/{key}")
    assert uri.isascii()
    assert Asset(uri).uri == uri  # nothing of it was cut or sorted
    assert asset_uri(f"s3://clips/{key}x") != uri
