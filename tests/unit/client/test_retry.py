"""How often a paid call may be sent, as pure decisions. The same against real servers: integration/test_client.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    EndpointSettingsError,
    EndpointUnreachableError,
    ModelsLabError,
    RateLimitError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.response import Finished, Processing
from airflow_provider_modelslab.client.config import HttpResponse, NoResponse, Outcome, SubmitPolicy
from airflow_provider_modelslab.client.requests import ApiRequest
from airflow_provider_modelslab.client.retry import Repeat, SubmitAttempts

KEY = "hush-hush"
CALL = ApiRequest("https://api.example/api/v1/enterprise/video/video2video", b"", (KEY,))
REFUSED = NoResponse("ConnectionRefusedError: Connection refused", sent=False)
LOST = NoResponse("ConnectionResetError: Connection reset by peer", sent=True)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def attempts(clock: Clock | None = None, draw: float = 0.0, **policy: Any) -> SubmitAttempts:
    return SubmitAttempts(
        CALL,
        SubmitPolicy(**policy),
        track_id="dag-1",
        clock=clock or Clock(),
        uniform=lambda low, high: low + draw * (high - low),
    )


def reply(body: dict[str, Any], status: int = 200, **more: Any) -> HttpResponse:
    return HttpResponse(status, json.dumps(body).encode(), **more)


def limited(seconds: float | None = None) -> HttpResponse:
    return reply({"status": "error", "message": "Rate limit exceeded", "retry_after": seconds}, 429)


def pause(step: Finished | Processing | Repeat) -> float:
    assert isinstance(step, Repeat)
    return step.seconds


def test_a_job() -> None:
    assert attempts().after(reply({"status": "processing", "id": 7})) == Processing("7")
    done = attempts().after(reply({"status": "success", "output": "https://r2.example/a.gif"}))
    assert done == Finished(None, ("https://r2.example/a.gif",))


def test_future_links_without_an_id_are_a_usable_answer() -> None:
    step = attempts().after(reply({"status": "processing", "future_links": ["https://r2.example/a.gif"]}))
    assert isinstance(step, Processing)


def test_an_id_that_holds_the_key_is_no_usable_answer_and_not_shown() -> None:
    with pytest.raises(SubmissionUnknownError) as caught:
        attempts().after(reply({"status": "processing", "id": f"job-{KEY}", "future_links": [f"https://h/{KEY}"]}))
    assert KEY not in repr(caught.value.to_event())
    done = attempts().after(reply({"status": "success", "id": KEY, "output": ["https://h/a", f"https://h/{KEY}"]}))
    assert done == Finished(None, ("https://h/a",))


def test_waits_double_and_then_it_ends() -> None:
    subject = attempts(attempts=4, base_wait=2)
    assert [pause(subject.after(REFUSED)) for _ in range(3)] == [2, 4, 8]
    with pytest.raises(TransportError, match=r"Connection refused\. Tried 4 time\(s\).*safe to submit again"):
        subject.after(REFUSED)


def test_jitter_lengthens() -> None:
    assert pause(attempts(draw=0.5, base_wait=2).after(REFUSED)) == 3


def test_the_endpoints_own_wait_goes_before_the_policys() -> None:
    assert pause(attempts().after(limited(30))) == 30
    assert pause(attempts().after(limited(0.1))) == 2
    assert pause(attempts().after(HttpResponse(429, b"", retry_after="17"))) == 17
    spam = {"status": "error", "message": "Rate limit exceeded", "tips": "please wait for 30 seconds and try again"}
    assert pause(attempts().after(reply(spam))) == 30


def test_a_wait_beyond_the_policy_is_not_begun() -> None:
    with pytest.raises(RateLimitError, match="Airflow pool") as caught:
        attempts(max_wait=120).after(limited(121))
    assert caught.value.retry_after == 121
    assert caught.value.http_status == 429
    clock = Clock()
    subject = attempts(clock, max_wait=120)
    assert pause(subject.after(limited(60))) == 60
    clock.now = 61
    with pytest.raises(RateLimitError, match=r"Tried 2 time\(s\) in 61 s"):
        subject.after(limited(60))


def test_one_attempt_is_one_attempt() -> None:
    with pytest.raises(RateLimitError):
        attempts(attempts=1).after(limited())


def test_settings_are_not_tried_again() -> None:
    with pytest.raises(TransportError, match=r"did not reach api\.example: bad\. Check the base URL, the CA file"):
        attempts().after(NoResponse("bad", sent=False, permanent=True))


def test_a_batch_can_tell_whose_trouble_it_is() -> None:
    with pytest.raises(EndpointUnreachableError, match="Connection refused"):
        attempts(attempts=1).after(REFUSED)
    with pytest.raises(EndpointSettingsError, match="Check the base URL"):
        attempts().after(NoResponse("bad", sent=False, permanent=True))
    with pytest.raises(EndpointSettingsError, match="Check the base URL"):
        attempts().after(HttpResponse(404, b"<html>no such page</html>"))
    with pytest.raises(EndpointSettingsError, match="a redirect"):
        attempts().after(HttpResponse(301, b"", location="https://elsewhere.example/"))


def test_the_unknown_message() -> None:
    with pytest.raises(SubmissionUnknownError) as caught:
        attempts().after(reply({"status": "error", "message": f"Oops {KEY}" + "x" * 3000}, 500))
    assert caught.value.http_status == 500
    assert "(HTTP 500: Oops ***" in str(caught.value)
    assert KEY not in str(caught.value)
    assert "track_id dag-1" in str(caught.value)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"status": "processing", "id": 7}, 502),
        ({"status": "error", "message": "timed out", "id": 7}, 504),
        ({"status": "error", "message": "internal server error", "id": 7}, 200),
        ({"status": "success", "message": "internal server error", "id": 7}, 404),
        ({"status": "processing", "message": "temporarily unavailable", "id": 7}, 409),
    ],
)
def test_the_id_in_an_answer_that_leaves_the_outcome_open_is_kept(body: dict[str, Any], status: int) -> None:
    with pytest.raises(SubmissionUnknownError) as caught:
        attempts().after(reply(body, status))
    assert caught.value.job_id == "7"


OUTCOMES: dict[str, Outcome] = {
    "refused": REFUSED,
    "lost": LOST,
    "limited": limited(),
    "denied": reply({"status": "error", "message": "Invalid API key"}, 401),
    "broken": HttpResponse(502, b"<h1>Bad Gateway</h1>"),
    "garbage": HttpResponse(200, b"<html>"),
    "empty": reply({"status": "processing"}),
    "job": reply({"status": "processing", "id": 7}),
}
UNKNOWN = {"lost", "broken", "garbage", "empty"}


@settings(deadline=None)
@given(names=st.lists(st.sampled_from(sorted(OUTCOMES)), max_size=8), allowed=st.integers(1, 6), draw=st.floats(0, 1))
def test_nothing_is_sent_after_an_outcome_that_is_unknown(names: list[str], allowed: int, draw: float) -> None:
    clock = Clock()
    subject = attempts(clock, draw, attempts=allowed, max_wait=60, base_wait=2)
    for count, name in enumerate(names, start=1):
        assert count <= allowed
        try:
            step = subject.after(OUTCOMES[name])
        except ModelsLabError as error:
            expected = {"refused": EndpointUnreachableError, "limited": RateLimitError, "denied": AuthenticationError}
            assert type(error) is (SubmissionUnknownError if name in UNKNOWN else expected[name])  # noqa: PT017
            return
        if name == "job":
            assert step == Processing("7")
            return
        assert name in {"refused", "limited"}
        clock.now += pause(step)
        assert clock.now <= 60
