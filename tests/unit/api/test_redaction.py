from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.api.redaction import SECRET_FIELDS, hide_queries, redact, scrub, strip_query


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


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("cannot read https://h/a.mp4?X-Amz-Signature=hush&b=c. Try again", "cannot read https://h/a.mp4 Try again"),
        ("HTTPS://h/a?sig=hush and Http://h/b?sig=hush", "HTTPS://h/a and Http://h/b"),
        ("https://user:hush@h/a.mp4", "https://h/a.mp4"),
        ("https://user:hu@sh@h:8443/a?sig=hush", "https://h:8443/a"),
        ("https://hush@h", "https://h"),
        ('<a href="https://h/a?sig=hush">it</a>', '<a href="https://h/a">it</a>'),
        (r"https:\/\/user:hush@h\/a.mp4?of=a\/b\u0026sig=hush it", r"https:\/\/h\/a.mp4 it"),
        ("('https://h/a(x)?sig=hush', 'https://h/b')", "('https://h/a(x)', 'https://h/b')"),
        ("https://h?sig=hush", "https://h"),
        ("https://h/a@b.mp4 is fine? me@h too", "https://h/a@b.mp4 is fine? me@h too"),
        ("", ""),
    ],
)
def test_text_is_shown_without_what_its_links_may_open(text: str, left: str) -> None:
    assert hide_queries(text) == left


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
