"""Servers that send a byte now and then: every call ends in time, and means what it should."""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from airflow_provider_modelslab.api.errors import (
    EndpointSettingsError,
    EndpointUnreachableError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.api.response import Failed, Finished, Processing
from airflow_provider_modelslab.client.config import SubmitPolicy, Timeouts
from airflow_provider_modelslab.hooks import modelslab as hook_module
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.jobs.paid_job import PaidJob
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import LedgerPolicy
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore
from tests.support.clients import Fetcher, blocking_client
from tests.support.connections import set_modelslab
from tests.support.paid_jobs import WANTED, FakeCaller, FakeRequest
from tests.support.scripted_server import Answer, Drip, ScriptedServer

pytestmark = pytest.mark.slow

KEY = "sk-live/very+secret&key"
REQUEST = Video2VideoRequest(model_id="m", prompt="a fox", init_video="https://example.com/a.mp4", track_id="dag-1")
OK = b"HTTP/1.1 200 OK\r\n"
SHORT = Timeouts(connect=60, read=1, total=1)
DRIPS = {
    "status line": Drip(b"HTTP/1.1 200 "),
    "header": Drip(OK + b"X-Long: "),
    "headers": Drip(OK, b"X-A: b\r\n"),
    "interim answers": Drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": Drip(OK + b"Content-Length: 100000\r\n\r\n"),
    "body without a length": Drip(OK + b"\r\n", b" "),
    "chunked body": Drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    "size of a chunk": Drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"0"),
}


@pytest.fixture(params=["requests", "aiohttp"])
def fetch(request: pytest.FixtureRequest) -> Fetcher:
    return Fetcher(request.param)


@contextmanager
def ends_soon() -> Iterator[None]:
    """The drips have no end, so a call without a limit would hang; the bound leaves time to a busy machine."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < 30


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_a_poll_ends_though_bytes_keep_coming(fetch: Fetcher, drip: Drip) -> None:
    with ScriptedServer(drip) as server, ends_soon(), pytest.raises(TransportError) as caught:
        fetch(server.url, "7", timeouts=SHORT)
    assert server.posts == 1
    if drip.start:  # aiohttp skips the lines of interim answers, and may see one of them half read
        assert "no complete response within 1 s" in str(caught.value)


@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_a_submit_ends_with_an_unknown_outcome_though_bytes_keep_coming(drip: Drip) -> None:
    with ScriptedServer(drip) as server, ends_soon(), blocking_client(server.url, timeouts=SHORT) as client:
        with pytest.raises(SubmissionUnknownError, match="no complete response within 1 s"):
            client.submit(REQUEST)
        assert server.posts == 1


def test_a_call_of_administration_ends_though_bytes_keep_coming() -> None:
    with (
        ScriptedServer(DRIPS["body"]) as server,
        blocking_client(server.url, timeouts=SHORT) as client,
        ends_soon(),
        pytest.raises(TransportError),
    ):
        client.system_details()


def test_bytes_that_keep_coming_over_tls(tmp_path: Path) -> None:
    """With the blocking client, whose limit is where the socket is read; aiohttp's knows nothing of TLS."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    options = {"timeouts": SHORT, "verify": str(tmp_path / "ca.pem")}
    with ScriptedServer(DRIPS["body"], tls=context) as server, ends_soon():
        with pytest.raises(TransportError, match="no complete response within 1 s"):
            Fetcher("requests")(server.url, "7", **options)
        with blocking_client(server.url, **options) as client, pytest.raises(SubmissionUnknownError):
            client.submit(REQUEST)


