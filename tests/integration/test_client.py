"""Both clients against a real server that misbehaves by script. What counts is how many POSTs arrived.

The asynchronous client only fetches, so what both have in common is tested with ``fetch``.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trustme

from airflow_provider_modelslab import __version__
from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    EndpointSettingsError,
    EndpointUnreachableError,
    ErrorCode,
    InvalidRequestError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    ModelsLabError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.polling import Decision, Done, GiveUp, JobPoller, PollPolicy, Wait
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.api.response import Failed, Finished, Processing
from airflow_provider_modelslab.client import async_client
from airflow_provider_modelslab.client import client as client_module
from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient
from airflow_provider_modelslab.client.client import ModelsLabClient
from airflow_provider_modelslab.client.config import Timeouts
from tests.support.clients import KEY, LONG, SHORT, Fetcher, blocking_client
from tests.support.scripted_server import Answer, Hang, HangUp, Reset, ScriptedServer, Step
from tools.stack.process import free_port

REQUEST = Video2VideoRequest(
    model_id="dark-sushi-mix", prompt="a fox", init_video="https://example.com/a.mp4", track_id="dag-1"
)
SUCCESS = {"status": "success", "id": 500, "output": ["https://r2.example/a.gif"], "meta": {"seed": 7}}
PROCESSING = {"status": "processing", "id": 147, "eta": 960, "future_links": ["https://r2.example/b.gif"]}
SECRET_KEY_ID, SECRET_KEY = "AKIAEXAMPLEEXAMPLE", "wJalr/XUtn+FEMI"
S3 = {
    "public_url": "https://cdn.example/",
    "region_name": "eu-central-1",
    "endpoint_url": "https://bucket.s3.amazonaws.com",
    "aws_access_key_id": SECRET_KEY_ID,
    "aws_secret_access_key": SECRET_KEY,
    "image_directory": "clips",
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own proxies and CA files must not decide how a test on 127.0.0.1 ends."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NETRC"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["requests", "aiohttp"])
def fetch(request: pytest.FixtureRequest) -> Fetcher:
    return Fetcher(request.param)


def submit(url: str, request: Video2VideoRequest = REQUEST, **options: Any) -> Finished | Processing:
    with blocking_client(url, **options) as client:
        return client.submit(request)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def error(message: Any, status: int = 200, **more: Any) -> Answer:
    """An error that repeats the key, as a careless server may."""
    if isinstance(message, str):
        message = f"{message} (your request: key={KEY})"
    return Answer({"status": "error", "message": message, **more}, status)


@dataclass(frozen=True)
class Case:
    """A submit that does not end well: what the server does, what is raised, and how many POSTs may arrive."""

    name: str
    steps: tuple[Step, ...]
    raises: type[ModelsLabError]
    posts: int = 1


CASES = [
    Case("401", (error("Invalid API key", 401),), AuthenticationError),
    Case("legacy invalid key in a 200", (error("Invalid Api Key"),), AuthenticationError),
    Case("401 as HTML", (Answer(f"<h1>{KEY}</h1>", 401),), AuthenticationError),
    Case("402", (error("Insufficient credits. Please add more credits to continue.", 402),), PaymentRequiredError),
    Case("403", (error("This feature requires a premium subscription", 403),), PermissionDeniedError),
    Case("400", (error("prompt is required", 400),), InvalidRequestError),
    Case("dict of lists in a 200", (error({"prompt": [f"required {KEY}"]}),), InvalidRequestError),
    Case("failed at once", (Answer({"status": "failed", "id": "", "message": f"No {KEY}"}),), JobFailedError),
    Case("429 for ever", (error("Rate limit exceeded.", 429, retry_after=0.001),), RateLimitError, posts=3),
    Case("429 as HTML for ever", (Answer(f"slow down {KEY}", 429),), RateLimitError, posts=3),
    Case("rate limit in a 200 for ever", (error("Rate limit exceeded"),), RateLimitError, posts=3),
    Case("429 that asks for too long a wait", (error("Rate limit", 429, retry_after=30),), RateLimitError),
    Case("Retry-After that is too long", (Answer("", 429, {"Retry-After": "30"}),), RateLimitError),
    Case("spam filter", (error("Rate limit exceeded", tips="please wait for 30 seconds"),), RateLimitError),
    Case("429, then 500", (error("Rate limit", 429), error("Oops", 500)), SubmissionUnknownError, posts=2),
    Case("500", (error("Internal server error. Please try again.", 500),), SubmissionUnknownError),
    Case("500 that blames the rate", (error("Rate limit", 500),), SubmissionUnknownError),
    Case("internal server error in a 200", (error("Internal server error"),), SubmissionUnknownError),
    Case("502 as HTML", (Answer(f"<h1>Bad Gateway {KEY}</h1>", 502),), SubmissionUnknownError),
    Case("503 with Retry-After", (Answer("", 503, {"Retry-After": "0"}),), SubmissionUnknownError),
    Case("503 of a gateway without a server", (Answer("no healthy upstream", 503),), EndpointUnreachableError, posts=3),
    Case(
        "521 of Cloudflare",
        (Answer("error code: 521", 521, {"Server": "cloudflare"}),),
        EndpointUnreachableError,
        posts=3,
    ),
    Case("521 of another server", (Answer("error code: 521", 521, {"Server": "nginx"}),), SubmissionUnknownError),
    Case("522 of Cloudflare", (Answer("error code: 522", 522, {"Server": "cloudflare"}),), SubmissionUnknownError),
    Case("504", (Answer("", 504),), SubmissionUnknownError),
    Case("408", (Answer("", 408),), SubmissionUnknownError),
    Case("200 as HTML", (Answer(f"<html>{'x' * 170}{KEY}</html>"),), SubmissionUnknownError),
    Case("200, empty", (Answer(""),), SubmissionUnknownError),
    Case("200, a list", (Answer(f'["{KEY}"]'),), SubmissionUnknownError),
    Case("200, nested too deep", (Answer("[" * 100_000),), SubmissionUnknownError),
    Case("200, not UTF-8", (Answer(b'{"status": "\xff\xfe"}'),), SubmissionUnknownError),
    Case("200, half a JSON", (Answer(f'{{"status": "success", "x": "{KEY}"'),), SubmissionUnknownError),
    Case("200, cut off", (Answer(SUCCESS, cut=25),), SubmissionUnknownError),
    Case("200, headers alone", (Answer(SUCCESS, cut=0),), SubmissionUnknownError),
    Case("200, broken gzip", (Answer("x", headers={"Content-Encoding": "gzip"}),), SubmissionUnknownError),
    Case(
        "processing without id and links", (Answer({"status": "processing", "message": KEY}),), SubmissionUnknownError
    ),
    Case("success without id and links", (Answer({"status": "success", "output": ""}),), SubmissionUnknownError),
    Case("an object that says nothing", (Answer({}),), SubmissionUnknownError),
    Case("no answer in time", (Hang(),), SubmissionUnknownError),
    Case("reset after the body", (Reset(),), SubmissionUnknownError),
    Case("reset before the body was read", (Reset(before_body=True),), SubmissionUnknownError),
    Case("closed without an answer", (HangUp(),), SubmissionUnknownError),
    Case("no HTTP", (Answer("", headers={"Content-Length": "many"}, hang_up=True),), SubmissionUnknownError),
    Case("404 as HTML", (Answer(f"<h1>Not Found {KEY}</h1>", 404),), EndpointSettingsError),
    *(
        Case(
            f"redirect {status}",
            (Answer("", status, {"Location": f"https://else.example/{KEY}?k={KEY}"}),),
            EndpointSettingsError,
        )
        for status in (301, 302, 303, 307, 308)
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_submit_is_never_sent_twice_unless_it_was_refused(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(*case.steps) as server:
        with pytest.raises(ModelsLabError) as caught:
            submit(server.url, timeouts=timeouts_for(*case.steps))
        server.wait_for_requests(case.posts)
    assert type(caught.value) is case.raises
    assert server.posts == case.posts
    assert server.connections == case.posts
    assert set(server.paths) == {"/api/v1/enterprise/video/video2video"}
    assert_nothing_leaks(caught.value, caplog.text)


def timeouts_for(*steps: Step) -> Timeouts:
    """Short ones for a server that hangs."""
    return SHORT if Hang() in steps else LONG


def assert_nothing_leaks(error: ModelsLabError, log: str) -> None:
    told = [
        str(error),
        repr(error),
        repr(error.to_event()),
        repr(error.__dict__),
        "".join(traceback.format_exception(error)),
        log,
    ]
    assert not [text for text in told for part in (KEY, KEY[:12], "very%2Bsecret", SECRET_KEY) if part in text]
    assert error.__cause__ is None
    assert error.__context__ is None


def test_the_message_of_an_unknown_submit_says_what_to_do() -> None:
    with ScriptedServer(Hang()) as server, pytest.raises(SubmissionUnknownError) as caught:
        submit(server.url, timeouts=SHORT)
    message = str(caught.value)
    assert "no answer within 0.3 s" in message
    assert "running and billed" in message
    assert "not sent again" in message
    assert "dashboard" in message
    assert "track_id dag-1" in message


def test_an_answer_without_end_is_not_read_to_its_end(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 100_000)
    monkeypatch.setattr(async_client, "MAX_ANSWER_BYTES", 100_000)
    with ScriptedServer(Answer("x" * 1_000_000)) as server, pytest.raises(TransportError, match="100000 bytes"):
        fetch(server.url, "7")
    assert server.posts == 1


def test_a_redirect_says_where_to_and_hands_on_nothing(fetch: Fetcher) -> None:
    with ScriptedServer(Answer(SUCCESS)) as other:
        location = {"Location": f"{other.url}/elsewhere?token=abc"}
        with ScriptedServer(Answer("", 307, location)) as server, pytest.raises(EndpointSettingsError) as caught:
            fetch(server.url, "7")
        assert other.connections == 0
    assert "redirect to http://127.0.0.1" in str(caught.value)
    assert "base URL" in str(caught.value)
    assert "token" not in str(caught.value)


@pytest.mark.parametrize("location", ["https://[", "\xff", ""])
def test_a_redirect_to_what_is_no_url_is_still_one(fetch: Fetcher, location: str) -> None:
    with ScriptedServer(Answer("", 307, {"Location": location})) as server:
        with pytest.raises(EndpointSettingsError):
            fetch(server.url, "7")
        with pytest.raises(EndpointSettingsError):
            submit(server.url)
    assert server.posts == 2


REFUSALS: list[tuple[Step, ...]] = [
    (error("Rate limit exceeded. Maximum 5 queued requests allowed.", 429, retry_after=0.001),),
    (error("Rate limit exceeded"), Answer("", 429, {"Retry-After": "0.001"})),
    (Answer("no healthy upstream", 503), Answer("error code: 521", 521, {"Server": "cloudflare"})),
]


@pytest.mark.parametrize("refusals", REFUSALS, ids=["once", "twice", "by gateways"])
def test_a_refused_submit_is_sent_again(refusals: tuple[Step, ...]) -> None:
    with ScriptedServer(*refusals, Answer(PROCESSING)) as server:
        answer = submit(server.url)
    assert answer == Processing("147", eta=960.0, future_links=("https://r2.example/b.gif",))
    assert server.posts == len(refusals) + 1
    assert len({request.body for request in server.requests}) == 1


def test_what_a_submit_sends() -> None:
    with ScriptedServer(Answer(SUCCESS)) as server:
        answer = submit(server.url)
    assert answer == Finished("500", ("https://r2.example/a.gif",), {"seed": 7})
    (received,) = server.requests
    assert received.method == "POST"
    assert received.json() == {
        "key": KEY,
        "model_id": "dark-sushi-mix",
        "prompt": "a fox",
        "init_video": "https://example.com/a.mp4",
        "track_id": "dag-1",
        "seed": None,
    }
    assert received.headers["content-type"] == "application/json"
    assert received.headers["user-agent"] == f"airflow-provider-modelslab/{__version__}"
    assert "transfer-encoding" not in received.headers
    assert "authorization" not in received.headers


def test_a_submit_uses_a_connection_of_its_own() -> None:
    """A kept connection that the server has closed would end in a reset: lost, or arrived? Nobody could tell."""
    answers = Answer({"status": "processing"}, hang_up=True), Answer(SUCCESS)
    with ScriptedServer(*answers) as server, blocking_client(server.url) as client:
        assert isinstance(client.fetch("7"), Processing)
        assert isinstance(client.submit(REQUEST), Finished)
    assert (server.posts, server.connections) == (2, 2)


def test_polls_share_a_connection(fetch: Fetcher) -> None:
    with ScriptedServer(Answer({"status": "processing"})) as server:
        fetch(server.url, "7", "7", "8")
    assert (server.posts, server.connections) == (3, 1)


def test_nobody_listens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(TransportError, match=r"Tried 3 time\(s\)") as caught:
        submit(f"http://127.0.0.1:{free_port()}")
    assert_nothing_leaks(caught.value, caplog.text)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The host names that were looked up, all in vain."""
    lookups: list[object] = []

    def fail(host: object, *_: object, **__: object) -> NoReturn:
        lookups.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    return lookups


