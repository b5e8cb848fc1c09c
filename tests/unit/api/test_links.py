from __future__ import annotations

import pytest

from airflow_provider_modelslab.api.links import is_http_link


@pytest.mark.parametrize(
    "link", ["http://host/a.mp4", "https://host/a.mp4?X-Amz-Signature=abc", "HTTPS://HOST", "http://"]
)
def test_links(link: str) -> None:
    assert is_http_link(link)


@pytest.mark.parametrize(
    "other",
    ["", "s3://bucket/key.mp4", "/clips/a.mp4", "file:///a.mp4", "ftp://host/a", "http", "https:/a", " http://a"],
)
def test_everything_else(other: str) -> None:
    assert not is_http_link(other)
