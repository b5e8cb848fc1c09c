from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import TransportError
from airflow_provider_modelslab.api.response import Failed, Finished, Processing
from airflow_provider_modelslab.client.calls import Call
from airflow_provider_modelslab.client.core import NoReply, Reply
from airflow_provider_modelslab.client.reading import clean, read, read_admin, read_message

KEY = 'sk/"ü+ <hush>'
CALL = Call("https://api.example/api/v1/enterprise/video/fetch/7", b"", (KEY,))


def reply(body: Any, status: int = 200, **more: Any) -> Reply:
    return Reply(status, body if isinstance(body, bytes) else json.dumps(body).encode(), **more)


FORMS: list[Callable[[str], str]] = [
    str,
    lambda key: json.dumps(key)[1:-1],
    lambda key: json.dumps(key)[1:-1].replace("/", "\\/"),
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


def test_answers_are_cleaned_but_for_links_and_ids() -> None:
    link = f"https://r2.example/{quote(KEY)}.gif"
    meta = {"prompt": f"a {KEY}", "list": [KEY, 7], "deep": {"key": KEY}, "long": "x" * 5000}
    cleaned = {"prompt": "a ***", "list": ["***", 7], "deep": {"key": "***"}, "long": "x" * 5000}
    assert read(reply({"status": "success", "id": KEY, "output": link, "meta": meta}), CALL) == Finished(
        KEY, (link,), cleaned
    )
    assert read(reply({"status": f"odd {KEY}", "message": KEY, "meta": meta}), CALL) == Processing(
        None, status="odd ***", message="***", meta=cleaned
    )
    failed = read(reply({"status": "error", "message": {KEY: [KEY]}}), CALL)
    assert isinstance(failed, Failed)
    assert (failed.fields, failed.message) == ({"***": ["***"]}, "***: ***")


def test_a_key_of_digits_does_not_break_an_id_of_the_same_digits() -> None:
    call = Call(CALL.url, b"", ("1234",))
    assert read(reply({"status": "processing", "id": 12345}), call) == Processing("12345")


def test_text_that_cannot_be_encoded_can_still_be_logged() -> None:
    answer = read(reply(rb'{"status": "error", "message": "\ud800 odd"}'), CALL)
    assert isinstance(answer, Failed)
    assert answer.message.encode() == b"? odd"


def test_no_reply() -> None:
    with pytest.raises(TransportError, match=r"No answer from api\.example: ConnectionResetError"):
        read(NoReply("ConnectionResetError", sent=True), CALL)


@pytest.mark.parametrize(
    ("location", "told"),
    [
        (f"https://user:pw@else.example:8443/{quote(KEY)}?k=1", "a redirect to https://else.example."),
        ("//else.example/x", "a redirect to http(s)://else.example."),
        ("/login?next=x", "a redirect to another path of the same host."),
        (None, "a redirect to nowhere."),
        ("https://[broken", "a redirect to another path of the same host."),
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
        with pytest.raises(TransportError, match=f"{told} where ok or success was expected") as caught:
            read_message(reply(body), CALL)
        assert caught.value.http_status == 200