def test_a_submit_is_repeated_when_the_name_does_not_resolve(lookups: list[object]) -> None:
    with pytest.raises(EndpointUnreachableError, match=r"did not reach api\.example"):
        submit("https://api.example")
    assert lookups == ["api.example"] * 3


def test_the_name_does_not_resolve(fetch: Fetcher, lookups: list[object]) -> None:
    with pytest.raises(TransportError, match=r"api\.example: gaierror: Name or service not known"):
        fetch("https://api.example", "7")
    assert lookups == ["api.example"]


def test_a_handshake_that_hangs_is_no_submit() -> None:
    with ScriptedServer(Hang(), silent=True) as server:
        with pytest.raises(EndpointUnreachableError):
            submit(f"https://127.0.0.1:{server.port}", timeouts=Timeouts(0.1, 60))
        server.wait_for_connections(3)
    assert (server.posts, server.connections) == (0, 3)


def test_a_handshake_that_hangs(fetch: Fetcher) -> None:
    with ScriptedServer(Hang(), silent=True) as server:
        with pytest.raises(TransportError, match=r"no connection within 0\.1"):
            fetch(f"https://127.0.0.1:{server.port}", "7", timeouts=Timeouts(0.1, 60))
        server.wait_for_connections(1)
    assert (server.posts, server.connections) == (0, 1)


