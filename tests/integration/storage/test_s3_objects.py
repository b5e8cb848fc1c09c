"""Whether a landed result is still in a real S3."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.storage.s3_objects import is_gone
from airflow_provider_modelslab.storage.upload import MIN_PART_SIZE, ObjectUpload
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import counted
from tests.support.s3 import refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def landed(s3: S3Client, bucket: str, body: bytes = b"a video") -> dict[str, Any]:
    """A landed result's manifest."""
    uri = S3Uri(bucket, "out/a.mp4")
    with ObjectUpload(s3, uri, content_type="video/mp4", part_size=MIN_PART_SIZE) as upload:
        upload.write(body)
        stored = upload.complete()
        sha256 = upload.sha256
    return {"uri": str(uri), "bytes": stored.bytes, "etag": stored.etag, "sha256": sha256}


def test_the_very_object_is_there_and_costs_one_request(s3: S3Client, bucket: str) -> None:
    manifest = landed(s3, bucket)
    with counted(s3) as called:
        assert not is_gone(s3, manifest)
    assert called == ["HeadObject"]
    assert not is_gone(s3, {"uri": manifest["uri"]}), "an old manifest that tells neither"


def test_an_emptied_one_is_gone(s3: S3Client, bucket: str) -> None:
    manifest = landed(s3, bucket)
    s3.put_object(Bucket=bucket, Key="out/a.mp4", Body=b"")
    assert is_gone(s3, manifest)


@pytest.mark.parametrize("body", [b"cropped", b"subtitled, and longer"])
def test_one_that_was_edited_in_place_is_not_paid_for_again(s3: S3Client, bucket: str, body: bytes) -> None:
    manifest = landed(s3, bucket)
    s3.put_object(Bucket=bucket, Key="out/a.mp4", Body=body)
    assert not is_gone(s3, manifest)


def test_another_landed_result_of_the_same_size_is_not_it(s3: S3Client, bucket: str) -> None:
    manifest = landed(s3, bucket, b"a video")
    landed(s3, bucket, b"a movie")
    assert is_gone(s3, manifest)


def test_an_object_in_parts_is_there_unless_it_is_empty(s3: S3Client, bucket: str) -> None:
    manifest = landed(s3, bucket, b"v" * (MIN_PART_SIZE + 1))
    assert manifest["etag"].endswith("-2")
    assert not is_gone(s3, manifest)
    landed(s3, bucket, b"w" * (MIN_PART_SIZE + 1))
    assert is_gone(s3, manifest), "another result was landed over it"


@pytest.mark.parametrize(("sidecar", "gone"), [("same", False), ("other", True), ("foreign", False), (None, False)])
def test_an_object_too_long_for_a_digest_is_told_by_its_sidecar(
    s3: S3Client, bucket: str, sidecar: str | None, gone: bool
) -> None:
    uri = f"s3://{bucket}/out/a.mp4"
    s3.put_object(Bucket=bucket, Key="out/a.mp4", Body=b"long")
    if sidecar is not None:
        told = {"uri": "s3://elsewhere/a.mp4" if sidecar == "foreign" else uri, "sha256": sidecar}
        s3.put_object(Bucket=bucket, Key="out/a.mp4.json", Body=json.dumps(told).encode())
    assert is_gone(s3, {"uri": uri, "sha256": "same"}) is gone


@pytest.mark.parametrize(("lists", "missing"), [(True, True), (False, False)])
def test_a_403_for_a_missing_object_is_told_by_a_listing(s3: S3Client, bucket: str, lists: bool, missing: bool) -> None:
    """As where s3:ListBucket is granted for a prefix alone."""
    s3.put_object(Bucket=bucket, Key="out/a.mp4.json", Body=b"{}")
    with (
        refusing(s3, "HeadObject", 403, ""),
        refusing(s3, "ListObjectsV2", 403, "AccessDenied", times=99 * (not lists)),
    ):
        assert is_gone(s3, {"uri": f"s3://{bucket}/out/a.mp4"}) is missing
        assert not is_gone(s3, {"uri": f"s3://{bucket}/out/a.mp4.json"})


def test_one_that_is_deleted_is_gone_and_one_that_cannot_be_read_counts_as_there(s3: S3Client, bucket: str) -> None:
    manifest = landed(s3, bucket)
    with refusing(s3, "HeadObject", 403, "AccessDenied"):
        assert not is_gone(s3, manifest)
    s3.delete_object(Bucket=bucket, Key="out/a.mp4")
    assert is_gone(s3, manifest)
