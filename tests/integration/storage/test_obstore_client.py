"""Small calls through obstore do what boto's do, and boto takes over wherever obstore cannot."""

from __future__ import annotations

import logging
import os
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import md5, sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage import obstore_client
from airflow_provider_modelslab.storage.obstore_client import (
    FAILURES_IN_A_ROW,
    MOST_BYTES,
    ObstoreClient,
    read_body,
    with_obstore,
)
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import counted
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Found = TypeVar("Found")
InThread = Callable[[Callable[[], Found]], Found]


@pytest.fixture
def in_thread() -> Iterator[InThread[Any]]:
    """Call something outside of the main thread, as a batch does."""
    with ThreadPoolExecutor(1) as pool:
        yield lambda call: pool.submit(call).result()


@pytest.fixture
def session(any_server: S3Server) -> Any:
    return boto3.session.Session(any_server.access_key, any_server.secret_key, region_name=any_server.region)


@pytest.fixture
def client(any_server: S3Server, any_s3: S3Client, session: Any) -> S3Client:
    made = with_obstore(any_s3, session, verify=str(any_server.ca_path), path_addressing=True)
    assert isinstance(made, ObstoreClient)
    return made


def test_what_is_put_is_what_boto_reads(
    client: S3Client, any_s3: S3Client, any_bucket: str, in_thread: InThread[Any]
) -> None:
    with counted(any_s3) as called:
        answer = in_thread(
            lambda: client.put_object(
                Bucket=any_bucket,
                Key="a/b.json",
                Body=b'{"a": 1}',
                ContentType="application/json",
                Metadata={"sha256": "abc"},
            )
        )
        read = in_thread(lambda: read_body(client, any_bucket, "a/b.json"))
    assert called == [], "boto was called"
    found = any_s3.get_object(Bucket=any_bucket, Key="a/b.json")
    body = found["Body"].read()
    assert read == body == b'{"a": 1}'
    assert (found["ContentType"], found["Metadata"], found["ETag"]) == (
        "application/json",
        {"sha256": "abc"},
        answer["ETag"],
    )


@pytest.mark.parametrize("mark", [*"_.=@+:,/-", "//", "/./", "/../", "%", "~", "?", "#", " ", "ä"])
def test_any_key_is_the_same_key(
    client: S3Client, any_s3: S3Client, any_bucket: str, in_thread: InThread[Any], mark: str
) -> None:
    key = f"keys/x{mark}y"
    in_thread(lambda: client.put_object(Bucket=any_bucket, Key=key, Body=b"one"))
    listed = any_s3.list_objects_v2(Bucket=any_bucket, Prefix="keys/").get("Contents", [])
    assert [item["Key"] for item in listed] == [key]
    assert in_thread(lambda: read_body(client, any_bucket, key)) == b"one"


@pytest.mark.parametrize(("asked", "found"), [("bytes=0-2", b"012"), ("bytes=7-99", b"789"), ("bytes=-3", b"789")])
def test_a_part_of_an_object(
    client: S3Client, any_bucket: str, in_thread: InThread[Any], asked: str, found: bytes
) -> None:
    client.put_object(Bucket=any_bucket, Key="ten", Body=b"0123456789")
    assert in_thread(lambda: read_body(client, any_bucket, "ten", asked)) == found


def test_the_second_of_two_conditional_puts_is_refused_with_botos_error(
    client: S3Client, any_bucket: str, in_thread: InThread[Any]
) -> None:
    def put() -> Any:
        return client.put_object(Bucket=any_bucket, Key="claim", Body=b"1", IfNoneMatch="*")

    in_thread(put)
    with pytest.raises(ClientError) as refused:
        in_thread(put)
    assert refused.value.response["Error"]["Code"] == "PreconditionFailed"


def test_of_many_claims_at_once_one_wins(client: S3Client, any_bucket: str) -> None:
    store = S3LedgerStore(client, S3Uri(any_bucket, "ledger"))
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: store.create("0001-claim", {}), range(8)))
    assert sum(won) == 1


@pytest.mark.parametrize(("bucket", "code"), [(None, "NoSuchKey"), ("no-such-bucket-at-all", "NoSuchBucket")])
def test_what_is_missing_has_botos_error(
    client: S3Client, any_bucket: str, in_thread: InThread[Any], bucket: str | None, code: str
) -> None:
    for _ in range(FAILURES_IN_A_ROW + 1):
        with pytest.raises(ClientError) as missing:
            in_thread(lambda: read_body(client, bucket or any_bucket, "no"))
        assert missing.value.response["Error"]["Code"] == code


