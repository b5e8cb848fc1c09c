from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.jobs.task_ledger import submission_name
from airflow_provider_modelslab.ledger.model import TaskKey
from airflow_provider_modelslab.plugins.webhook.payload import BadClaimError, Claim, owner_of, read_claim
from airflow_provider_modelslab.plugins.webhook.trigger_wakeup import run_id_of

A, B, C = "a" * 40, "b" * 40, "c" * 40


def claim(**body: Any) -> Claim:
    return read_claim(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"status": "success", "id": 134799477, "output": ["x"], "track_id": "v"}, Claim("134799477", "v")),
        ({"status": "failed", "id": "12", "message": "no"}, Claim("12")),
        ({"id": 12, "track_id": 300}, Claim("12", "300")),
        ({"request_id": "a-uuid_1.2"}, Claim("a-uuid_1.2")),
        ({"id": None, "meta": {"id": "7", "track_id": "m"}}, Claim("7", "m")),
        ({"id": 12, "status": "processing"}, Claim("12", None, says_running=True)),
        ({"id": 12, "status": ["processing"]}, Claim("12")),
        ({"id": 12, "track_id": "x" * 1001}, Claim("12")),
        ({"id": 12, "track_id": "a\x00b"}, Claim("12")),
        ({"id": 12, "track_id": {"a": 1}, "meta": "text"}, Claim("12")),
    ],
)
def test_claims(body: dict[str, Any], expected: Claim) -> None:
    assert claim(**body) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b"null",
        b"{}",
        b'{"id": true}',
        b'{"id": 1.0}',
        b'{"id": "../x"}',
        b'{"id": ".."}',
        b'{"id": "a b"}',
        b'{"id": ""}',
        b'{"id": "%s"}' % (b"9" * 129),
        b"\xff",
        b"[" * 60000,
        b'{"id": -Infinity}',
        b'{"id": %s}' % (b"9" * 5000),
        '{"id": "\u0661"}'.encode(),
        b'{"id": "\\ud800"}',
    ],
)
def test_what_is_no_claim(body: bytes) -> None:
    with pytest.raises(BadClaimError) as raised:
        read_claim(body)
    assert raised.value.__context__ is None or raised.value.__suppress_context__


@given(
    st.binary(max_size=200) | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(repr).map(str.encode)
)
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        found = read_claim(body)
    except BadClaimError:
        return
    assert found.job_id.isascii()


def test_whose_token_it_is() -> None:
    served = {"one": (A, B), "two": (C,)}
    assert [owner_of(token, served) for token in (A, B, C)] == ["one", "one", "two"]
    for wrong in ("", "a", A[:-1], A + "a", A.upper(), "\udcff", "***"):
        assert owner_of(wrong, served) is None
    assert owner_of("", {}) is None


@pytest.mark.parametrize(
    ("track_id", "run_id"),
    [
        ("dag.task/manual__2026/submission1", "manual__2026"),
        ("dag.task[3]/r/submission2", "r"),
        ("dag.task/r/clip/submission1", "r"),
        ("video_001", None),
        ("a/b", None),
        ("a/b/c", None),
        (None, None),
    ],
)
def test_the_run_in_a_track_id(track_id: str | None, run_id: str | None) -> None:
    assert run_id_of(track_id) == run_id


@pytest.mark.parametrize("clip", [None, "out/a.mp4"])
def test_the_run_in_the_name_of_a_submission(clip: str | None) -> None:
    assert run_id_of(submission_name(TaskKey("dag", "task", "manual__2026", 3), 12, clip)) == "manual__2026"
