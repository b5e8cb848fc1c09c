"""S3 in tests: the server of ``tools.stack.s3`` and answers of a store that it cannot be made to give."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from airflow_provider_modelslab.storage.uri import S3Uri
from tools.stack.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "S3Server",
    "content_of",
    "keys_of",
    "knowing_uploads",
    "leftovers",
    "lines_of",
    "listening",
    "refusing",
    "refusing_sha256",
    "update_s3_details",
    "verifying_sha256",
]


@contextmanager
def refusing(
    s3: S3Client,
    operation: str,
    status: int,
    code: str,
    message: str = "Refused",
    times: int = 99,
    headers: Mapping[str, str] | None = None,
) -> Iterator[None]:
    """Within the block, the first ``times`` calls of an operation are answered by an S3 error; others reach the server.

    The answer goes through boto as one from the wire would: only the server is bypassed.
    """
    left = times

    def answer(request: Any, **_: Any) -> Any:
        nonlocal left
        if left == 0:
            return None
        left -= 1
        return _error(request, status, code, message, headers)

    with listening(s3, f"before-send.s3.{operation}", answer):
        yield


@contextmanager
def knowing_uploads(s3: S3Client) -> Iterator[None]:
    """Within the block, parts and completions of an upload that was ended are refused as by AWS; moto answers 500."""

    def answer(request: Any, **_: Any) -> Any:
        place = urlsplit(request.url)
        uploads = s3.list_multipart_uploads(Bucket=place.path.split("/")[1]).get("Uploads", [])
        known = parse_qs(place.query)["uploadId"][0] in {upload["UploadId"] for upload in uploads}
        return None if known else _error(request, 404, "NoSuchUpload", "The specified upload does not exist")

    with (
        listening(s3, "before-send.s3.UploadPart", answer),
        listening(s3, "before-send.s3.CompleteMultipartUpload", answer),
    ):
        yield


@contextmanager
def verifying_sha256(s3: S3Client) -> Iterator[list[Mapping[str, str]]]:
    """Within the block, the store verifies the SHA-256 of writes and repeats it, as AWS does; moto ignores it.

    Yields the headers of the puts and parts, with names in lower case.
    """
    seen: list[Mapping[str, str]] = []
    sent = threading.local()

    def check(request: Any, **_: Any) -> Any:
        sent.checksum = _text_headers(request).get("x-amz-checksum-sha256")
        seen.append(_text_headers(request))
        body = request.body.getvalue() if isinstance(request.body, BytesIO) else request.body
        right = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if sent.checksum not in {None, right}:
            return _error(request, 400, "BadDigest", "The SHA256 you specified did not match")
        return None

    def repeat(parsed: dict[str, Any], **_: Any) -> None:
        if sent.checksum and "Error" not in parsed:
            parsed["ChecksumSHA256"] = sent.checksum

    with (
        listening(s3, "before-send.s3.PutObject", check),
        listening(s3, "before-send.s3.UploadPart", check),
        listening(s3, "after-call.s3.PutObject", repeat),
        listening(s3, "after-call.s3.UploadPart", repeat),
    ):
        yield seen


@contextmanager
def refusing_sha256(s3: S3Client, status: int, code: str) -> Iterator[list[str]]:
    """Within the block, the store refuses the headers of checksums, as Backblaze B2 did; yields all operations."""
    operations: list[str] = []

    def check(request: Any, event_name: str, **_: Any) -> Any:
        operations.append(event_name.rpartition(".")[2])
        known = {"x-amz-checksum-sha256", "x-amz-checksum-algorithm"} & _text_headers(request).keys()
        return _error(request, status, code, f"Unsupported header {known}") if known else None

    with listening(s3, "before-send.s3", check):
        yield operations


@contextmanager
def listening(s3: S3Client, event: str, handler: Callable[..., Any]) -> Iterator[None]:
    """Within the block, boto calls the handler at an event of this client."""
    s3.meta.events.register(event, handler)
    try:
        yield
    finally:
        s3.meta.events.unregister(event, handler)


def update_s3_details(server: S3Server, bucket: str, *, public_path: str = "") -> dict[str, str]:
    """The body of ``update_s3`` for a bucket of the server, without the key.

    :param public_path: what the public URL has behind the bucket.
    """
    return {
        "deploy_type": "video",
        "public_url": f"{server.endpoint_url}/{bucket}{public_path}",
        "region_name": server.region,
        "endpoint_url": f"{server.endpoint_url}/{bucket}",
        "aws_access_key_id": server.access_key,
        "aws_secret_access_key": server.secret_key,
        "image_directory": "generations",
    }


def keys_of(s3: S3Client, bucket: str) -> list[str]:
    """All keys of a bucket."""
    return [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]


def content_of(s3: S3Client, uri: str) -> bytes:
    """What an object holds."""
    place = S3Uri.parse(uri)
    return s3.get_object(Bucket=place.bucket, Key=place.key)["Body"].read()


def lines_of(s3: S3Client, uri: str) -> list[dict[str, Any]]:
    """The lines of a manifest."""
    return [json.loads(line) for line in content_of(s3, uri).splitlines()]


def leftovers(s3: S3Client, bucket: str) -> list[str]:
    """What a failure must not leave: keys of objects, and of uploads that were not ended."""
    uploads = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    return keys_of(s3, bucket) + [f"upload of {upload['Key']}" for upload in uploads]


def _text_headers(request: Any) -> dict[str, str]:
    pairs = {name.lower(): value for name, value in request.headers.items()}
    return {name: value.decode() if isinstance(value, bytes) else str(value) for name, value in pairs.items()}


def _error(request: Any, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> AWSResponse:
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>".encode() if code else b""
    fields: Any = HTTPHeaders.from_dict({"content-type": "application/xml", **(headers or {})})
    return AWSResponse(request.url, status, fields, _Raw(body))


class _Raw(BytesIO):
    """As much of urllib3's response as botocore reads."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()
