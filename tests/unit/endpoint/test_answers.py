from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import ErrorCode
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.api.response import Failed, Finished, Processing, read_body
from airflow_provider_modelslab.endpoint.http import responses
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from tests.support.page import SAMPLE_REQUEST, SAMPLE_RESPONSE

LINK = "http://127.0.0.1:1/generations/0-1.mp4"


def job(**changes: Any) -> QueuedJob:
    request = Video2VideoRequest.from_body({**SAMPLE_REQUEST, "output_type": "mp4", "seed": 7})
    values: dict[str, Any] = {
        "id": 12,
        "owner": "o",
        "status": "queued",
        "body": {"track_id": "300", **request.wire()},
        "base_url": "http://127.0.0.1:1",
        "file_prefix": "0-1",
        "meta": responses.requested_meta(request, "0-1"),
        "future_links": (LINK,),
    }
    return QueuedJob(**{**values, **changes})


def test_meta_has_exactly_the_keys_of_the_page_in_its_order() -> None:
    assert list(job().meta) == list(SAMPLE_RESPONSE["meta"])
    used = responses.used_meta(job().meta, {"seed": 9, "fps": 7, "device": "cpu", "width": None})
    assert list(used) == list(SAMPLE_RESPONSE["meta"])
    assert (used["seed"], used["fps"], used["width"]) == (9, 7, None)


def test_meta_names_the_engine_that_did_the_work_if_it_is_not_the_real_thing() -> None:
    asked = {**job().meta, "engine": "echo"}
    assert responses.used_meta(job().meta, {"engine": "echo"})["engine"] == "echo"
    assert "engine" not in responses.used_meta(asked, {"seed": 9})


def test_switches_are_echoed_as_words() -> None:
    request = Video2VideoRequest.from_body({**SAMPLE_REQUEST, "temp": True, "base64": "yes"})
    meta = responses.requested_meta(request, "p")
    assert (meta["temp"], meta["base64"], meta["instant_response"]) == ("yes", "yes", "no")


def test_success_has_the_keys_of_the_page_in_its_order() -> None:
    reply = responses.success(job(status="success", output=(LINK,), seconds=8.4949))
    assert list(reply.body) == list(SAMPLE_RESPONSE)
    assert reply.body["generationTime"] == 8.49
    assert reply.body["output"] == reply.body["proxy_links"] == [LINK]


@pytest.mark.parametrize(("style", "key"), [("legacy", "messege"), ("documented", "message")])
def test_processing(style: Any, key: str) -> None:
    reply = responses.processing(job(), eta=12.345, style=style)
    assert list(reply.body) == [
        "status",
        "tip",
        "eta",
        key,
        "fetch_result",
        "id",
        "output",
        "meta",
        "future_links",
    ]
    assert reply.body["meta"] == {**job().meta, "id": "12", "track_id": "300"}
    assert reply.body["fetch_result"] == "http://127.0.0.1:1/api/v1/enterprise/video/fetch/12"
    assert reply.body["output"] == []
    read = read_body(reply.body)
    assert isinstance(read, Processing)
    assert (read.job_id, read.eta, read.future_links) == ("12", 12.35, (LINK,))


@pytest.mark.parametrize(("eta", "sent"), [(0.004, 0.01), (0.0, 0.01), (0.126, 0.13)])
def test_an_eta_is_never_nothing(eta: float, sent: float) -> None:
    assert responses.processing(job(), eta=eta, style="documented").body["eta"] == sent


def test_fetched_success_has_the_time_and_no_meta() -> None:
    body = responses.fetched(job(status="success", output=(LINK,), seconds=1.0)).body
    assert body == {"status": "success", "generationTime": 1.0, "id": 12, "output": [LINK], "proxy_links": [LINK]}
    read = read_body(body)
    assert isinstance(read, Finished)
    assert read.generation_time == 1.0


@pytest.mark.parametrize("status", ["queued", "running"])
def test_fetched_while_working_has_no_id(status: Any) -> None:
    body = responses.fetched(job(status=status)).body
    assert (body["status"], body["message"], body["output"]) == ("processing", "try again later.", "")
    assert "id" not in body


def test_fetched_failure_says_why() -> None:
    body = responses.fetched(job(status="failed", message="out of memory")).body
    assert body == {"status": "failed", "id": "", "message": "Failed, Try Again: out of memory", "output": ""}
    read = read_body(body)
    assert isinstance(read, Failed)
    assert read.code is ErrorCode.JOB_FAILED


def test_held_submit_of_a_failed_job_keeps_the_id() -> None:
    assert responses.done(job(status="failed", message="x")).body["id"] == 12


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (lambda style: responses.not_found(), ErrorCode.JOB_LOST),
        (responses.invalid_key, ErrorCode.AUTHENTICATION),
        (responses.invalid_request, ErrorCode.VALIDATION),
        (lambda style: responses.invalid_fields({"prompt": ["is required"]}, style), ErrorCode.VALIDATION),
        (lambda style: responses.rate_limited(5, 29.2, style), ErrorCode.RATE_LIMIT),
        (lambda style: responses.server_error(), ErrorCode.TRANSPORT),
    ],
)
@pytest.mark.parametrize("style", ["legacy", "documented"])
def test_errors_are_read_as_what_they_are(reply: Any, code: ErrorCode, style: Any) -> None:
    answer = reply(style)
    read = read_body(answer.body, http_status=answer.status)
    assert isinstance(read, Failed)
    assert read.code is code
    if code is ErrorCode.RATE_LIMIT:
        assert read.retry_after == 30


def test_legacy_errors_come_with_200_and_problems_as_a_dict_of_lists() -> None:
    reply = responses.invalid_fields({"prompt": ["is required"]}, "legacy")
    assert reply.status == 200
    assert reply.body == {"status": "error", "message": {"prompt": ["The prompt field is required."]}}
    assert responses.invalid_key("legacy").status == responses.rate_limited(5, 1, "legacy").status == 200


def test_documented_errors_have_statuses_and_plain_messages() -> None:
    reply = responses.invalid_fields(
        {"prompt": ["is required"], "width": ["must be at most 768; got 900"]}, "documented"
    )
    assert reply.status == 400
    assert reply.body["message"] == "prompt is required; width must be at most 768; got 900"
    assert responses.invalid_key("documented").status == 401
    assert responses.invalid_request("documented").status == 400
    limited = responses.rate_limited(5, 1.2, "documented")
    assert (limited.status, limited.body["retry_after"]) == (429, 2)
    assert limited.body["message"] == "Rate limit exceeded. Maximum 5 queued requests allowed."


def test_webhook_bodies() -> None:
    done = job(status="success", output=(LINK,), seconds=2.0)
    assert responses.webhook_body(done) == {
        "status": "success",
        "id": 12,
        "output": [LINK],
        "generationTime": 2.0,
        "track_id": "300",
        "meta": done.meta,
    }
    assert responses.webhook_body(job(status="failed", message="x")) == {
        "status": "failed",
        "id": 12,
        "message": "Failed, Try Again: x",
        "track_id": "300",
    }