def test_a_put_with_its_sha256_tells_it_and_one_with_another_is_left_to_the_store(
    client: S3Client, any_s3: S3Client, any_bucket: str, in_thread: InThread[Any]
) -> None:
    checksum = b64encode(sha256(b"video").digest()).decode()
    with counted(any_s3) as called:
        answer = in_thread(
            lambda: client.put_object(Bucket=any_bucket, Key="a", Body=b"video", ChecksumSHA256=checksum)
        )
    assert called == []
    assert answer["ChecksumSHA256"] == checksum
    with counted(any_s3) as called, suppress(ClientError):  # moto takes it
        in_thread(lambda: client.put_object(Bucket=any_bucket, Key="b", Body=b"other", ChecksumSHA256=checksum))
    assert called == ["PutObject"]


def test_what_is_not_for_obstore(client: S3Client, any_s3: S3Client, any_bucket: str, in_thread: InThread[Any]) -> None:
    put: dict[str, Any] = {"Bucket": any_bucket, "Key": "a", "Body": b"video"}
    digests: dict[str, Any] = {
        "ContentMD5": b64encode(md5(b"video", usedforsecurity=False).digest()).decode(),
        "ChecksumSHA256": b64encode(sha256(b"video").digest()).decode(),
    }
    calls: list[Callable[[], Any]] = [
        lambda: in_thread(lambda: client.put_object(**{**put, "Body": bytes(MOST_BYTES + 1)})),
        lambda: in_thread(lambda: client.put_object(**put, **digests)),  # asks which of them is verified
        lambda: in_thread(lambda: client.put_object(**put, CacheControl="no-cache")),
        lambda: client.put_object(**put),  # in the main thread
    ]
    with counted(any_s3) as called:
        for call in calls:
            call()
    assert called == ["PutObject"] * len(calls)


def test_get_object_is_botos_whose_answer_says_more(
    client: S3Client, any_bucket: str, in_thread: InThread[Any]
) -> None:
    client.put_object(Bucket=any_bucket, Key="a", Body=b"video", ContentType="video/mp4")
    found = in_thread(lambda: client.get_object(Bucket=any_bucket, Key="a", Range="bytes=1-2"))
    assert (found["Body"].read(), found["ContentRange"], found["ContentType"]) == (b"id", "bytes 1-2/5", "video/mp4")


def test_a_forked_process_uses_boto(
    client: S3Client, any_s3: S3Client, any_bucket: str, in_thread: InThread[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with counted(any_s3) as called:
        in_thread(lambda: client.put_object(Bucket=any_bucket, Key="a", Body=b""))
    assert called == ["PutObject"]


def test_a_store_that_obstore_cannot_reach_is_left_to_boto(
    any_s3: S3Client, any_bucket: str, in_thread: InThread[Any], caplog: pytest.LogCaptureFixture
) -> None:
    made: list[str] = []

    def fail(bucket: str, _checksum: bool) -> Any:
        made.append(bucket)
        raise RuntimeError("AKIASECRET")

    client = ObstoreClient(any_s3, fail)
    with caplog.at_level(logging.INFO, obstore_client.__name__):
        for number in range(FAILURES_IN_A_ROW + 3):
            in_thread(partial(client.put_object, Bucket=any_bucket, Key=f"{number}", Body=b"1"))
    assert len(made) == FAILURES_IN_A_ROW
    assert len(caplog.records) == 1
    assert "AKIASECRET" not in caplog.text
    assert any_s3.list_objects_v2(Bucket=any_bucket)["KeyCount"] == FAILURES_IN_A_ROW + 3


def test_credentials_are_read_when_they_are_needed(
    any_server: S3Server, any_s3: S3Client, any_bucket: str, session: Any, in_thread: InThread[Any]
) -> None:
    read: list[str] = []

    class Renewed:
        def get_frozen_credentials(self) -> Any:
            read.append(threading.current_thread().name)
            return session.get_credentials().get_frozen_credentials()

    class Session:
        _session = session._session

        def get_credentials(self) -> Any:
            return Renewed()

    client = with_obstore(any_s3, Session(), verify=str(any_server.ca_path), path_addressing=True)
    assert read == []
    in_thread(lambda: client.put_object(Bucket=any_bucket, Key="a", Body=b""))
    assert read
    assert any_server.secret_key not in repr(vars(client))


def test_without_credentials_region_or_ca_file_the_client_stays_botos(
    any_server: S3Server, any_s3: S3Client, session: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert with_obstore(any_s3, session, verify=str(tmp_path / "gone.pem")) is any_s3
    monkeypatch.setattr(session, "get_credentials", lambda: None)
    assert with_obstore(any_s3, session, verify=str(any_server.ca_path)) is any_s3


def test_without_obstore_the_client_stays_botos(
    any_s3: S3Client, session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    assert with_obstore(any_s3, session) is any_s3
