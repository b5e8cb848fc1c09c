"""The small pages behind the links: no script, and nothing of a job or a task is taken for markup."""

from __future__ import annotations

import pytest

from airflow_provider_modelslab.plugins.media_page import HEADERS, page
from airflow_provider_modelslab.plugins.media_place import public_url
from airflow_provider_modelslab.storage.profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri

MARKUP = '<script>alert("1")</script>'


def test_everything_is_escaped() -> None:
    shown = page(MARKUP, MARKUP, {MARKUP: MARKUP, "Link": f'https://host/"{MARKUP}'}, back=f'/"{MARKUP}', refresh=None)
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 6
    assert "script-src" not in HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in HEADERS["Content-Security-Policy"]


def test_only_http_links_can_be_clicked() -> None:
    shown = page("Job", "", {"a": "https://host/a.mp4", "b": "javascript:alert(1)", "c": None}, back="/", refresh=None)
    assert '<a href="https://host/a.mp4" rel="noreferrer noopener">' in shown
    assert "<dd>javascript:alert(1)</dd>" in shown
    assert "<dt>c</dt>" not in shown


def test_a_page_looks_again_only_when_told() -> None:
    assert 'http-equiv="refresh" content="5"' in page("Job", "Waiting.", back="/", refresh=5)
    assert "http-equiv" not in page("Job", "Done.", back="/", refresh=None)


@pytest.mark.parametrize(
    ("profile", "key", "expected"),
    [
        (S3Profile("clips"), "a.mp4", None),
        (S3Profile("clips", public_url="https://cdn.example"), "a b/ü.mp4", "https://cdn.example/a%20b/%C3%BC.mp4"),
        (S3Profile("clips", "styled", public_url="https://cdn.example"), "styled/a.mp4", "https://cdn.example/styled/a.mp4"),
        # As update_s3 allows it: the URL may end with the directory that the vendor's server writes to.
        (S3Profile("clips", "styled", public_url="https://cdn.example/styled"), "styled/a.mp4", "https://cdn.example/styled/a.mp4"),
        (S3Profile("clips", public_url="https://cdn.example/generations"), "x/a.mp4", "https://cdn.example/x/a.mp4"),
        (S3Profile("others", public_url="https://cdn.example"), "a.mp4", None),
        (S3Profile(None, public_url="https://cdn.example"), "a.mp4", None),
    ],
)  # fmt: skip
def test_where_anybody_can_read_an_object(profile: S3Profile, key: str, expected: str | None) -> None:
    assert public_url(profile, S3Uri("clips", key)) == expected
