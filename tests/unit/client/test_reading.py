from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import TransportError
from airflow_provider_modelslab.api.response import Failed, Finished, Processing
from airflow_provider_modelslab.client.config import HttpResponse, NoResponse
from airflow_provider_modelslab.client.parsing import clean, read, read_admin, read_message
from airflow_provider_modelslab.client.requests import ApiRequest

KEY = 'sk/"ü+ <hush>'
CALL = ApiRequest("https://api.example/api/v1/enterprise/video/fetch/7", b"", (KEY,))


def reply(body: Any, status: int = 200, **more: Any) -> HttpResponse:
    return HttpResponse(status, body if isinstance(body, bytes) else json.dumps(body).encode(), **more)


FORMS: list[Callable[[str], str]] = [
    str,
    lambda key: json.dumps(key)[1:-1],
    lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
    lambda key: json.dumps(json.dumps(key))[3:-3],
    quote,
    lambda key: quote(key, safe=""),
    html.escape,
]


@pytest.mark.parametrize("form", FORMS)
def test_the_key_is_known_in_every_form_in_which_a_server_may_write_it(form: Callable[[str], str]) -> None:
    assert clean(f"a {form(KEY)} b", CALL) == "a *** b"
    answer = read(reply(f"<h1>{form(KEY)}</h1>".encode(), 502), CALL)
    assert isinstance(answer, Failed)
    assert "hush" not in answer.message


@settings(deadline=None)
@given(st.integers(0, 260))
def test_a_key_at_the_edge_of_a_cut_is_not_half_shown(padding: int) -> None:
    answer = read(reply(b"x" * padding + KEY.encode(), 502), CALL)
    assert isinstance(answer, Failed)
    assert "sk/" not in answer.message


def test_long_messages_are_cut_after_the_key_is_out() -> None:
    text = clean("x" * 1998 + KEY, CALL)
    assert text == "x" * 1998 + "**..."


def test_a_signed_link_in_a_failure_is_shown_without_its_signature() -> None:
    told = "cannot download https://b.s3.amazonaws.com/clip.mp4?X-Amz-Algorithm=AWS4&X-Amz-Signature=hush"
    for body in [
        reply({"status": "failed", "id": 7, "message": told}),
        reply({"status": "error", "message": {"init_video": [told]}}),
        reply(told.encode(), 502),
    ]:
        answer = read(body, CALL)
        assert isinstance(answer, Failed)
        event = json.dumps(answer.to_error("7").to_event())
        assert "https://b.s3.amazonaws.com/clip.mp4" in event
        assert "hush" not in event


def test_answers_are_cleaned() -> None:
    link = "https://r2.example/a.gif"
    meta = {"prompt": f"a {KEY}", "list": [KEY, 7], "deep": {f"a {KEY}": {KEY: KEY}}, "long": "x" * 5000}
    cleaned = {"prompt": "a ***", "list": ["***", 7], "deep": {"a ***": {"***": "***"}}, "long": "x" * 5000}
    assert read(reply({"status": "success", "id": 7, "output": link, "meta": meta}), CALL) == Finished(
        "7", (link,), cleaned
    )
    assert read(reply({"status": f"odd {KEY}", "message": KEY, "meta": meta}), CALL) == Processing(
        None, status="odd ***", message="***", meta=cleaned
    )
    failed = read(reply({"status": "error", "message": {KEY: [KEY]}}), CALL)
    assert isinstance(failed, Failed)
    assert (failed.fields, failed.message) == ({"***": ["***"]}, "***: ***")


