"""Every quirk of the API that is recorded or documented, and what is made of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import ErrorCode, InvalidRequestError, RateLimitError
from airflow_provider_modelslab.api.response import (
    Failed,
    Finished,
    Processing,
    read_answer,
    read_body,
    retry_after_seconds,
)

A, B, C = "https://r2.example/a.gif", "https://cdn.example/a.gif", "https://r2.example/soon.gif"


def read(body: Any, status: int = 200, header: str | None = None) -> Finished | Processing | Failed:
    return read_answer(status, json.dumps(body), retry_after_header=header)


def finished(body: dict[str, Any]) -> Finished:
    answer = read({"status": "success", **body})
    assert isinstance(answer, Finished)
    return answer


def processing(body: dict[str, Any]) -> Processing:
    answer = read({"status": "processing", **body})
    assert isinstance(answer, Processing)
    return answer


def failed(body: Any, status: int = 200, header: str | None = None) -> Failed:
    answer = read(body, status, header)
    assert isinstance(answer, Failed)
    return answer


def test_the_pages_example_answer() -> None:
    link = "https://pub-3626123a908346a7a8be8d9295f44e26.r2.dev/generations/05ffff8d-a0ba-4019-9df0-5de966c52ad5.gif"
    proxy = "https://cdn2.stablediffusionapi.com/generations/05ffff8d-a0ba-4019-9df0-5de966c52ad5.gif"
    meta = {"base64": "no", "clip_skip": None, "fps": 7, "seed": 3276424082, "model_id": "midjourney"}
    body = {"generationTime": 8.49, "id": 500, "output": [link], "proxy_links": [proxy], "meta": meta}
    assert finished(body) == Finished("500", (link, proxy), meta, 8.49)


@pytest.mark.parametrize(
    ("body", "links"),
    [
        ({"output": [A], "proxy_links": [B], "future_links": [C]}, (A, B, C)),
        ({"output": [A], "proxy_links": [A], "future_links": [A]}, (A,)),
        ({"output": A}, (A,)),
        ({"output": [A], "proxy_links": None}, (A,)),
        ({"output": [], "proxy_links": [B]}, (B,)),
        ({"output": "", "proxy_links": "", "future_links": [C]}, (C,)),
        ({"output": [None, "", 7, f" {A} "]}, (A,)),
        ({"output": [A.replace("r2.example/", "r2.example//")]}, ("https://r2.example//a.gif",)),
    ],
)
def test_links_best_first(body: dict[str, Any], links: tuple[str, ...]) -> None:
    assert finished(body).links == links


@pytest.mark.parametrize("output", ["", [], None, {}])
def test_success_without_links_is_not_done_yet(output: object) -> None:
    answer = read({"status": "success", "id": 7, "output": output})
    assert answer == Processing("7", status="success")


def test_escaped_slashes_of_the_php_encoder() -> None:
    answer = read_answer(200, rb'{"status":"success","id":1,"output":["https:\/\/r2.example\/a.gif"]}')
    assert answer == Finished("1", (A,))


@pytest.mark.parametrize(
    ("given", "job_id"),
    [
        ({"id": 134799477}, "134799477"),
        ({"id": "0a1b-uuid"}, "0a1b-uuid"),
        ({"id": 0}, "0"),
        ({"id": ""}, None),
        ({"id": None}, None),
        ({"id": True}, None),
        ({"id": 1.5}, None),
        ({}, None),
        ({"request_id": 8}, "8"),
        ({"id": "", "request_id": "8"}, "8"),
        ({"id": "", "meta": {"id": "9"}}, "9"),
        ({"id": 7, "request_id": 8, "meta": {"id": "9"}}, "7"),
    ],
)
def test_ids_are_text_of_whatever_they_were(given: dict[str, Any], job_id: str | None) -> None:
    assert processing(given).job_id == job_id
    assert finished({**given, "output": A}).job_id == job_id


@pytest.mark.parametrize(
    ("eta", "seconds"),
    [
        (960, 960.0),
        (146.5279869184, 146.5279869184),
        ("12", 12.0),
        (None, None),
        ("soon", None),
        (True, None),
        ([], None),
    ],
)
def test_etas(eta: object, seconds: float | None) -> None:
    assert processing({"eta": eta}).eta == seconds


def test_an_eta_that_is_no_number_is_none() -> None:
    assert read_answer(200, '{"status": "processing", "eta": NaN}') == Processing(None)
    assert read_answer(200, '{"status": "processing", "eta": Infinity}') == Processing(None)


def test_documented_processing() -> None:
    answer = processing(
        {
            "tip": "Your image is processing in background, you can get this image using fetch API",
            "eta": 960,
            "message": "Try to fetch request after seconds estimated",
            "fetch_result": "https://modelslab.com/api/v6/video/fetch/134799477",
            "id": 134799477,
            "output": [],
            "meta": {"id": "134799477", "track_id": "300"},
            "future_links": [C],
        }
    )
    assert answer == Processing(
        "134799477",
        eta=960.0,
        future_links=(C,),
        meta={"id": "134799477", "track_id": "300"},
        message="Try to fetch request after seconds estimated",
    )


def test_recorded_processing_of_the_v3_era() -> None:
    answer = processing(
        {
            "tip": "for faster speed, keep resolution upto 512x512",
            "eta": 146.5279869184,
            "messege": "Try to fetch request after given estimated time",
            "id": 13902970,
            "output": "",
            "meta": {},
        }
    )
    assert answer.message == "Try to fetch request after given estimated time"
    assert (answer.job_id, answer.eta) == ("13902970", 146.5279869184)


def test_a_fetch_that_is_still_working_has_neither_id_nor_eta() -> None:
    assert processing({"message": "try again later.", "output": ""}) == Processing(None, message="try again later.")


@pytest.mark.parametrize("status", ["queued", "pending", "ready", "brewing", "ok"])
def test_unknown_words_count_as_running(status: str) -> None:
    assert read({"status": status, "id": 7}) == Processing("7", status=status)


def test_case_and_blanks_of_the_status_do_not_matter() -> None:
    assert isinstance(read({"status": " SUCCESS ", "output": A}), Finished)
    assert isinstance(read({"status": "Error", "message": "x"}), Failed)
    assert read({"id": 7}) == Processing("7", status="unknown")


@pytest.mark.parametrize("meta", [None, [], "", 7])
def test_meta_that_is_no_object_is_empty(meta: object) -> None:
    assert finished({"output": A, "meta": meta}).meta == {}


ERRORS: list[tuple[int, dict[str, Any], ErrorCode]] = [
    (200, {"message": "Invalid Api Key"}, ErrorCode.AUTHENTICATION),
    (401, {"message": "Invalid API key"}, ErrorCode.AUTHENTICATION),
    (401, {"message": "API key required"}, ErrorCode.AUTHENTICATION),
    (401, {}, ErrorCode.AUTHENTICATION),
    (402, {"message": "Insufficient credits. Please add more credits to continue."}, ErrorCode.PAYMENT),
    (200, {"message": "Insufficient credits. Please add more credits to continue."}, ErrorCode.PAYMENT),
    (403, {"message": "This feature requires a premium subscription"}, ErrorCode.PERMISSION),
    (403, {}, ErrorCode.PERMISSION),
    (429, {"message": "Rate limit exceeded. Maximum 5 queued requests allowed."}, ErrorCode.RATE_LIMIT),
    (200, {"message": "Rate limit exceeded"}, ErrorCode.RATE_LIMIT),
    (200, {"messege": "Rate limit exceeded"}, ErrorCode.RATE_LIMIT),
    (200, {"tips": "you are sending same request multiple times"}, ErrorCode.RATE_LIMIT),
    (200, {"message": {"prompt": ["The prompt field is required."]}}, ErrorCode.VALIDATION),
    (200, {"message": {"key": ["The api key field is required."]}}, ErrorCode.VALIDATION),
    (200, {"message": "Model id not found"}, ErrorCode.VALIDATION),
    (400, {"message": "width must be between 256 and 1024"}, ErrorCode.VALIDATION),
    (422, {}, ErrorCode.VALIDATION),
    (200, {"message": "Invalid API Request"}, ErrorCode.VALIDATION),
    (404, {"message": "Model not found: x"}, ErrorCode.VALIDATION),
    (500, {"message": "Internal server error. Please try again."}, ErrorCode.TRANSPORT),
    (503, {"message": "Service temporarily unavailable. Please try again later."}, ErrorCode.TRANSPORT),
    (200, {"message": "Internal server error"}, ErrorCode.TRANSPORT),
    (200, {"status": "failed", "id": "", "message": "Request not found", "output": ""}, ErrorCode.JOB_LOST),
    (404, {"message": "Request not found"}, ErrorCode.JOB_LOST),
    (200, {"status": "failed", "id": "", "message": "Failed, Try Again", "output": ""}, ErrorCode.JOB_FAILED),
]


@pytest.mark.parametrize(("status", "body", "code"), ERRORS)
def test_errors_by_code_or_by_phrase(status: int, body: dict[str, Any], code: ErrorCode) -> None:
    answer = failed({"status": "error", **body}, status)
    assert answer.code is code
    assert answer.http_status == status
    assert answer.message


def test_the_advice_is_in_the_message() -> None:
    assert "password of the Airflow connection" in failed({"status": "error", "message": "Invalid Api Key"}).message
    assert "Add credits" in failed({}, 402).message
    assert "without a message" in failed({"status": "error"}).message


def test_validation_as_a_dict_of_lists_keeps_the_fields() -> None:
    message = {"prompt": ["The prompt field is required.", "Too short."], "temp": "must be true or false"}
    answer = failed({"status": "error", "message": message})
    assert answer.fields == {"prompt": message["prompt"], "temp": ["must be true or false"]}
    assert answer.message == "prompt: The prompt field is required. Too short.; temp: must be true or false"
    error = answer.to_error("7")
    assert isinstance(error, InvalidRequestError)
    assert (error.fields, error.job_id) == (answer.fields, "7")


def test_messages_may_be_lists() -> None:
    assert failed({"status": "error", "message": ["one", "two"]}).message == "one two"


def test_the_spam_filter_explains_itself_in_tips() -> None:
    answer = failed(
        {
            "status": "error",
            "message": "Rate limit exceeded",
            "tips": "you are sending same request multiple times, spam filter is enabled, please wait for 30 seconds",
        }
    )
    assert (answer.code, answer.retry_after) == (ErrorCode.RATE_LIMIT, 30.0)
    error = answer.to_error()
    assert isinstance(error, RateLimitError)
    assert error.retry_after == 30


@pytest.mark.parametrize(
    ("body", "header", "message", "seconds"),
    [
        (30, "60", "wait for 10 seconds", 30.0),
        ("30", None, "", 30.0),
        (0, None, "", 0.0),
        (None, "60", "wait for 10 seconds", 60.0),
        (None, None, "please wait for 10 seconds", 10.0),
        (None, "Wed, 21 Oct 2015 07:28:00 GMT", "", 0.0),
        (-1, None, "", None),
        (True, None, "", None),
        (None, None, "wait some seconds", None),
    ],
)
def test_retry_after(body: object, header: str | None, message: str, seconds: float | None) -> None:
    assert retry_after_seconds(body, header, message) == seconds


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, ErrorCode.TRANSPORT),
        (404, ErrorCode.TRANSPORT),
        (502, ErrorCode.TRANSPORT),
        (401, ErrorCode.AUTHENTICATION),
        (429, ErrorCode.RATE_LIMIT),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<h1>Bad\n Gateway</h1>", b"[1]", b'"x"', b"null", b"\xff\xfe\x00", b"{", b"[" * 100_000]
)
def test_what_is_no_json_object(body: bytes, status: int, code: ErrorCode) -> None:
    answer = read_answer(status, body, retry_after_header="5")
    assert isinstance(answer, Failed)
    assert (answer.code, answer.http_status, answer.retry_after) == (code, status, 5.0)
    assert f"HTTP {status}" in answer.message
    assert len(answer.message) < 400


def test_webhook_bodies_have_the_same_form() -> None:
    assert read_body(
        {"status": "success", "id": 7, "output": [A], "generationTime": 45.2, "track_id": "v"}
    ) == Finished("7", (A,), {}, 45.2)
    answer = read_body({"status": "failed", "id": 7, "message": "Processing failed: no GPU", "track_id": "v"})
    assert isinstance(answer, Failed)
    assert (answer.code, answer.message) == (ErrorCode.JOB_FAILED, "Processing failed: no GPU")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    ["status", "message", "messege", "tips", "output", "proxy_links", "future_links", "id", "meta", "eta"]
)


@settings(deadline=None)
@given(st.integers(200, 599), st.dictionaries(NAMES, JSON | st.sampled_from(["success", "error", "failed"])))
def test_no_object_makes_the_reader_stumble(status: int, body: dict[str, Any]) -> None:
    answer = read_answer(status, json.dumps(body))
    assert isinstance(answer, Failed) or status < 400
    if isinstance(answer, Finished):
        assert answer.links
        assert all(answer.links)


@settings(deadline=None)
@given(st.integers(200, 599), st.binary(max_size=64))
def test_no_bytes_make_the_reader_stumble(status: int, body: bytes) -> None:
    answer = read_answer(status, body)
    assert isinstance(answer, Finished | Processing | Failed)
