"""What an answer to a poll means: its status decides before its text, and what tells nothing ends no wait by itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import ErrorCode, JobFailedError
from airflow_provider_modelslab.api.plain import parse_json, plain
from airflow_provider_modelslab.api.polling import Done, GiveUp, JobPoller, PollPolicy, Wait
from airflow_provider_modelslab.api.response import (
    Answer,
    Failed,
    Finished,
    Processing,
    read_answer,
    read_body,
    retry_after_seconds,
)

HTML = b"<!DOCTYPE html><title>Just a moment...</title>"


def page(http_status: int) -> Answer:
    return read_answer(http_status, HTML, polling=True)


def polled(**data: Any) -> Answer:
    return read_answer(200, json.dumps(data), polling=True)


@pytest.mark.parametrize(
    "text",
    ["Failed, Try Again", "Rate limit exceeded", "no subscription", "bad api key", "insufficient credits", "", "x"],
)
@pytest.mark.parametrize("status", ["failed", "Failed", "canceled", "cancelled"])
def test_a_status_that_says_failed_is_a_failed_job_whatever_the_text(status: str, text: str) -> None:
    answer = polled(status=status, message=text)
    assert isinstance(answer, Failed)
    assert (answer.code, answer.is_unclear) == (ErrorCode.JOB_FAILED, False)


@pytest.mark.parametrize(
    "text",
    [
        "The provider refused the request.",
        "Server is busy, please try again later",
        "CUDA out of memory",
        "Invalid request id",
        "",
        {"prompt": ["The prompt field is required."]},
    ],
)
def test_an_error_in_unknown_words_is_unclear(text: Any) -> None:
    answer = polled(status="error", message=text)
    assert isinstance(answer, Failed)
    assert answer.is_unclear


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Rate limit exceeded", ErrorCode.RATE_LIMIT),
        ("Invalid Api Key", ErrorCode.AUTHENTICATION),
        ("Request not found", ErrorCode.JOB_LOST),
        ("Service temporarily unavailable", ErrorCode.TRANSPORT),
    ],
)
def test_an_error_in_known_words_is_what_it_says(text: str, code: ErrorCode) -> None:
    answer = polled(status="error", message=text)
    assert isinstance(answer, Failed)
    assert (answer.code, answer.is_unclear) == (code, False)


def test_a_job_that_is_not_found_is_lost_with_either_status() -> None:
    for status in ("failed", "error"):
        answer = polled(status=status, message="Request not found")
        assert isinstance(answer, Failed)
        assert answer.code is ErrorCode.JOB_LOST


@pytest.mark.parametrize("status", [200, 400, 401, 403, 404, 422, 500, 503, 520])
def test_a_page_tells_nothing_about_the_job(status: int) -> None:
    answer = page(status)
    assert isinstance(answer, Failed)
    assert answer.code is ErrorCode.TRANSPORT
    poller = JobPoller("7", submitted_at=0, deadline=1e9, clock=lambda: 1e6)
    assert all(isinstance(poller.on_answer(answer), Wait) for _ in range(50))


def test_a_page_with_429_is_a_rate_limit() -> None:
    answer = page(429)
    assert isinstance(answer, Failed)
    assert answer.code is ErrorCode.RATE_LIMIT


@pytest.mark.parametrize("status", ["success", "Success", "succeeded", "completed", "complete", "finished", "done"])
@pytest.mark.parametrize(
    "result",
    [
        {"output": ["https://h/a.mp4"]},
        {"output": "https://h/a.mp4"},
        {"output": [{"url": "https://h/a.mp4"}]},
        {"output": {"url": "https://h/a.mp4"}},
        {"output_url": "https://h/a.mp4"},
        {"output": "", "url": "https://h/a.mp4"},
        {"output": [], "proxy_links": ["https://h/a.mp4"]},
        {"output": None, "future_links": ["https://h/a.mp4"]},
    ],
    ids=str,
)
def test_words_and_forms_of_a_finished_job(status: str, result: dict[str, Any]) -> None:
    assert polled(status=status, id=7, **result) == Finished("7", ("https://h/a.mp4",))


@pytest.mark.parametrize("output", [None, "", [], {}, [None], {"url": ""}, 7])
def test_done_without_a_result_is_unclear(output: object) -> None:
    answer = polled(status="success", output=output)
    assert isinstance(answer, Failed)
    assert (answer.code, answer.is_unclear) == (ErrorCode.JOB_FAILED, True)


@pytest.mark.parametrize("status", ["processing", "queued", "pending", "brewing", "ok", "", None])
def test_other_words_are_a_job_that_runs(status: str | None) -> None:
    assert isinstance(polled(status=status), Processing)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-5", None),
        ("1e300", 86400.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86400.0),
        ("Sun, 06 Nov 2094 08:49:37 +99999999999999999999", None),
        ("Sun, 99 Nov 2094 99:99:99 GMT", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(header: str, seconds: float | None) -> None:
    assert retry_after_seconds(None, header) == seconds


def test_retry_after_is_a_date_to_come() -> None:
    before = datetime.now(UTC)
    found = retry_after_seconds(None, format_datetime(before + timedelta(hours=1), usegmt=True))
    assert found is not None
    assert 3598 - (datetime.now(UTC) - before).total_seconds() <= found <= 3600


class Time:
    """Polls every ten seconds."""

    def __init__(self, deadline: float = 3600.0, **policy: Any) -> None:
        self.now = 0.0
        self.poller = JobPoller(
            "7", submitted_at=0, deadline=deadline, policy=PollPolicy(**policy), clock=lambda: self.now
        )

    def poll(self, **data: Any) -> object:
        self.now += 10
        return self.poller.on_answer(polled(**data))


UNCLEAR = {"status": "error", "message": "Server is busy"}


def test_unclear_answers_end_the_wait_after_five_minutes() -> None:
    time = Time()
    decisions = [time.poll(**UNCLEAR) for _ in range(31)]
    assert all(isinstance(decision, Wait) for decision in decisions[:-1])
    last = decisions[-1]
    assert isinstance(last, GiveUp)
    assert isinstance(last.error, JobFailedError)
    assert last.error.job_id == "7"


def test_they_begin_anew_after_an_answer_that_the_job_runs() -> None:
    time = Time()
    for _ in range(5):
        assert all(isinstance(time.poll(**UNCLEAR), Wait) for _ in range(25))
        assert isinstance(time.poll(status="processing"), Wait)
    assert isinstance(time.poll(status="success", output="https://h/a.mp4"), Done)


def test_they_end_it_at_half_of_a_short_time_and_never_before_five_polls() -> None:
    time = Time(deadline=100)
    decisions = [time.poll(**UNCLEAR) for _ in range(6)]
    assert [isinstance(decision, GiveUp) for decision in decisions] == [False] * 5 + [True]
    quick = Time(deadline=20)
    assert not isinstance(quick.poll(**UNCLEAR), GiveUp)


ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**18, max_value=10**400)
    | st.floats()
    | st.text(st.characters(), max_size=20)
    | st.sampled_from(["success", "error", "failed", "wait for \u00b3 seconds", "http://h/\ud800.mp4", "9" * 401]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
FIELDS = ("status", "id", "output", "meta", "message", "eta", "generationTime", "retry_after", "future_links", "tips")


@given(st.dictionaries(st.sampled_from(FIELDS), ODD), st.booleans(), st.sampled_from([200, 400, 401, 404, 429, 500]))
def test_whatever_an_answer_holds_is_fit_to_travel(data: dict[str, Any], polling: bool, status: int) -> None:
    for answer in (read_body(data, http_status=status, polling=polling), read_answer(status, dump(data))):
        told = [getattr(answer, name, None) for name in ("job_id", "links", "meta", "message", "eta", "fields")]
        text = json.dumps(told, allow_nan=False)
        assert text.encode()
        assert json.dumps(told, ensure_ascii=False).encode()
        assert all(-(2**63) <= number < 2**63 for number in integers(told))


def dump(data: Any) -> str:
    return json.dumps(data)


def integers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in integers(item)]
    if isinstance(value, list | tuple):
        return [number for item in value for number in integers(item)]
    return [value] if isinstance(value, int) else []


@pytest.mark.parametrize("depth", [20, 500, 950, 100_000])
@pytest.mark.parametrize(("left", "right"), [("[", "]"), ('{"a]": ["}\\"", ', "]}")])
def test_deep_nesting_costs_that_part(depth: int, left: str, right: str) -> None:
    body = '{"status": "processing", "meta": {"deep": ' + left * depth + "1" + right * depth + ', "seed": 3}, "id": 7}'
    answer = read_answer(200, body)
    assert isinstance(answer, Processing)
    assert (answer.job_id, answer.meta["seed"]) == ("7", 3)
    json.dumps(answer.meta)


def test_deep_nesting_that_is_cut_is_no_json() -> None:
    for body in ("[" * 5000, '{"id": 7, "meta": ' + "[" * 5000 + "}", "]" * 5000):
        assert parse_json(body) is None


def test_long_numbers_cost_that_part() -> None:
    body = (
        '{"status": "processing", "id": 7, "eta": '
        + "9" * 5000
        + ', "meta": {"n": 1e999, "m": NaN, "k": 18446744073709551616}}'
    )
    answer = read_answer(200, body)
    assert isinstance(answer, Processing)
    assert (answer.job_id, answer.eta) == ("7", None)
    assert answer.meta == {"n": None, "m": None, "k": "18446744073709551616"}


def test_large_parts_of_the_meta_are_left_out() -> None:
    answer = read_body({"status": "processing", "id": 7, "meta": {"big": "x" * 10_000, "seed": 3}})
    assert isinstance(answer, Processing)
    assert answer.meta == {"seed": 3}


def test_nul_is_no_text_for_postgresql() -> None:
    answer = read_answer(200, '{"status": "processing", "id": "a\\u0000b", "meta": {"\\u0000": ["\\u0000"]}}')
    assert answer == Processing("a?b", meta={"?": ["?"]})


@pytest.mark.parametrize("body", ['{"status": "error"}', '{"message": "time-out"}', "{}", "<h1>Request time-out</h1>"])
def test_a_408_tells_nothing_about_the_job(body: str) -> None:
    answer = read_answer(408, body, polling=True)
    assert isinstance(answer, Failed)
    assert answer.code is ErrorCode.TRANSPORT


def test_a_byte_order_mark_and_bad_bytes() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": "\xff"}') == {"a": "\ufffd"}
    assert parse_json(b"\xff\xfe") is None
    assert plain({"\ud800": {1: (1, 2)}}) == {"?": {"1": [1, 2]}}
