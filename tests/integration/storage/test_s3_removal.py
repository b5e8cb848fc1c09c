"""Deleting many objects, on stores that want it in different ways."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.s3_removal import (
    UnfinishedUpload,
    abort_upload,
    delete_keys,
    list_dated,
    list_uploads,
)
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.s3 import _Raw, keys_of, listening, refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def put(s3: S3Client, bucket: str, *keys: str) -> list[str]:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    return list(keys)


def deleted(s3: S3Client, bucket: str, keys: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for chunk, problems in delete_keys(s3, bucket, keys):
        assert len(chunk) <= 1000
        found |= problems
    return found


def test_objects_are_deleted_a_thousand_at_a_time(s3: S3Client, bucket: str) -> None:
    keys = put(s3, bucket, "a", "b/c & d", "e\u00e9")
    calls: list[str] = []
    with listening(s3, "before-call.s3.DeleteObjects", lambda **_: calls.append("many")):
        assert deleted(s3, bucket, [*keys, *(f"missing-{number}" for number in range(998))]) == {}
    assert calls == ["many", "many"]
    assert keys_of(s3, bucket) == []


def test_a_store_that_insists_on_content_md5_gets_it(s3: S3Client, bucket: str) -> None:
    keys = put(s3, bucket, "a", "b")
    seen: list[bytes] = []

    def insist(request: Any, **_: Any) -> Any:
        digest = base64.b64encode(hashlib.md5(request.body, usedforsecurity=False).digest())
        seen.append(request.headers.get("Content-MD5"))
        if seen[-1] in {digest, digest.decode()} and b"content-md5" in request.headers["Authorization"]:
            return None
        return answer(request, 400, "MissingContentMD5")

    with listening(s3, "before-send.s3.DeleteObjects", insist):
        assert deleted(s3, bucket, keys) == {}
    assert len(seen) == 1
    assert keys_of(s3, bucket) == []


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidRequest"), (405, "")])
def test_a_store_without_the_call_is_asked_for_each_key(s3: S3Client, bucket: str, status: int, code: str) -> None:
    keys = put(s3, bucket, "a", "b", "stays")

    def refuse(request: Any, **_: Any) -> Any:
        return answer(request, 403, "AccessDenied") if request.url.endswith("/stays") else None

    with (
        refusing(s3, "DeleteObjects", status, code),
        listening(s3, "before-send.s3.DeleteObject", refuse),
    ):
        problems = deleted(s3, bucket, keys)
    assert list(problems) == ["stays"]
    assert "s3:DeleteObject" in problems["stays"]
    assert keys_of(s3, bucket) == ["stays"]


def test_the_errors_of_single_keys_are_told(s3: S3Client, bucket: str) -> None:
    body = b"<DeleteResult><Error><Key>b</Key><Code>AccessDenied</Code><Message>No</Message></Error></DeleteResult>"

    def part(request: Any, **_: Any) -> Any:
        return AWSResponse(request.url, 200, HTTPHeaders.from_dict({}), _Raw(body))

    with listening(s3, "before-send.s3.DeleteObjects", part):
        assert deleted(s3, bucket, ["a", "b"]) == {"b": "AccessDenied, No"}


def test_a_refusal_of_the_whole_call_is_one_of_each_key(s3: S3Client, bucket: str) -> None:
    with refusing(s3, "DeleteObjects", 403, "AccessDenied"):
        problems = deleted(s3, bucket, ["a", "b"])
    assert list(problems) == ["a", "b"]
    assert "s3:DeleteObject on" in problems["a"]


def test_listings_have_dates(s3: S3Client, bucket: str) -> None:
    put(s3, bucket, "p/a", "p/b", "q")
    (page,) = list_dated(s3, S3Uri(bucket, "p/"))
    assert [(item.key, item.bytes) for item in page] == [("p/a", 1), ("p/b", 1)]
    assert page[0].modified == s3.head_object(Bucket=bucket, Key="p/a")["LastModified"].timestamp()
    assert page[0].etag == s3.head_object(Bucket=bucket, Key="p/a")["ETag"]
    with pytest.raises(StorageConfigurationError):
        list(list_dated(s3, S3Uri("no-such-bucket-anywhere", "p/")))


def test_an_upload_that_was_never_ended_is_aborted(s3: S3Client, bucket: str) -> None:
    begun = s3.create_multipart_upload(Bucket=bucket, Key="p/a.mp4")["UploadId"]
    s3.create_multipart_upload(Bucket=bucket, Key="q/b.mp4")
    (page,) = list_uploads(s3, S3Uri(bucket, "p/"))
    assert [(upload.key, upload.upload_id) for upload in page] == [("p/a.mp4", begun)]
    assert abort_upload(s3, bucket, page[0]) is None
    assert abort_upload(s3, bucket, page[0]) is None  # somebody was quicker
    assert [upload["Key"] for upload in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == ["q/b.mp4"]
    with refusing(s3, "AbortMultipartUpload", 403, "AccessDenied"):
        problem = abort_upload(s3, bucket, UnfinishedUpload("k", "1", 0.0))
    assert problem is not None
    assert "s3:AbortMultipartUpload" in problem
    with (
        refusing(s3, "ListMultipartUploads", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError, match="s3:ListBucketMultipartUploads"),
    ):
        list(list_uploads(s3, S3Uri(bucket, "p/")))


def answer(request: Any, status: int, code: str) -> AWSResponse:
    body = f"<Error><Code>{code}</Code></Error>".encode()
    return AWSResponse(request.url, status, HTTPHeaders.from_dict({"content-type": "application/xml"}), _Raw(body))