def test_a_proxy_whose_answer_drips_has_passed_on_nothing(fetch: Fetcher, monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n")) as proxy, ends_soon():
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        client = blocking_client("https://api.invalid", timeouts=SHORT, submit_policy=SubmitPolicy(attempts=1))
        with client, pytest.raises(EndpointUnreachableError):
            client.submit(REQUEST)
        with pytest.raises(TransportError):
            fetch("https://api.invalid", "7", timeouts=SHORT)
        assert {request.method for request in proxy.requests} == {"CONNECT"}


def test_a_slow_answer_that_comes_in_time_is_read(fetch: Fetcher) -> None:
    body = b'{"status": "processing", "id": 7}'
    slow = Drip(OK + b"Content-Length: 1033\r\n\r\n" + body, b" " * 100, pieces=10)
    with ScriptedServer(slow) as server:
        assert fetch(server.url, "7") == [Processing("7")]


def test_each_poll_on_a_connection_has_its_own_limit() -> None:
    """The second would be over before it began, were it the first one's."""
    slow = Drip(OK + b"Content-Length: 50\r\n\r\n{}", b" ", pieces=48)
    timeouts = Timeouts(connect=60, read=30, total=60)
    with ScriptedServer(Answer({"status": "processing"}), slow) as server, blocking_client(server.url) as client:
        client._timeouts = timeouts
        first = client.fetch("7")
        client._timeouts = Timeouts(connect=60, read=0.5, total=0.5)
        with pytest.raises(TransportError):
            client.fetch("7")
        assert isinstance(first, Processing)
        assert (server.posts, server.connections) == (2, 1)


# -- the lease of a submit --------------------------------------------------------------------------------------------


class World:
    """A paid job at a scripted server, with the real hook and the real ledger."""

    def __init__(self, patch: pytest.MonkeyPatch, server: ScriptedServer, hook: ModelsLabHook) -> None:
        set_modelslab(patch, server.url, key=KEY)
        self.store = MemoryLedgerStore()
        self.job = PaidJob(
            request=FakeRequest(),
            hook=hook,
            ledger=Ledger(self.store),
            destination=None,
            policy=LedgerPolicy(on_unknown_submission="resubmit"),
            attempt=AttemptId(),
            caller=FakeCaller(),
            known_fingerprint=WANTED,
        )


def test_a_submit_whose_answer_drips_has_ended_before_its_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else ``on_unknown_submission="resubmit"`` pays twice for a job that another process is still submitting."""
    monkeypatch.setattr(hook_module, "_LEASE_RESERVE", 20.0)
    refused = Answer({"status": "error", "message": "Rate limit"}, 429)
    hook = ModelsLabHook(timeouts=SHORT, submit_policy=SubmitPolicy(attempts=3, max_wait=1, base_wait=0.01))
    with ScriptedServer(refused, DRIPS["body"]) as server:
        world = World(monkeypatch, server, hook)
        with pytest.raises(SubmissionUnknownError):
            world.job.acquire()
        ended = time.time()
        assert server.posts == 2
    assert "0001-unknown" in world.store.entries
    claim = world.store.entries["0001-claim"]
    assert claim["expires_at"] == pytest.approx(ended + 20, abs=15)
    assert ended < claim["expires_at"]


def test_a_process_that_was_stopped_between_claim_and_submit_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    submit, hook = ModelsLabHook.submit, ModelsLabHook()

    def late(*args: object, **options: float) -> object:
        now = time.time
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", lambda: now() + hook.submit_lease())
            return submit(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelsLabHook, "submit", late)
    with ScriptedServer(Answer({"status": "processing", "id": 7})) as server:
        world = World(monkeypatch, server, hook)
        with pytest.raises(EndpointUnreachableError):
            world.job.acquire()
        assert server.posts == 0
    assert "0001-released" in world.store.entries


def test_a_submit_that_connects_too_late_sends_nothing() -> None:
    with ScriptedServer(Answer({"status": "processing", "id": 7})) as server, blocking_client(server.url) as client:
        with pytest.raises(EndpointUnreachableError):
            client.submit(REQUEST, ends_by=time.time() - 1)
        assert server.posts == 0


# -- redirects and headers --------------------------------------------------------------------------------------------

LOCATIONS = [
    b"http://[::1/",
    b"http://a..b.example/",
    b"http://h:99999/",
    b"caf\xe9\xff",
    b"",
    b"http:///x",
    b"//",
    b"x y",
]


@pytest.mark.parametrize("location", LOCATIONS)
def test_a_redirect_without_end_to_what_is_no_link_is_one_of_settings(fetch: Fetcher, location: bytes) -> None:
    head = b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\nContent-Length: 400000000\r\n\r\n"
    with ScriptedServer(Drip(head, b"x" * 65536, every=0)) as server, ends_soon():
        with pytest.raises(EndpointSettingsError):
            fetch(server.url, "7")
        with blocking_client(server.url) as client, pytest.raises(EndpointSettingsError):
            client.submit(REQUEST)
        assert server.posts == 2


@pytest.mark.parametrize("host", ["a..b.example", f"{'a' * 64}.example"])
def test_a_base_url_whose_host_cannot_be_one(fetch: Fetcher, host: str) -> None:
    with pytest.raises(TransportError):
        fetch(f"https://{host}", "7")
    with blocking_client(f"https://{host}") as client, pytest.raises(EndpointSettingsError):
        client.submit(REQUEST)


BODY = b'{"status": "processing", "id": 7}'
HEADS = {
    "reason": f"HTTP/1.1 200 {KEY}\r\n",
    "reason of a failure": f"HTTP/1.1 502 {KEY}\r\n",
    "header": f"HTTP/1.1 200 OK\r\nX-Key: {KEY}\r\n",
    "name of a header": f"HTTP/1.1 200 OK\r\n{KEY}: x\r\n",
    "no header": f"HTTP/1.1 200 OK\r\nnonsense {KEY}\r\nX-A: b\r\n",
    "cookie": f"HTTP/1.1 200 OK\r\nSet-Cookie: {KEY}[]={KEY}; Path=/\r\nSet-Cookie: a={KEY}\r\n",
    "time to wait": f"HTTP/1.1 429 No\r\nRetry-After: {KEY}\r\n",
    "length": f"HTTP/1.1 200 OK\r\nContent-Length: {KEY}\r\n",
    "encoding": f"HTTP/1.1 200 OK\r\nContent-Encoding: {KEY}\r\n",
    "status line": f"{KEY}\r\n",
    "version": f"HTTP/{KEY} 200 OK\r\n",
    "status": f"HTTP/1.1 {KEY} OK\r\n",
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_the_key_in_the_head_of_an_answer_is_nowhere(
    fetch: Fetcher, head: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = []
    with ScriptedServer(Drip(head.encode() + b"Connection: close\r\n\r\n" + BODY, b"")) as server:
        for _ in range(2):
            try:
                shown.append(repr(fetch(server.url, "7", key=KEY)))
            except TransportError as error:
                shown.append(f"{error} {error.to_event()}")
            with blocking_client(server.url, key=KEY, submit_policy=SubmitPolicy(attempts=1)) as client:
                try:
                    shown.append(repr(client.submit(REQUEST)))
                except Exception as error:  # noqa: BLE001 - whatever it is, it must not show the key
                    shown.append(repr(error))
        assert server.posts == 4
    assert len(shown) == 4
    assert KEY not in "\n".join([*shown, caplog.text, *capfd.readouterr()])


def test_an_answer_after_a_header_that_is_none_is_still_read() -> None:
    with ScriptedServer(Drip(HEADS["no header"].encode() + b"\r\n" + BODY, b"")) as server:
        (answer,) = Fetcher("requests")(server.url, "7")
    assert isinstance(answer, Processing | Finished | Failed)
