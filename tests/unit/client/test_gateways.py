"""What counts as proof that a submit did not arrive, and all that looks like it and is none."""

from __future__ import annotations

import json

import pytest

from airflow_provider_modelslab.api.errors import EndpointUnreachableError, SubmissionUnknownError
from airflow_provider_modelslab.api.response import Processing
from airflow_provider_modelslab.client.config import HttpResponse, SubmitPolicy
from airflow_provider_modelslab.client.gateways import refused_by_gateway
from airflow_provider_modelslab.client.requests import ApiRequest
from airflow_provider_modelslab.client.retry import Repeat, SubmitAttempts

RESET = "upstream connect error or disconnect/reset before headers. "
HAPROXY = (
    "<html><body><h1>503 Service Unavailable</h1>\nNo server is available to handle this request.\n</body></html>\n"
)
PAGE = (
    "<!DOCTYPE html><html><head><title>modelslab.com | {code}: Web server is down</title></head><body>"
    '<div id="cf-wrapper">'
    '<div id="cf-error-details" class="p-0"><h1><span class="inline-block">Web server is down</span>'
    '<span class="code-label">Error code {code}</span></h1></div></div></body></html>'
)


def answer(status: int, body: str | dict[str, object], server: str | None = "cloudflare") -> HttpResponse:
    text = body if isinstance(body, str) else json.dumps(body)
    return HttpResponse(status, text.encode(), server=server)


EVIDENCE = {
    "envoy has no host": answer(503, "no healthy upstream", "envoy"),
    "envoy behind another proxy": answer(503, "no healthy upstream\n"),
    "envoy cannot connect": answer(503, f"{RESET}reset reason: connection failure", "istio-envoy"),
    "envoy cannot connect, newer": answer(
        503,
        f"{RESET}reset reason: remote connection failure, transport failure reason: delayed connect error: 111",
        "envoy",
    ),
    "envoy cannot connect, its own fault": answer(503, f"{RESET}reset reason: local connection failure", "envoy"),
    "haproxy has no server": answer(503, HAPROXY, None),
    **{f"cloudflare {code}": answer(code, f"error code: {code}") for code in (521, 523, 525, 526)},
    **{f"cloudflare's page {code}": answer(code, PAGE.format(code=code)) for code in (521, 523, 525, 526)},
    "cloudflare finds no name": answer(530, "error code: 1016\n", "Cloudflare"),
    "cloudflare has no tunnel": answer(530, "error code: 1033"),
    "cloudflare as JSON": answer(530, {"status": 530, "error_code": 1016, "cloudflare_error": True}),
}

LOOK_ALIKES = {
    **{f"envoy's words with {status}": answer(status, "no healthy upstream", "envoy") for status in (500, 502, 504)},
    "envoy had passed it on before": answer(503, f"{RESET}retried and the latest reset reason: connection failure"),
    "envoy lost the connection": answer(503, f"{RESET}reset reason: connection termination", "envoy"),
    "envoy was reset": answer(503, f"{RESET}reset reason: remote reset", "envoy"),
    "envoy says no reason": answer(503, RESET.strip(), "envoy"),
    "JSON that quotes envoy": answer(503, {"status": "error", "message": "no healthy upstream"}),
    "JSON that quotes the reset": answer(503, {"error": {"message": f"{RESET}reset reason: connection failure"}}),
    "a page that quotes envoy": answer(503, f"<html>{RESET}reset reason: connection failure</html>"),
    "more lines": answer(503, f"{RESET}reset reason: connection failure\nthe job was started"),
    "haproxy's words with 502": answer(502, HAPROXY, None),
    "haproxy's words in part": answer(503, "No server is available to handle this request.", None),
    "JSON that quotes haproxy": answer(503, {"message": HAPROXY}),
    "nginx 502": answer(502, "<html><head><title>502 Bad Gateway</title></head></html>", "nginx"),
    "nginx 503": answer(503, "<html><head><title>503 Service Temporarily Unavailable</title></head></html>", "nginx"),
    "nginx 504": answer(504, "<html><head><title>504 Gateway Time-out</title></head></html>", "nginx"),
    "AWS 503": answer(
        503, "<html><head><title>503 Service Temporarily Unavailable</title></head></html>", "awselb/2.0"
    ),
    "empty 503": answer(503, "", None),
    **{
        f"cloudflare {code}, which may have arrived": answer(code, f"error code: {code}")
        for code in (500, 502, 503, 504, 520, 522, 524)
    },
    **{f"cloudflare's page {code}, which may": answer(code, PAGE.format(code=code)) for code in (520, 522, 524)},
    "521 without Cloudflare's header": answer(521, "error code: 521", "nginx"),
    "521 without any header": answer(521, "error code: 521", None),
    "521 of the origin, passed on by Cloudflare": answer(521, {"status": "error", "message": "error code: 521"}),
    "521 that says nothing": answer(521, ""),
    "521 that names another code": answer(521, "error code: 524"),
    "another's page that quotes one": answer(521, "<html>Error code 521</html>"),
    "a page that names two codes": answer(521, PAGE.format(code=521) + "Error code 524"),
    "a page without end": answer(521, PAGE.format(code=521) + "x" * 100_000),
    "530 with another code": answer(530, "error code: 1101"),
    "530 that is none of Cloudflare's": answer(530, {"error_code": 1016}),
    "530, half a JSON": answer(530, '{"cloudflare_error": true, "error_code": 1016'),
    "1016 with another status": answer(502, "error code: 1016"),
    "408": answer(408, "no healthy upstream"),
}


@pytest.mark.parametrize("reply", EVIDENCE.values(), ids=EVIDENCE)
def test_proof_that_a_submit_did_not_arrive_is_repeated_as_one_that_was_not_sent(reply: HttpResponse) -> None:
    subject = attempts()
    assert isinstance(subject.after(reply), Repeat)
    with pytest.raises(EndpointUnreachableError) as caught:
        subject.after(reply)
    assert caught.value.http_status == reply.status
    assert isinstance(attempts().after(HttpResponse(200, b'{"status": "processing", "id": 7}')), Processing)


@pytest.mark.parametrize("reply", LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_what_only_looks_like_proof_is_an_unknown_outcome(reply: HttpResponse) -> None:
    assert refused_by_gateway(reply) is None
    with pytest.raises(SubmissionUnknownError):
        attempts().after(reply)


def attempts() -> SubmitAttempts:
    call = ApiRequest("https://api.example/api/v1/enterprise/video/video2video", b"", ("hush-hush",))
    return SubmitAttempts(call, SubmitPolicy(attempts=2), clock=lambda: 0.0)


def test_a_secret_in_what_a_gateway_says_is_not_repeated() -> None:
    reply = answer(503, f"{RESET}reset reason: connection failure, transport failure reason: key hush-hush")
    subject = attempts()
    step = subject.after(reply)
    assert isinstance(step, Repeat)
    assert "hush-hush" not in step.note
    with pytest.raises(EndpointUnreachableError) as caught:
        subject.after(reply)
    assert "hush-hush" not in str(caught.value)
