"""What is sent is what boto would send, what fails is boto's to repeat, and whoever listens hears of every call."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest, AWSResponse
from botocore.client import BaseClient
from botocore.compat import HTTPHeaders
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError

from airflow_provider_modelslab.storage.boto_session import make_cheaper, send_small_bodies_at_once
from airflow_provider_modelslab.storage.extra_args import checked_extra_args, send_extra_args
from airflow_provider_modelslab.storage.repeated_calls import repeat_cheaply
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.s3 import S3Server, listening

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

AWS, COMPATIBLE = S3Profile(region="eu-west-1"), S3Profile(region="us-east-1", endpoint_url="https://s3.example.com")
LARGE = bytes(300 * 1024)
SHA256 = base64.b64encode(hashlib.sha256(b"b").digest()).decode()
ENTRY = {"Body": b"a", "ContentType": "application/json", "IfNoneMatch": "*"}
RESULT = {"Body": bytearray(b"b"), "ContentType": "video/mp4", "Metadata": {"sha256": "0" * 64}}
OF_THE_CALL = {"x-amz-date", "authorization", "amz-sdk-invocation-id", "amz-sdk-request", "x-amz-content-sha256"}


def client_of(profile: S3Profile, *, repeats: bool = True, token: str | None = None, **extra_args: Any) -> S3Client:
    session = boto3.session.Session("AKIA", "secret", token, region_name=profile.region)
    make_cheaper(session)
    client = session.client("s3", endpoint_url=profile.endpoint_url, config=profile.client_config())
    send_extra_args(client, checked_extra_args(extra_args))
    send_small_bodies_at_once(client)
    if repeats:
        repeat_cheaply(client)
    return client


class Wire:
    """Stands for the store: answers requests, or fails to, and keeps them."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.outcomes: list[int | Exception] = []
        self.headers: dict[str, str] = {"etag": '"e"', "x-amz-version-id": "v"}

    def answer(self, request: Any) -> Any:
        self.requests.append(request)
        outcome = self.outcomes.pop(0) if self.outcomes else 200
        if isinstance(outcome, Exception):
            raise outcome
        code = {412: "PreconditionFailed", 503: "SlowDown", 403: "AccessDenied", 301: "PermanentRedirect"}.get(outcome)
        body = f"<Error><Code>{code}</Code></Error>".encode() if code else b"start" if request.method == "GET" else b""
        headers: Any = HTTPHeaders.from_dict({**self.headers, "content-length": str(len(body))})
        return AWSResponse(request.url, outcome, headers, Raw(body))

    def sent(self, at: int = -1) -> dict[str, str]:
        """The headers of a request."""
        pairs = {name.lower(): value for name, value in self.requests[at].headers.items()}
        return {name: value.decode() if isinstance(value, bytes) else str(value) for name, value in pairs.items()}


