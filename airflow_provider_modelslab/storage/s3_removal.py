"""Old objects and unfinished uploads: found page by page with their dates, and deleted many at a time."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import ClientError

from airflow_provider_modelslab.storage.s3_errors import (
    S3_ERRORS,
    S3ErrorKind,
    code_of,
    describe,
    kind_of,
    storage_error,
)
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "MAX_DELETED",
    "DatedObject",
    "UnfinishedUpload",
    "abort_upload",
    "delete_keys",
    "list_dated",
    "list_uploads",
]

MAX_DELETED = 1000
"""Keys of one DeleteObjects call: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""


class DatedObject(NamedTuple):
    """One object of a listing.

    :param etag: as the store lists it.
    :param bytes: its size.
    :param modified: when it was written, in seconds since the epoch.
    """

    key: str
    etag: str
    bytes: int
    modified: float


class UnfinishedUpload(NamedTuple):
    """A multipart upload that was neither completed nor aborted.

    :param begun: in seconds since the epoch.
    """

    key: str
    upload_id: str
    begun: float


def list_dated(s3: S3Client, prefix: S3Uri) -> Iterator[list[DatedObject]]:
    """The objects whose keys begin with ``prefix.key``, in the order of their keys, up to 1,000 a page.

    :raises StorageConfigurationError: when the store refuses, or there is no such bucket.
    :raises StorageUnavailableError: when it has trouble.
    """
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=prefix.bucket, Prefix=prefix.key):
            yield [
                DatedObject(item["Key"], item["ETag"], item["Size"], item["LastModified"].timestamp())
                for item in page.get("Contents", [])
            ]
    except S3_ERRORS as error:
        raise storage_error(error, prefix) from error


def list_uploads(s3: S3Client, prefix: S3Uri) -> Iterator[list[UnfinishedUpload]]:
    """The unfinished uploads whose keys begin with ``prefix.key``, page by page.

    :raises StorageConfigurationError: when the store refuses, or has no such call.
    :raises StorageUnavailableError: when it has trouble.
    """
    try:
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=prefix.bucket, Prefix=prefix.key):
            yield [
                UnfinishedUpload(item["Key"], item["UploadId"], item["Initiated"].timestamp())
                for item in page.get("Uploads", [])
            ]
    except S3_ERRORS as error:
        raise storage_error(error, prefix) from error


def abort_upload(s3: S3Client, bucket: str, upload: UnfinishedUpload) -> str | None:
    """Abort one upload; returns the problem as text, ``None`` on success."""
    try:
        s3.abort_multipart_upload(Bucket=bucket, Key=upload.key, UploadId=upload.upload_id)
    except S3_ERRORS as error:
        is_gone = isinstance(error, ClientError) and code_of(error) == "NoSuchUpload"
        return None if is_gone else describe(error, S3Uri(bucket, upload.key))
    return None


def delete_keys(s3: S3Client, bucket: str, keys: Iterable[str]) -> Iterator[tuple[Sequence[str], dict[str, str]]]:
    """Delete objects, up to 1,000 at a time; for each call the keys, and the problems of those that stay.

    With stores that lack the call, or refuse it as a whole, each key is deleted by a request of its own.
    """
    # boto sends a CRC32 of this body, and some stores insist on Content-MD5, the older of S3's two demands.
    s3.meta.events.register("before-sign.s3.DeleteObjects", _add_md5, unique_id="modelslab-content-md5")
    left = iter(keys)
    while chunk := list(islice(left, MAX_DELETED)):
        try:
            yield chunk, _delete_many(s3, bucket, chunk)
        except S3_ERRORS as error:
            if kind_of(error) not in _NO_BULK:
                yield chunk, dict.fromkeys(chunk, describe(error, S3Uri(bucket, chunk[0])))
                continue
            found = ((key, _delete_one(s3, bucket, key)) for key in chunk)
            yield chunk, {key: problem for key, problem in found if problem is not None}


_NO_BULK = {S3ErrorKind.NOT_IMPLEMENTED, S3ErrorKind.INVALID_REQUEST, S3ErrorKind.OTHER}


def _add_md5(request: Any, **_: Any) -> None:
    digest = hashlib.md5(request.body, usedforsecurity=False).digest()
    request.headers["Content-MD5"] = base64.b64encode(digest).decode()


def _delete_many(s3: S3Client, bucket: str, keys: Sequence[str]) -> dict[str, str]:
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True})
    return {
        item.get("Key", ""): ", ".join(filter(None, (item.get("Code"), item.get("Message")))) or "refused"
        for item in answer.get("Errors", [])
    }


def _delete_one(s3: S3Client, bucket: str, key: str) -> str | None:
    try:
        s3.delete_object(Bucket=bucket, Key=key)
    except S3_ERRORS as error:
        return describe(error, S3Uri(bucket, key))
    return None
