from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.client.config import (
    DEFAULT_BASE_URL,
    SubmitPolicy,
    Timeouts,
    check_verify,
    longest_submit,
    normalise_base_url,
)


@pytest.mark.parametrize(
    ("given", "whole"),
    [
        (DEFAULT_BASE_URL, DEFAULT_BASE_URL),
        ("modelslab.com", DEFAULT_BASE_URL),
        (" https://modelslab.com/ ", DEFAULT_BASE_URL),
        ("https://modelslab.com/api/v1/", DEFAULT_BASE_URL),
        ("modelslab.com/api/v1///", DEFAULT_BASE_URL),
        ("HTTPS://modelslab.com", DEFAULT_BASE_URL),
        ("localhost:8000", "https://localhost:8000/api/v1"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/api/v1"),
        ("http://[::1]:8000/x", "http://[::1]:8000/x"),
        ("http://gpu.local/prefix/api/v1", "http://gpu.local/prefix/api/v1"),
    ],
)
def test_base_urls_as_people_type_them(given: str, whole: str) -> None:
    assert normalise_base_url(given) == whole
    assert normalise_base_url(whole) == whole


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("", "must be a URL such as https://modelslab.com/api/v1"),
        ("https://", "must be a URL such as"),
        ("/api/v1", "must be a URL such as"),
        ("http:/modelslab.com", "must be a URL such as"),
        ("https://host:port/", "must be"),
        ("https://host:99999/", "must be"),
        ("https://[broken", "must be"),
        ("https://two words/", "must be a URL such as"),
        ("https:\\\\host\\api", "must be"),
        ("ftp://modelslab.com", "must begin with https:// or http://; got 'ftp://modelslab.com'"),
        ("file:///etc/passwd", "must begin with https:// or http://"),
        ("https://user:hush@modelslab.com", "must have no user or password"),
        ("user:hush@modelslab.com", "must have no user or password"),
        ("https://user:hush@[broken", "must have no user or password"),
        ("ftp://user:hush@host", "must have no user or password"),
        ("https://modelslab.com?key=hush", "must have no query and no fragment; got 'https://modelslab.com' with one"),
        ("https://modelslab.com/api/v1#hush", "must have no query and no fragment"),
        ("https://modelslab.com/?", "must have no query"),
    ],
)
def test_base_urls_that_cannot_work(given: str, problem: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        normalise_base_url(given)
    assert f"base_url: {problem}" in str(caught.value)
    assert "hush" not in str(caught.value)
    assert caught.value.__context__ is None


@settings(deadline=None)
@given(st.text())
def test_any_text_is_made_whole_or_refused_clearly(text: str) -> None:
    try:
        whole = normalise_base_url(text)
    except InvalidRequestError as error:
        assert list(error.fields) == ["base_url"]  # noqa: PT017 - either end is right
    else:
        assert whole.startswith(("https://", "http://"))
        assert not whole.endswith("/")
        assert normalise_base_url(whole) == whole


def test_timeouts() -> None:
    assert Timeouts() == Timeouts(connect=10.0, read=120.0, total=150.0)
    assert Timeouts().for_reading() == Timeouts(10, 30, 60)
    assert Timeouts(1, 5, 6).for_reading() == Timeouts(1, 5, 6)
    for wrong in ({"connect": 0}, {"read": -1}, {"read": float("nan")}, {"total": 0}, {"total": float("nan")}):
        with pytest.raises(InvalidRequestError, match=f"timeouts.{next(iter(wrong))}: must be above 0 s; got"):
            Timeouts(**wrong)
    with pytest.raises(InvalidRequestError, match=r"timeouts\.total: must be at least"):
        Timeouts(read=600)


def test_a_submit_ends_after_its_last_repeat_at_the_latest() -> None:
    assert longest_submit(SubmitPolicy(max_wait=7), Timeouts(1, 2, 3)) == 10


def test_submit_policies() -> None:
    assert SubmitPolicy() == SubmitPolicy(attempts=5, max_wait=120.0, base_wait=2.0)
    with pytest.raises(InvalidRequestError) as caught:
        SubmitPolicy(attempts=0, max_wait=-1, base_wait=0)
    assert caught.value.fields == {
        "submit_policy.attempts": ["must be 1 or more; got 0"],
        "submit_policy.max_wait": ["must be 0 s or more; got -1"],
        "submit_policy.base_wait": ["must be above 0 s; got 0"],
    }


def test_verify(tmp_path: Path) -> None:
    assert check_verify(True) is True
    assert check_verify(False) is False
    assert check_verify(str(tmp_path)) == str(tmp_path)
    with pytest.raises(InvalidRequestError, match=r"verify: must be true, false or the path of a CA file; got '/no'"):
        check_verify("/no")