SPELLINGS: list[Callable[[str], str]] = [
    *FORMS,
    str.upper,
    lambda key: quote(key).lower(),
    quote_plus,
    lambda key: quote(quote(key)),
    lambda key: "".join(f"%{byte:02x}" for byte in key.encode()),
    lambda key: key[:3] + quote(key[3:]),
    lambda key: html.escape(quote(key)),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_link_that_holds_the_key_is_left_out_and_the_others_stay(spelling: Callable[[str], str]) -> None:
    good, bad = "https://r2.example/a%20b.gif", f"https://r2.example/x/{spelling(KEY)}.gif?a=b"
    done = read(reply({"status": "success", "id": 7, "output": [bad, good], "proxy_links": [bad]}), CALL)
    assert done == Finished("7", (good,))
    running = read(reply({"status": "processing", "id": 7, "future_links": [bad, good]}), CALL)
    assert running == Processing("7", future_links=(good,))


def test_a_job_whose_links_all_hold_the_key_names_no_result() -> None:
    body = reply({"status": "success", "id": 7, "output": f"https://r2.example/{quote(KEY)}"})
    polled = read(body, CALL, polling=True)
    assert isinstance(polled, Failed)
    assert polled.is_unclear
    assert read(body, CALL) == Processing("7", status="success")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_job_id_that_holds_the_key_is_none(spelling: Callable[[str], str]) -> None:
    job_id = f"job-{spelling(KEY)}"
    assert read(reply({"status": "processing", "id": job_id}), CALL) == Processing(None)
    assert read(reply({"status": "processing", "id": job_id, "request_id": 7}), CALL) == Processing("7")
    failed = read(reply({"status": "failed", "id": job_id, "message": "no"}), CALL)
    assert isinstance(failed, Failed)
    assert failed.job_id is None


def test_a_secret_webhook_is_a_secret_of_ids_and_links_too() -> None:
    webhook = "https://hooks.example/modelslab/0123456789abcdef"
    call = ApiRequest(CALL.url, b"", (KEY, webhook, "0123456789abcdef"))
    answer = read(
        reply({"status": "success", "id": f"{webhook}/7", "output": ["https://h/0123456789ABCDEF", "https://h/a"]}),
        call,
    )
    assert answer == Finished(None, ("https://h/a",))


@pytest.mark.parametrize("spelling", SPELLINGS[len(FORMS) + 1 :])
def test_a_text_holds_the_key_in_no_spelling(spelling: Callable[[str], str]) -> None:
    answer = read(reply({"status": "error", "message": f"you sent {spelling(KEY)}."}), CALL)
    assert isinstance(answer, Failed)
    assert "hush" not in answer.message


@pytest.mark.parametrize("location", ["https://{}/x", "{}://host/x", "https://user:{}@host:80/", "//{}:8443/", "{}"])
@pytest.mark.parametrize("key", ["sk-live-VERY-secret", KEY])
def test_a_redirect_that_repeats_the_key_is_told_without_it(location: str, key: str) -> None:
    call = ApiRequest(CALL.url, b"", (key,))
    for spelling in (key, quote(key)):
        with pytest.raises(TransportError) as caught:
            read(HttpResponse(302, b"", location=location.format(spelling)), call)
        assert not [part for part in ("secret", "hush") if part in str(caught.value).lower()]


def test_the_key_in_the_name_of_a_field_is_hidden_too() -> None:
    answer = read(reply({"status": "processing", "id": 7, "meta": {f"near {KEY}": [{KEY: 1}]}}), CALL)
    assert answer == Processing("7", meta={"near ***": [{"***": 1}]})


def test_a_key_of_digits_does_not_break_an_id_of_the_same_digits() -> None:
    call = ApiRequest(CALL.url, b"", ("1234",))
    assert read(reply({"status": "processing", "id": 12345}), call) == Processing("12345")


def test_text_that_cannot_be_encoded_can_still_be_logged() -> None:
    answer = read(reply(rb'{"status": "error", "message": "\ud800 odd"}'), CALL)
    assert isinstance(answer, Failed)
    assert answer.message.encode() == b"? odd"


def test_no_reply() -> None:
    with pytest.raises(TransportError, match=r"No response from api\.example: ConnectionResetError"):
        read(NoResponse("ConnectionResetError", sent=True), CALL)


@pytest.mark.parametrize(
    ("location", "told"),
    [
        (f"https://user:pw@else.example:8443/{quote(KEY)}?k=1", "a redirect to https://else.example."),
        ("//else.example/x", "a redirect to http(s)://else.example."),
        ("/login?next=x", "a redirect to somewhere else."),
        (None, "a redirect to nowhere."),
        ("https://[broken", "a redirect to somewhere else."),
    ],
)
def test_redirects(location: str | None, told: str) -> None:
    with pytest.raises(TransportError) as caught:
        read(reply({"status": "success", "output": "https://x"}, 302, location=location), CALL)
    assert told in str(caught.value)
    assert caught.value.http_status == 302
    assert caught.value.__context__ is None


def test_details_and_messages() -> None:
    assert read_admin(reply({"status": "ok", "queue_time": 0}), CALL) == {"status": "ok", "queue_time": 0}
    assert read_message(reply({"status": "success", "message": f"done {KEY}"}), CALL) == "done ***"
    assert read_message(reply({"status": "success", "messege": "done"}), CALL) == "done"
    assert read_message(reply({"status": "ok", "message": ""}), CALL) == "ok"


def test_an_administrative_answer_without_a_known_status_is_no_yes() -> None:
    for body, told in (({}, "without a status"), ({"status": "processing"}, "status 'processing'")):
        with pytest.raises(TransportError, match=told) as caught:
            read_message(reply(body), CALL)
        assert caught.value.http_status == 200


@pytest.mark.parametrize(
    ("action", "loses_jobs"),
    [("restart_server", True), ("clear_queue", True), ("clear_cache", False), ("system_details", False)],
)
def test_the_advice_to_repeat_says_where_jobs_are_lost(action: str, loses_jobs: bool) -> None:
    call = ApiRequest(f"https://api.example/api/v1/enterprise/video/{action}", b"", (KEY,))
    with pytest.raises(TransportError) as caught:
        read_message(reply({"status": "processing"}), call)
    assert ("pay" in caught.value.message, "safe" in caught.value.message) == (loses_jobs, not loses_jobs)
