"""Inputs of every kind, made into links that a stranger can read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest
import requests

from airflow_provider_modelslab.api.errors import (
    InputRefusedError,
    InvalidRequestError,
    StorageConfigurationError,
    TransportError,
)
from airflow_provider_modelslab.storage.clip_head import clip_size
from airflow_provider_modelslab.storage.inputs import PreparedInput, prepare_input
from airflow_provider_modelslab.storage.signing import LinkSigner
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import S3Server, keys_of, refusing
from tests.support.samples import framed_mp4, small_gif, small_mp4

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MP4, GIF = small_mp4(), small_gif()
Prepare = Callable[..., PreparedInput]


def no_s3() -> NoReturn:
    raise AssertionError("an http link needs no S3 client")


@pytest.fixture
def prepare(s3: S3Client, bucket: str) -> Prepare:
    def call(init_video: str, **values: object) -> PreparedInput:
        arguments: dict[str, object] = {"staging": S3Uri(bucket, "inputs"), **values}
        return prepare_input(init_video, lambda: s3, **arguments)  # type: ignore[arg-type]

    return call


def read(prepared: PreparedInput, s3: S3Client, server: S3Server) -> bytes:
    url = prepared.link(LinkSigner(lambda: s3), 60).url
    answer = requests.get(url, verify=str(server.ca_path), timeout=60)
    answer.raise_for_status()
    return answer.content


def test_a_link_goes_through_as_it_is(files: FilesServer) -> None:
    link = files.add("/in.gif", ServedFile(GIF, content_type="text/plain")) + "?signature=abc"
    prepared = prepare_input(f" {link} ", no_s3, staging=None)
    assert prepared == PreparedInput(link, link.partition("?")[0], "gif")
    assert "abc" not in repr(prepared)
    assert files.seen[0].headers["Range"] == "bytes=0-4095"
    assert "Authorization" not in files.seen[0].headers


def test_a_host_without_ranges_is_read_no_further_than_needed(files: FilesServer) -> None:
    link = files.add("/in.mp4", ServedFile(MP4 + b"\0" * 10_000_000, length=False))
    assert prepare_input(link, no_s3, staging=None).kind == "mp4"


def test_links_are_not_looked_at_when_told_so(files: FilesServer) -> None:
    link = files.url("/nothing-here")
    assert prepare_input(link, no_s3, staging=None, check_links=False).kind is None
    assert files.seen == []


def test_the_size_of_a_clip_is_read_when_it_is_asked_for(
    prepare: Prepare, s3: S3Client, bucket: str, files: FilesServer, tmp_path: Path
) -> None:
    """The index of this clip is behind more media than is read to see what it is."""
    clip = small_mp4(frames=40)
    assert clip.index(b"moov") > 4096
    path = tmp_path / "in.mp4"
    path.write_bytes(clip)
    s3.put_object(Bucket=bucket, Key="in.mp4", Body=clip)
    for place in (f"s3://{bucket}/in.mp4", str(path), path.as_uri(), files.add("/in.mp4", ServedFile(clip))):
        assert prepare(place, with_size=True).size == (64, 64), place
        assert prepare(place).size is None
    assert clip_size(f" s3://{bucket}/in.mp4", lambda: s3) == (64, 64)


def test_without_ranges_the_size_is_known_where_it_is_at_the_beginning(files: FilesServer) -> None:
    for clip, size in ((small_mp4(frames=40), None), (small_mp4(faststart=True), (64, 64))):
        link = files.add("/in.mp4", ServedFile(clip, length=False))
        assert prepare_input(link, no_s3, staging=None, with_size=True).size == size


def test_a_clip_that_cannot_be_read_has_no_size(s3: S3Client, bucket: str) -> None:
    for place in (f"s3://{bucket}/none.mp4", "/no/file.mp4", "http://127.0.0.1:9/in.mp4", "s3://"):
        assert clip_size(place, lambda: s3) is None


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (ServedFile(failures=[404]), "HTTP 404"),
        (ServedFile(failures=[403]), "HTTP 403"),
        (ServedFile(b"<html><title>Sign in</title>"), "it is an HTML page"),
        (ServedFile(b""), "it is nothing (0 bytes)"),
        (ServedFile(b"\x1a\x45\xdf\xa3" + b"\0" * 99), "WebM"),
    ],
)
def test_a_link_that_is_no_video(files: FilesServer, file: ServedFile, says: str) -> None:
    link = files.add("/in.mp4", file)
    with pytest.raises(InvalidRequestError) as caught:
        prepare_input(f"{link}?signature=abc", no_s3, staging=None)
    [problem] = caught.value.fields["init_video"]
    assert says in problem
    assert link in problem
    assert "abc" not in problem


def test_a_host_that_refuses_connections() -> None:
    with pytest.raises(InvalidRequestError, match="Connection refused"):
        prepare_input("http://127.0.0.1:9/in.mp4", no_s3, staging=None)


def test_trouble_that_passes(files: FilesServer) -> None:
    link = files.add("/in.mp4", ServedFile(MP4, failures=[503, 429], retry_after="0.01"))
    assert prepare_input(link, no_s3, staging=None).kind == "mp4"


def test_trouble_that_stays_is_no_fault_of_the_request(files: FilesServer) -> None:
    link = files.add("/in.mp4", ServedFile(failures=[503] * 9, retry_after="0.01"))
    with pytest.raises(TransportError, match="HTTP 503"):
        prepare_input(link, no_s3, staging=None)
    assert len(files.seen) == 3


def test_an_s3_object_is_presigned(prepare: Prepare, s3: S3Client, bucket: str, s3_server: S3Server) -> None:
    s3.put_object(Bucket=bucket, Key="a b/in.mp4", Body=MP4)
    prepared = prepare(f"s3://{bucket}/a b/in.mp4", staging=None)
    assert (prepared.source, prepared.kind) == (f"s3://{bucket}/a b/in.mp4", "mp4")
    assert read(prepared, s3, s3_server) == MP4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3://{bucket}/absent.mp4", "there is no object s3://{bucket}/absent.mp4"),
        ("s3://no-such-bucket-here/in.mp4", "the bucket 'no-such-bucket-here'"),
        ("s3://{bucket}/empty.mp4", "is empty"),
        ("s3://{bucket}/text.mp4", "JSON"),
        ("s3://{bucket}", "expected s3://bucket/key"),
        ("s3://{bucket}/folder/", "expected s3://bucket/key"),
        ("s3:///in.mp4", "expected s3://bucket/key"),
        ("gs://{bucket}/in.mp4", "gs:// is not supported"),
    ],
)
def test_an_s3_input_that_cannot_be_used(prepare: Prepare, s3: S3Client, bucket: str, text: str, says: str) -> None:
    s3.put_object(Bucket=bucket, Key="empty.mp4", Body=b"")
    s3.put_object(Bucket=bucket, Key="text.mp4", Body=b'{"a": 1}')
    with pytest.raises(InvalidRequestError) as caught:
        prepare(text.format(bucket=bucket))
    assert says.format(bucket=bucket) in caught.value.fields["init_video"][0]


def test_an_s3_input_without_permission(prepare: Prepare, s3: S3Client, bucket: str) -> None:
    with (
        refusing(s3, "GetObject", 403, "AccessDenied"),
        pytest.raises(InputRefusedError, match=r"grant s3:GetObject"),
    ):
        prepare(f"s3://{bucket}/in.mp4")


def test_an_s3_input_whose_key_may_not_be_used(prepare: Prepare, s3: S3Client, bucket: str) -> None:
    message = "User: arn:aws:iam::1:user/a is not authorized to perform: kms:Decrypt"
    with (
        refusing(s3, "GetObject", 403, "AccessDenied", message),
        pytest.raises(InputRefusedError, match=r"AccessDenied.*grant kms:Decrypt"),
    ):
        prepare(f"s3://{bucket}/in.mp4")


def test_an_archived_object_has_to_be_restored_first(prepare: Prepare, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="old.mp4", Body=MP4, StorageClass="GLACIER")
    with pytest.raises(InvalidRequestError, match=r"old\.mp4 is archived .*GLACIER.*restore it"):
        prepare(f"s3://{bucket}/old.mp4")


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_credentials_that_are_refused_are_no_fault_of_the_object(
    prepare: Prepare, s3: S3Client, bucket: str, code: str
) -> None:
    with (
        refusing(s3, "GetObject", 403, code),
        pytest.raises(StorageConfigurationError, match=rf"{code}.*credentials of the AWS connection") as caught,
    ):
        prepare(f"s3://{bucket}/in.mp4")
    assert not isinstance(caught.value, InputRefusedError)


@pytest.mark.slow
def test_an_s3_that_has_trouble_is_no_fault_of_the_object(prepare: Prepare, bucket: str, s3: S3Client) -> None:
    with refusing(s3, "GetObject", 501, "SlowDown"), pytest.raises(TransportError, match=r"HTTP 501, SlowDown"):
        prepare(f"s3://{bucket}/in.mp4")


@pytest.mark.parametrize("as_uri", [True, False])
def test_a_file_is_staged_once(
    prepare: Prepare, s3: S3Client, bucket: str, s3_server: S3Server, tmp_path: Path, as_uri: bool
) -> None:
    path = tmp_path / "my clip.gif"
    path.write_bytes(GIF)
    key = f"inputs/{hashlib.sha256(GIF).hexdigest()}.gif"
    given = path.as_uri() if as_uri else str(path)
    first = prepare(given)
    written = s3.head_object(Bucket=bucket, Key=key)
    with refusing(s3, "PutObject", 403, "AccessDenied"):
        second = prepare(given)
    assert (first.source, first.kind) == (str(path), "gif")
    assert read(first, s3, s3_server) == read(second, s3, s3_server) == GIF
    assert keys_of(s3, bucket) == [key]
    assert written["ContentType"] == "image/gif"


def test_a_file_needs_a_staging_place(prepare: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(MP4)
    with pytest.raises(StorageConfigurationError, match=re.escape(str(path))):
        prepare(str(path), staging=None)


def test_files_that_cannot_be_used(prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello, world")
    for name, says in {
        "absent.mp4": "there is no file",
        "": "is not a file",
        "empty.mp4": "nothing (0 bytes)",
        "text.mp4": "begins with the bytes 68 65 6c 6c 6f",
    }.items():
        with pytest.raises(InvalidRequestError) as caught:
            prepare(str(tmp_path / name))
        assert says in caught.value.fields["init_video"][0]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(prepare: Prepare, tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(MP4)
    path.chmod(0)
    with pytest.raises(InvalidRequestError, match="Permission denied"):
        prepare(str(path))


def test_staging_that_is_refused(prepare: Prepare, s3: S3Client, tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(MP4)
    with (
        refusing(s3, "PutObject", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError, match="grant s3:PutObject"),
    ):
        prepare(str(path))


def test_a_file_that_tasks_upload_at_the_same_time_ends_no_other_upload(
    prepare: Prepare, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(framed_mp4(9 * 1024 * 1024))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    key = f"inputs/{digest}.mp4"
    s3.create_multipart_upload(Bucket=bucket, Key=key)
    prepare(str(path))
    head = s3.head_object(Bucket=bucket, Key=key)
    assert head["ETag"].strip('"').endswith("-2")
    assert head["Metadata"] == {"sha256": digest}
    assert len(s3.list_multipart_uploads(Bucket=bucket)["Uploads"]) == 1
