from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any, Protocol

import botocore.retries.standard
import pytest
import trustme

from airflow_provider_modelslab.api.errors import LandingError
from airflow_provider_modelslab.endpoint.results import s3_upload
from airflow_provider_modelslab.endpoint.results.s3_details import S3Attributes, S3Details
from airflow_provider_modelslab.endpoint.results.s3_upload import upload
from airflow_provider_modelslab.net import addresses
from tests.support.scripted_server import Answer, Drip, HangUp, ScriptedServer, Step


class Put(Protocol):
    def __call__(self, server: ScriptedServer, *, private: bool = False) -> None: ...


STORED = Answer(headers={"ETag": '"1"', "Content-Length": "0"}, body="")
BUSY = Answer(status=503, body="<Error><Code>SlowDown</Code><Message>later</Message></Error>")


@pytest.fixture
def look_ups(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What each look-up finds: addresses, or none for a host that is unknown; the last for all further ones.

    127.0.0.1 passes for a public address, 10.0.0.8 does not. Nobody waits before a repetition.
    """
    answers: list[list[str]] = [["127.0.0.1"]]

    def resolve(_host: str, _port: int) -> list[str]:
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        if not found:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return found

    monkeypatch.setattr(addresses, "resolve", resolve)
    monkeypatch.setattr(addresses, "is_public", lambda address: address != "10.0.0.8")
    monkeypatch.setattr(botocore.retries.standard.ExponentialBackoff, "delay_amount", lambda *_: 0)
    return answers


@pytest.fixture
def put(tmp_path: Path) -> Put:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip" * 5000)

    def store(server: ScriptedServer, *, private: bool = False) -> None:
        scheme, host = server.url.partition(":")[0], "127.0.0.1" if private else "s3.invalid"
        details = S3Details.of(
            S3Attributes(
                public_url="https://cdn.example",
                region_name="eu-central-1",
                endpoint_url=f"{scheme}://{host}:{server.port}/clips",
                aws_access_key_id="AKIA-OF-NOBODY",
                aws_secret_access_key="very-secret",
                image_directory="my clips",
            )
        )
        upload(details, "a.mp4", clip, "video/mp4", allow_private_addresses=private)

    return store


@pytest.mark.parametrize("steps", [[STORED], [BUSY, STORED], [HangUp(), STORED]])
def test_the_whole_file_goes_to_the_address_that_was_checked(
    look_ups: list[list[str]], put: Put, steps: list[Step]
) -> None:
    look_ups[:] = [["127.0.0.2", "127.0.0.1"]]  # nobody listens on the first
    with ScriptedServer(*steps) as server:
        put(server)
    assert len(server.requests) == len(steps)
    for request in server.requests:
        assert (request.method, request.path) == ("PUT", "/clips/my%20clips/a.mp4")
        assert request.body == b"clip" * 5000
        assert request.headers["host"] == f"s3.invalid:{server.port}"
        assert request.headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIA-OF-NOBODY/")
        assert (request.headers["x-amz-acl"], request.headers["content-type"]) == ("public-read", "video/mp4")


def test_an_address_that_became_private_gets_nothing_and_is_not_tried_again(
    look_ups: list[list[str]], put: Put
) -> None:
    look_ups[:] = [["127.0.0.1"], ["10.0.0.8"], ["127.0.0.1"]]
    with ScriptedServer(BUSY, STORED) as server:
        with pytest.raises(
            LandingError, match=r"was not started: the host s3.invalid has the address 10\.0\.0\.8"
        ) as caught:
            put(server)
        assert len(server.requests) == 1
    assert "--allow-private-addresses" in caught.value.message


def test_a_name_that_is_not_found_for_a_moment_is_looked_up_again(look_ups: list[list[str]], put: Put) -> None:
    look_ups[:] = [[], ["127.0.0.1"]]
    with ScriptedServer(STORED) as server:
        put(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("found", "steps", "problem"),
    [
        ([], [STORED], "EndpointConnectionError"),
        (["127.0.0.2"], [STORED], "EndpointConnectionError"),
        (["127.0.0.1"], [HangUp()], "EndpointConnectionError"),
        (["127.0.0.1"], [Answer(body="<a/>", cut=1)], "HTTPClientError"),
    ],
)
def test_what_boto_gives_up_is_a_failed_upload(
    look_ups: list[list[str]], put: Put, found: list[str], steps: list[Any], problem: str
) -> None:
    look_ups[:] = [found]
    with ScriptedServer(*steps) as server, pytest.raises(LandingError) as caught:
        put(server)
    assert caught.value.message == f"the upload to bucket 'clips' failed: {problem}"


MOVED = "<Error><Code>{}</Code><Message>elsewhere</Message></Error>"


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(
    "redirect",
    [
        Answer(status=301, body=MOVED.format("PermanentRedirect")),
        Answer(status=307, body=MOVED.format("TemporaryRedirect"), headers={"Location": "/elsewhere"}),
        Answer(status=301, body=""),
        Answer(status=400, body=MOVED.format("IllegalLocationConstraintException")),
        Answer(status=301, body=MOVED.format("PermanentRedirect"), headers={"x-amz-bucket-region": "eu-west-1"}),
        Answer(status=301, body=MOVED.format("PermanentRedirect"), headers={"x-amz-bucket-region": "\xff /"}),
    ],
)
def test_a_service_that_redirects_for_ever_is_refused(
    look_ups: list[list[str]], put: Put, redirect: Answer, private: bool
) -> None:
    with ScriptedServer(redirect) as server:
        with pytest.raises(LandingError):
            put(server, private=private)
        assert len(server.requests) <= 4


DRIPS = {
    "headers": Drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"),
    "interim answers": Drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "body": Drip(b"HTTP/1.1 403 No\r\nContent-Length: 100000\r\n\r\n"),
    "chunk extensions": Drip(b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n5;ext="),
}


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("drip", DRIPS.values(), ids=DRIPS)
def test_a_service_that_drips_is_left_at_the_deadline(
    look_ups: list[list[str]], put: Put, drip: Drip, private: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_upload, "_TOTAL_S", 0.4)
    with ScriptedServer(drip) as server, pytest.raises(LandingError, match="no complete response within"):
        put(server, private=private)


def test_an_answer_without_end_is_left(look_ups: list[list[str]], put: Put) -> None:
    flood = Drip(b"HTTP/1.1 403 No\r\n\r\n", b"x" * 60_000, every=0)
    with ScriptedServer(flood) as server, pytest.raises(LandingError, match=r"more than 1.04858e\+06 bytes"):
        put(server)


def test_hosts_of_the_own_network_are_reached_when_it_is_allowed(look_ups: list[list[str]], put: Put) -> None:
    with ScriptedServer(BUSY, STORED) as server:
        put(server, private=True)
    assert [request.body for request in server.requests] == [b"clip" * 5000] * 2


def test_a_refusal_is_read_from_the_answer(look_ups: list[list[str]], put: Put) -> None:
    denied = Answer(status=403, body="<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
    with ScriptedServer(denied) as server, pytest.raises(LandingError, match=r"was refused \(AccessDenied\)"):
        put(server)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("name", "stored"), [("s3.invalid", True), ("other.invalid", False)])
def test_tls_asks_for_the_certificate_of_the_name(
    look_ups: list[list[str]], put: Put, name: str, stored: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    with ScriptedServer(STORED, tls=context) as server:
        if stored:
            put(server)
        else:
            with pytest.raises(LandingError, match="failed: SSLError"):
                put(server)
        assert len(server.requests) == stored
