from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.api.redaction import SECRET_FIELDS, redact, scrub, strip_query


def test_redact_replaces_every_occurrence_of_every_secret() -> None:
    assert redact("a hush b hush c other", ["hush", None, "", "other"]) == "a *** b *** c ***"
    assert redact("abc", ["abc"]) == "abc", "too short to be a secret"


@settings(deadline=None)
@given(st.text(), st.text(min_size=4), st.text())
def test_a_secret_never_survives(before: str, secret: str, after: str) -> None:
    left = redact(f"{before}{secret}{after}", [secret])
    assert secret not in left or secret in "***" or "*" in secret


@pytest.mark.parametrize(
    ("url", "left"),
    [
        ("https://u:p@host:8443/a/b.mp4?X-Amz-Signature=abc&d=e#frag", "https://host:8443/a/b.mp4"),
        ("https://u:p@ss@host/a", "https://host/a"),
        ("s3://bucket/key?versionId=1", "s3://bucket/key"),
        ("https://host//a//b.gif", "https://host//a//b.gif"),
        ("no url at all?", "no url at all?"),
        ("https://[broken", "https://[broken"),
        ("", ""),
    ],
)
def test_strip_query(url: str, left: str) -> None:
    assert strip_query(url) == left


def test_scrub_reaches_every_depth() -> None:
    assert scrub(
        {"a": [{"key": "hush", "url": "https://h/x?sig=1"}, ("http://h/y?sig=2", 3, None)], "prompt": "why?"}
    ) == {
        "a": [{"key": "***", "url": "https://h/x"}, ["http://h/y", 3, None]],
        "prompt": "why?",
    }


@pytest.mark.parametrize("name", sorted(SECRET_FIELDS))
def test_scrub_masks_secret_fields_of_any_type(name: str) -> None:
    assert scrub({name: "hush"}) == {name: "***"}
    assert scrub({name: ["hush"]}) == {name: "***"}
    assert scrub({name: ""}) == {name: ""}


def test_scrub_knows_links_whatever_the_case_of_their_scheme() -> None:
    assert "hush" not in scrub({"link": "HTTPS://host/a.mp4?sig=hush"})["link"]