class Raw(BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


@contextmanager
def on(client: S3Client) -> Iterator[Wire]:
    wire, session = Wire(), client._endpoint.http_session  # type: ignore[attr-defined]  # the last thing before the wire
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "send", wire.answer)
        yield wire


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operations whose requests boto has built."""
    operations: list[str] = []
    build = BaseClient._convert_to_request_dict  # type: ignore[attr-defined]  # not in the stubs

    def note(client: Any, api_params: Any, operation_model: Any, *args: Any, **kwargs: Any) -> Any:
        operations.append(operation_model.name)
        return build(client, api_params, operation_model, *args, **kwargs)

    monkeypatch.setattr(BaseClient, "_convert_to_request_dict", note)
    return operations


@pytest.mark.parametrize("token", [None, "a-token"])
@pytest.mark.parametrize(
    "extra_args", [{}, {"ServerSideEncryption": "aws:kms", "Metadata": {"team": "a"}, "RequestPayer": "requester"}]
)
@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("put_object", ENTRY),
        ("put_object", RESULT),
        ("put_object", {**RESULT, "ContentMD5": "kA=="}),
        ("put_object", {**RESULT, "ChecksumSHA256": SHA256}),
        ("put_object", {"Body": LARGE}),
        ("get_object", {"Range": "bytes=0-63"}),
    ],
)
@pytest.mark.parametrize("profile", [AWS, COMPATIBLE])
def test_a_repeated_request_is_the_one_of_boto(
    profile: S3Profile,
    operation: str,
    arguments: dict[str, Any],
    extra_args: dict[str, Any],
    token: str | None,
    built: list[str],
) -> None:
    sent = []
    for repeats in (True, False):
        client = client_of(profile, repeats=repeats, token=token, **extra_args)
        with on(client) as wire:
            for key in ("first.json", "a b/ü+~/../c%20.json"):
                getattr(client, operation)(Bucket="clips", Key=key, **arguments)
        sent.append((wire.requests[-1].method, wire.requests[-1].url, wire.sent(), wire.requests[-1].body))
        client.close()
    (method, url, ours, body), (_, _, boto, boto_body) = sent
    assert len(built) == 3
    assert (method, url) == sent[1][:2]
    if "x-amz-trailer" in boto or any(name.startswith("x-amz-checksum-crc") for name in boto):
        # What boto computes by itself, in a trailer; one of SHA-256 takes its place.
        assert ours.pop("x-amz-checksum-sha256") == base64.b64encode(hashlib.sha256(body).digest()).decode()
        assert ours.pop("x-amz-sdk-checksum-algorithm") == "SHA256"
        its_own = {"x-amz-trailer", "x-amz-decoded-content-length", "content-encoding", "transfer-encoding"}
        boto = {name: value for name, value in boto.items() if "checksum" not in name and name not in its_own}
        boto["content-length"] = str(len(body))
    else:
        assert bytes(body or b"") == (boto_body.read() if isinstance(boto_body, BytesIO) else bytes(boto_body or b""))
    host = ours.pop("host")
    assert host == urlsplit(url).netloc
    assert {name: ours[name] for name in ours.keys() - OF_THE_CALL} == {
        name: boto[name] for name in boto.keys() - OF_THE_CALL
    }
    assert ours["x-amz-content-sha256"] == hashlib.sha256(body or b"").hexdigest()


@pytest.mark.parametrize("token", [None, "a-token"])
@pytest.mark.parametrize("profile", [AWS, COMPATIBLE])
def test_a_repeated_request_is_signed_as_botocore_signs_it(
    profile: S3Profile, token: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of(profile, token=token, StorageClass="STANDARD_IA", Metadata={"team": "a  b"})
    with on(client) as wire:
        for key in ("first", "second one"):
            client.put_object(Bucket="clips", Key=key, **RESULT)  # type: ignore[arg-type]
    headers = wire.sent()
    signed = headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "x-amz-meta-sha256", "x-amz-meta-team", "x-amz-storage-class", "x-amz-date"} <= set(signed)
    again = AWSRequest("PUT", wire.requests[-1].url, {name: headers[name] for name in signed}, bytes(RESULT["Body"]))
    again.context = {"timestamp": headers["x-amz-date"], "client_config": client.meta.config}
    auth: Any = S3SigV4Auth(client._get_credentials(), "s3", profile.region)  # type: ignore[attr-defined]
    assert auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again) in headers["authorization"]
    client.close()


def test_credentials_that_are_new_sign_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = client_of(COMPATIBLE)
    with on(client) as wire:
        for access, secret in (("AKIA", "secret"), ("AKIA", "secret"), ("AKIB", "other")):
            client._get_credentials().access_key, client._get_credentials().secret_key = access, secret
            client.put_object(Bucket="clips", Key="a", **ENTRY)
    assert [f"Credential={key}/" in wire.sent(at)["authorization"] for at, key in ((1, "AKIA"), (2, "AKIB"))] == [
        True,
        True,
    ]
    client.close()


def test_the_answer_is_the_one_of_boto() -> None:
    client = client_of(COMPATIBLE)
    with on(client) as wire:
        answers: list[Any] = [client.put_object(Bucket="clips", Key=key, **ENTRY) for key in "ab"]  # type: ignore[arg-type]
        starts = [client.get_object(Bucket="clips", Key=key, Range="bytes=0-4") for key in "ab"]
    assert answers[0] == answers[1]
    assert (answers[1]["ETag"], answers[1]["VersionId"]) == ('"e"', "v")
    assert [start["Body"].read() for start in starts] == [b"start"] * 2
    assert len(wire.requests) == 4
    client.close()


@pytest.mark.parametrize(
    "failures",
    [
        [503],
        [503, 503],
        [EndpointConnectionError(endpoint_url="https://s3.example.com")],
        [ConnectionClosedError(endpoint_url="https://s3.example.com"), 503],
    ],
)
def test_boto_repeats_what_failed_and_nothing_is_sent_twice_for_it(failures: list[int | Exception]) -> None:
    client = client_of(COMPATIBLE)
    with on(client) as wire:
        client.put_object(Bucket="clips", Key="first", **ENTRY)  # type: ignore[arg-type]
        wire.outcomes = list(failures)
        answer = client.put_object(Bucket="clips", Key="second", **ENTRY)  # type: ignore[arg-type]
        assert answer["ResponseMetadata"]["RetryAttempts"] == len(failures)
    assert len([request for request in wire.requests if request.url.endswith("second")]) == len(failures) + 1
    client.close()


def test_a_refusal_is_raised_as_ever() -> None:
    client = client_of(COMPATIBLE)
    with on(client) as wire:
        client.put_object(Bucket="clips", Key="first", **ENTRY)  # type: ignore[arg-type]
        wire.outcomes = [412]
        with pytest.raises(ClientError) as caught:
            client.put_object(Bucket="clips", Key="second", **ENTRY)  # type: ignore[arg-type]
    assert caught.value.response["Error"]["Code"] == "PreconditionFailed"
    assert len(wire.requests) == 2
    client.close()


@pytest.mark.parametrize(("status", "is_built_again"), [(403, True), (301, True), (412, False)])
def test_after_some_refusals_the_request_is_built_again(status: int, is_built_again: bool, built: list[str]) -> None:
    client = client_of(COMPATIBLE)
    with on(client) as wire:
        client.put_object(Bucket="clips", Key="first", **ENTRY)  # type: ignore[arg-type]
        wire.outcomes = [status]
        with pytest.raises(ClientError):
            client.put_object(Bucket="clips", Key="second", **ENTRY)  # type: ignore[arg-type]
        built.clear()
        client.put_object(Bucket="clips", Key="third", **ENTRY)  # type: ignore[arg-type]
    assert bool(built) is is_built_again
    client.close()


@pytest.mark.parametrize("event", ["provide-client-params", "before-call", "before-send", "before-sign", "after-call"])
def test_a_handler_of_others_hears_of_every_call(event: str) -> None:
    client = client_of(COMPATIBLE)
    heard: list[str] = []

    def handler(event_name: str, **_: Any) -> None:
        heard.append(event_name)

    with on(client) as wire:
        client.put_object(Bucket="clips", Key="first", **ENTRY)  # type: ignore[arg-type]
        with listening(client, f"{event}.s3", handler):
            for key in ("second", "third"):
                client.put_object(Bucket="clips", Key=key, **ENTRY)  # type: ignore[arg-type]
        client.put_object(Bucket="clips", Key="fourth", **ENTRY)  # type: ignore[arg-type]
    assert heard == [f"{event}.s3.PutObject"] * 2
    assert len(wire.requests) == 4
    client.close()


def test_a_handler_that_is_switched_off_is_no_listener(built: list[str]) -> None:
    client = client_of(COMPATIBLE)
    mock = Mock(enabled=False, return_value=None)
    with on(client), listening(client, "before-send.s3", mock):
        for key in ("a", "b"):
            client.put_object(Bucket="clips", Key=key, **ENTRY)  # type: ignore[arg-type]
        mock.reset_mock()
        client.put_object(Bucket="clips", Key="c", **ENTRY)  # type: ignore[arg-type]
        assert (mock.call_count, len(built)) == (0, 1)
        mock.enabled = True
        client.put_object(Bucket="clips", Key="d", **ENTRY)  # type: ignore[arg-type]
        assert (mock.call_count, len(built)) == (1, 2)
    client.close()


def test_a_wrapper_around_botocore_sees_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    client = client_of(COMPATIBLE)
    call = BaseClient._make_api_call  # type: ignore[attr-defined]  # not in the stubs
    seen: list[str] = []

    def traced(self: Any, operation: str, params: Any) -> Any:
        seen.append(operation)
        return call(self, operation, params)

    with on(client):
        client.put_object(Bucket="clips", Key="first", **ENTRY)  # type: ignore[arg-type]
        monkeypatch.setattr(BaseClient, "_make_api_call", traced)
        for key in ("second", "third"):
            client.put_object(Bucket="clips", Key=key, **ENTRY)  # type: ignore[arg-type]
    assert seen == ["PutObject"] * 2
    client.close()


@pytest.mark.parametrize(
    "arguments",
    [
        {"Body": BytesIO(b"a")},
        {**ENTRY, "ACL": "private"},
        {**ENTRY, "Metadata": {"other": "1"}},
        {**ENTRY, "Key": "/a"},
    ],
)
def test_other_calls_are_built_each_time(arguments: dict[str, Any], built: list[str]) -> None:
    client = client_of(COMPATIBLE)
    with on(client):
        for key in ("a", "b"):
            client.put_object(**{"Bucket": "clips", "Key": key, **arguments})
    assert built == ["PutObject"] * 2
    client.close()


def test_a_store_that_is_signed_for_in_another_way_gets_boto_s_requests(built: list[str]) -> None:
    session = boto3.session.Session("AKIA", "secret", region_name="us-east-1")
    make_cheaper(session)
    client = session.client("s3", endpoint_url="https://s3.example.com", config=Config(signature_version="s3"))
    repeat_cheaply(client)
    with on(client):
        for key in ("a", "b"):
            client.put_object(Bucket="clips", Key=key, **ENTRY)  # type: ignore[arg-type]
    assert built == ["PutObject"] * 2
    client.close()


def test_a_real_store_takes_them(s3_server: S3Server, bucket: str) -> None:
    session = boto3.session.Session(s3_server.access_key, s3_server.secret_key, region_name=s3_server.region)
    client = session.client("s3", endpoint_url=s3_server.endpoint_url, verify=str(s3_server.ca_path))
    repeat_cheaply(client)
    for key in ("a", "b c", "ü"):
        client.put_object(Bucket=bucket, Key=key, Body=key.encode(), Metadata={"sha256": "0" * 64})
        start = client.get_object(Bucket=bucket, Key=key, Range="bytes=0-9")
        assert (start["Body"].read(), start["Metadata"]) == (key.encode(), {"sha256": "0" * 64})
    client.put_object(Bucket=bucket, Key="d", Body=b"1", IfNoneMatch="*")
    for key in ("d", "a"):
        with pytest.raises(ClientError):
            client.put_object(Bucket=bucket, Key=key, Body=b"2", IfNoneMatch="*")
    client.close()