def test_a_submit_is_not_repeated_when_the_certificate_is_not_trusted(server_tls: ssl.SSLContext) -> None:
    with ScriptedServer(Answer(SUCCESS), tls=server_tls) as server, pytest.raises(EndpointSettingsError):
        submit(server.url)
    assert (server.posts, server.connections) == (0, 1)


def test_a_certificate_that_is_not_trusted(
    fetch: Fetcher, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(Answer(SUCCESS), tls=server_tls) as server, pytest.raises(TransportError) as caught:
        fetch(server.url, "7")
    assert (server.posts, server.connections) == (0, 1)
    assert "SSLCertVerificationError: unable to get local issuer certificate" in str(caught.value)
    assert_nothing_leaks(caught.value, caplog.text)


def test_a_ca_file_by_argument_and_by_environment(
    fetch: Fetcher, server_tls: ssl.SSLContext, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Answer(SUCCESS), tls=server_tls) as server:
        assert isinstance(fetch(server.url, "7", verify=ca_file)[0], Finished)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
        assert isinstance(fetch(server.url, "7")[0], Finished)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", f"{ca_file}.gone")
        with pytest.raises(TransportError):
            fetch(server.url, "7")
        with pytest.raises(EndpointSettingsError):
            submit(server.url)
    assert server.posts == 2


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_verification_can_be_switched_off_whatever_the_environment_says(
    fetch: Fetcher, server_tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(other))
    with ScriptedServer(Answer(SUCCESS), tls=server_tls) as server:
        assert isinstance(fetch(server.url, "7", verify=False)[0], Finished)


def test_a_tls_connection_cut_after_the_body_is_unknown(server_tls: ssl.SSLContext, ca_file: str) -> None:
    with ScriptedServer(HangUp(), tls=server_tls) as server, pytest.raises(SubmissionUnknownError):
        submit(server.url, verify=ca_file)
    assert (server.posts, server.connections) == (1, 1)


def test_netrc_is_not_read(fetch: Fetcher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with ScriptedServer(Answer(SUCCESS)) as server:
        fetch(server.url, "7")
        submit(server.url)
    assert server.posts == 2
    assert all("authorization" not in request.headers for request in server.requests)


def test_the_environment_names_the_proxy(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Answer(SUCCESS)) as proxy:
        monkeypatch.setenv("http_proxy", f"http://user:hush@127.0.0.1:{proxy.port}")
        fetch("http://api.invalid", "7")
        submit("http://api.invalid")
        assert proxy.paths == [
            "http://api.invalid/api/v1/enterprise/video/fetch/7",
            "http://api.invalid/api/v1/enterprise/video/video2video",
        ]
        assert all(request.headers["proxy-authorization"] == "Basic dXNlcjpodXNo" for request in proxy.requests)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with ScriptedServer(Answer(SUCCESS)) as server:
            fetch(server.url, "7")
        assert (server.posts, proxy.posts) == (1, 2)


def test_a_proxy_that_refuses_means_not_sent(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Answer("", 403)) as proxy:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
        with pytest.raises(EndpointUnreachableError, match=r"did not reach api\.invalid"):
            submit("https://api.invalid")
        with pytest.raises(TransportError):
            fetch("https://api.invalid", "7")
        assert [request.method for request in proxy.requests] == ["CONNECT"] * 4


def test_the_credentials_of_a_proxy_that_is_away_are_not_told(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", f"http://user:hush@127.0.0.1:{free_port()}")
    for call in (lambda: submit("https://api.invalid"), lambda: fetch("https://api.invalid", "7")):
        with pytest.raises(TransportError) as caught:
            call()
        assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_a_proxy_of_an_unknown_kind_is_a_matter_of_settings(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "gopher://user:hush@127.0.0.1:70")
    with ScriptedServer(Answer(SUCCESS)) as server:
        with pytest.raises(EndpointSettingsError):
            submit(server.url)
        with pytest.raises(TransportError) as caught:
            fetch(server.url, "7")
        assert server.connections == 0
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (error("Invalid API key", 401), ErrorCode.AUTHENTICATION),
        (Answer({"status": "failed", "id": "", "message": "Request not found"}), ErrorCode.JOB_LOST),
        (Answer({"status": "failed", "id": "", "message": "Failed, Try Again"}), ErrorCode.JOB_FAILED),
        (Answer("<h1>Bad Gateway</h1>", 502), ErrorCode.TRANSPORT),
        (Answer("", 429, {"Retry-After": "7"}), ErrorCode.RATE_LIMIT),
    ],
    ids=lambda value: value.value if isinstance(value, ErrorCode) else "",
)
def test_fetch_hands_back_failures_as_answers(fetch: Fetcher, step: Step, code: ErrorCode) -> None:
    with ScriptedServer(step) as server:
        (answer,) = fetch(server.url, "7")
    assert isinstance(answer, Failed)
    assert answer.code is code
    assert KEY not in answer.message
    assert server.posts == 1


@pytest.mark.parametrize("step", [Hang(), Reset(), HangUp(), Answer(SUCCESS, cut=10)], ids=lambda step: repr(step)[:12])
def test_fetch_raises_when_no_answer_came(fetch: Fetcher, step: Step, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(step) as server:
        with pytest.raises(TransportError, match="No response from 127") as caught:
            fetch(server.url, "7", timeouts=timeouts_for(step))
        server.wait_for_requests(1)
    assert server.posts == 1
    assert_nothing_leaks(caught.value, caplog.text)


def test_fetch_asks_its_own_base_url_by_the_quoted_id(fetch: Fetcher) -> None:
    with ScriptedServer(Answer({**PROCESSING, "fetch_result": "http://127.0.0.1:1/steal"})) as server:
        fetch(f"{server.url}/proxied/", "a/b c?d%41", 147)
    assert server.paths == [
        "/proxied/enterprise/video/fetch/a%2Fb%20c%3Fd%2541",
        "/proxied/enterprise/video/fetch/147",
    ]
    assert server.requests[0].json() == {"key": KEY}


def test_system_details() -> None:
    told = {"model_count": 0, "queue_time": 0, "status": "ok"}
    answer = Answer({**told, "echo": {"key": KEY}})
    with ScriptedServer(answer) as server, blocking_client(server.url) as client:
        assert client.system_details() == {**told, "echo": {"key": "***"}}
    assert server.paths == ["/api/v1/enterprise/video/system_details"]


@pytest.mark.parametrize("name", ["restart_server", "update_server", "clear_cache", "clear_queue"])
def test_administration_hands_back_the_message(name: str) -> None:
    answer = Answer({"message": "server restarting", "status": "success"})
    with ScriptedServer(answer) as server, blocking_client(server.url) as client:
        assert getattr(client, name)() == "server restarting"
    assert server.paths == [f"/api/v1/enterprise/video/{name}"]
    assert server.requests[0].json() == {"key": KEY}


ADMIN_FAILURES: list[tuple[Step, type[ModelsLabError]]] = [
    (error("Invalid Api Key"), AuthenticationError),
    (error(f"Access denied for {SECRET_KEY_ID}:{SECRET_KEY}", 403), PermissionDeniedError),
    (error({"endpoint_url": [f"bad {SECRET_KEY}"]}), InvalidRequestError),
    (Answer({"message": f"done {SECRET_KEY}"}), TransportError),
    (Answer({"status": SECRET_KEY}), TransportError),
    (Answer(f"<h1>{SECRET_KEY}</h1>", 404), TransportError),
    (error(SECRET_KEY, 500), TransportError),
    (Hang(), TransportError),
    (Reset(), TransportError),
]


@pytest.mark.parametrize(("step", "raises"), ADMIN_FAILURES, ids=lambda value: getattr(value, "__name__", ""))
def test_update_s3_fails_without_telling_the_aws_secret(
    step: Step, raises: type[ModelsLabError], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ScriptedServer(step) as server:
        with (
            blocking_client(server.url, timeouts=timeouts_for(step)) as client,
            pytest.raises(ModelsLabError) as caught,
        ):
            client.update_s3(S3)
        server.wait_for_requests(1)
    assert type(caught.value) is raises
    assert server.posts == 1
    assert SECRET_KEY_ID not in str(caught.value)
    assert_nothing_leaks(caught.value, caplog.text)


def test_s3_settings_are_sent_for_the_video_server() -> None:
    answers = Answer({"status": "success", "messege": "saved"}), Answer({"status": "ok"})
    with ScriptedServer(*answers) as server, blocking_client(server.url) as client:
        assert client.update_s3(S3) == "saved"
        assert client.reset_s3(deploy_type="text_to_image") == "ok"
    assert server.paths == ["/api/v1/enterprise/update_s3", "/api/v1/enterprise/reset_s3"]
    assert server.requests[0].json() == {**S3, "deploy_type": "video", "key": KEY}
    assert server.requests[1].json() == {"deploy_type": "text_to_image", "key": KEY}


def test_bad_input_is_found_before_anything_is_sent(fetch: Fetcher) -> None:
    with ScriptedServer(Answer(SUCCESS)) as server:
        with pytest.raises(AuthenticationError):
            fetch(server.url, "7", key=" ")
        for job_id in ("", " ", "..", None):
            with pytest.raises(InvalidRequestError, match="job_id"):
                fetch(server.url, job_id)
        with pytest.raises(InvalidRequestError, match="verify"):
            fetch(server.url, "7", verify="/no/such/ca.pem")
        assert server.connections == 0


def test_a_bad_request_is_found_before_anything_is_sent() -> None:
    with ScriptedServer(Answer(SUCCESS)) as server, blocking_client(server.url) as client:
        with pytest.raises(InvalidRequestError, match="job_id"):
            client.wait("", submitted_at=0.0, deadline=1.0)
        with pytest.raises(InvalidRequestError, match=r"aws_acess_key_id.*did you mean aws_access_key_id"):
            client.update_s3({**S3, "aws_acess_key_id": "x"})
        with pytest.raises(InvalidRequestError, match="init_video"):
            client.submit(REQUEST.model_copy(update={"init_video": "/tmp/a.mp4"}))  # noqa: S108
        assert server.connections == 0


POLICY = PollPolicy(min_interval=1, max_interval=30, jitter=0, warn_after=2)


def test_wait_goes_on_through_trouble() -> None:
    steps: list[Step] = [
        Answer({"status": "failed", "id": "", "message": "Request not found"}),
        Reset(),
        Answer("", 502),
        error("Rate limit", 429, retry_after=20),
        Answer({"status": "brewing"}),
        Answer({"status": "processing", "message": "try again later.", "output": ""}),
        Answer({**SUCCESS, "meta": None}),
    ]
    now = time.time()
    told: list[Wait] = []
    pauses: list[float] = []
    with ScriptedServer(*steps) as server, blocking_client(server.url) as client:
        answer = client.wait(
            "7",
            submitted_at=now,
            deadline=now + 3600,
            eta=10.0,
            policy=POLICY,
            sleep=pauses.append,
            on_wait=told.append,
        )
    assert answer == Finished("500", ("https://r2.example/a.gif",))
    assert server.posts == len(steps) == len(pauses)
    assert [wait.seconds for wait in told] == pauses
    assert now + 10 - time.time() <= pauses[0] <= 10  # counted from the submission
    assert pauses[4] >= 20
    assert [wait.warn for wait in told] == [False, True, True, True, True, False, False]
    assert [wait.answer and wait.answer.status for wait in told] == [None] * 5 + ["brewing", "processing"]


def test_wait_logs_what_is_out_of_the_ordinary(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="airflow_provider_modelslab")
    steps = error("Bad gateway", 502), error("Bad gateway", 502), Answer({"status": "processing"}), Answer(SUCCESS)
    now = time.time()
    with ScriptedServer(*steps) as server, blocking_client(server.url) as client:
        client.wait("7", submitted_at=now, deadline=now + 60, policy=POLICY, sleep=lambda _: None)
    assert [record.levelno for record in caplog.records] == [logging.INFO, logging.WARNING]
    assert all(record.getMessage().startswith("Job 7: ") for record in caplog.records)
    assert KEY not in caplog.text


def test_wait_may_poll_before_the_first_pause() -> None:
    now = time.time()
    pauses: list[float] = []
    with (
        ScriptedServer(Answer({"status": "processing"}), Answer(SUCCESS)) as server,
        blocking_client(server.url) as client,
    ):
        client.wait("7", submitted_at=now, deadline=now + 60, policy=POLICY, poll_now=True, sleep=pauses.append)
    assert pauses == [0.0, 1.0]


@pytest.mark.parametrize(
    ("step", "decision"),
    [
        (Answer(SUCCESS), Done),
        (Answer({"status": "processing"}), Wait),
        (Answer("", 502), Wait),
        (Reset(), Wait),
        (Answer({"status": "failed", "message": "Request not found"}), GiveUp),
        (error("Invalid API key", 401), GiveUp),
    ],
)
def test_poll_asks_once_and_raises_nothing(step: Step, decision: type[Decision]) -> None:
    now = time.time()
    poller = JobPoller("7", submitted_at=now - 120, deadline=now + 60, policy=POLICY)
    with ScriptedServer(step) as server, blocking_client(server.url) as client:
        assert isinstance(client.poll(poller), decision)
    assert server.posts == 1


@pytest.mark.parametrize(
    ("step", "raises"),
    [
        (error("Invalid API key", 401), AuthenticationError),
        (error("Insufficient credits", 402), PaymentRequiredError),
        (error("This feature requires a premium subscription", 403), PermissionDeniedError),
        (Answer({"status": "failed", "message": "Failed, Try Again"}), JobFailedError),
        (Answer({"status": "failed", "message": "Request not found"}), JobLostError),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_wait_ends_at_once_where_waiting_is_of_no_use(step: Step, raises: type[ModelsLabError]) -> None:
    now = time.time()
    pauses: list[float] = []
    with ScriptedServer(step) as server, blocking_client(server.url) as client, pytest.raises(raises) as caught:
        client.wait("7", submitted_at=now - 120, deadline=now + 3600, policy=POLICY, sleep=pauses.append)
    assert server.posts == 1
    assert caught.value.job_id == "7"
    assert_nothing_leaks(caught.value, "")


@pytest.mark.parametrize("step", [Answer({"status": "processing"}), Reset()], ids=["processing", "reset"])
def test_wait_gives_up_at_the_deadline(step: Step) -> None:
    now = time.time()
    pauses: list[float] = []
    with (
        ScriptedServer(step) as server,
        blocking_client(server.url) as client,
        pytest.raises(JobTimeoutError) as caught,
    ):
        client.wait("7", submitted_at=now - 100, deadline=now, policy=POLICY, sleep=pauses.append)
    assert server.posts == 1
    assert pauses == [0]
    assert_nothing_leaks(caught.value, "")


def test_reprs_do_not_hold_the_key() -> None:
    with ModelsLabClient(KEY, base_url="localhost:8000") as blocking:
        assert repr(blocking) == "ModelsLabClient(base_url='https://localhost:8000/api/v1')"
    assert repr(AsyncModelsLabClient(KEY)) == "AsyncModelsLabClient(base_url='https://modelslab.com/api/v1')"


async def test_the_loop_goes_on_while_a_call_hangs() -> None:
    with ScriptedServer(Hang()) as server:
        async with AsyncModelsLabClient(KEY, base_url=server.url, timeouts=LONG) as client:
            fetching = asyncio.create_task(client.fetch("7"))
            await asyncio.to_thread(server.wait_for_requests, 1)
            for _ in range(3):
                await asyncio.sleep(0.01)
            assert not fetching.done()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching


async def test_many_jobs_are_asked_for_side_by_side() -> None:
    with ScriptedServer(Answer(SUCCESS)) as server:
        async with AsyncModelsLabClient(KEY, base_url=server.url) as client:
            answers = await asyncio.gather(*(client.fetch(str(number)) for number in range(20)))
    assert len(answers) == server.posts == 20
    assert len(set(server.paths)) == 20


async def test_a_long_header_of_a_gateway_hides_no_answer(fetch: Fetcher) -> None:
    with ScriptedServer(Answer(SUCCESS, headers={"X-Trace": "x" * 20_000})) as server:
        (answer,) = await asyncio.to_thread(fetch, server.url, "7")
    assert isinstance(answer, Finished)
