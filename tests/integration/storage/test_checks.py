from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import boto3
import pytest
import requests

from airflow_provider_modelslab.api.errors import StorageConfigurationError, StorageUnavailableError
from airflow_provider_modelslab.storage.checks import check_public_bucket, require_listing, require_writable
from airflow_provider_modelslab.storage.download import credential_free_session
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import S3Server, keys_of, leftovers, refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def profile(s3_server: S3Server, bucket: str) -> S3Profile:
    return replace(s3_server.profile(bucket, "styled"), public_url=f"{s3_server.endpoint_url}/{bucket}")


@pytest.fixture
def session(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[requests.Session]:
    """Trusts the server's authority as a user makes it: by the environment, which requests puts before all."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(s3_server.ca_path))
    with credential_free_session() as session:
        yield session


def test_a_bucket_that_is_there(s3: S3Client, bucket: str) -> None:
    require_listing(s3, S3Uri(bucket, "any/"))
    require_writable(s3, S3Uri(bucket, "any/clip.mp4"))
    assert leftovers(s3, bucket) == []
    for check in (require_listing, require_writable):
        with pytest.raises(StorageConfigurationError, match="'no-such-bucket-here' does not exist"):
            check(s3, S3Uri("no-such-bucket-here", "clip.mp4"))


def test_a_place_that_may_not_be_written(s3: S3Client, bucket: str) -> None:
    refused = refusing(s3, "CreateMultipartUpload", 403, "AccessDenied"), refusing(s3, "PutObject", 403, "AccessDenied")
    with refused[0], refused[1], pytest.raises(StorageConfigurationError) as caught:
        require_writable(s3, S3Uri(bucket, "out/clip.mp4"))
    assert caught.value.http_status == 403
    with refusing(s3, "CreateMultipartUpload", 403, "AccessDenied"):
        require_writable(s3, S3Uri(bucket, "out/clip.mp4"))  # a policy that has no eyes for uploads in parts
    assert keys_of(s3, bucket) == ["out/_modelslab/check.txt"]


@pytest.mark.slow
def test_a_busy_store_is_no_refusal(s3: S3Client, bucket: str) -> None:
    busy = refusing(s3, "CreateMultipartUpload", 503, "SlowDown")
    with busy, pytest.raises(StorageUnavailableError):
        require_writable(s3, S3Uri(bucket, "clip.mp4"))
    assert keys_of(s3, bucket) == []


def test_a_store_without_uploads_in_parts_is_told_by_the_put(s3: S3Client, bucket: str) -> None:
    with refusing(s3, "CreateMultipartUpload", 501, "NotImplemented"):
        require_writable(s3, S3Uri(bucket, "clip.mp4"))


def test_an_upload_that_may_not_be_dropped_hinders_nothing(
    s3: S3Client, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    with refusing(s3, "AbortMultipartUpload", 403, "AccessDenied"):
        require_writable(s3, S3Uri(bucket, "clip.mp4"))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_update_s3_names_the_region_of_the_bucket() -> None:
    profile = S3Profile(bucket="clips", region="us-east-1")
    client = boto3.session.Session("a", "b").client("s3", config=profile.client_config())
    elsewhere = refusing(client, "ListObjectsV2", 200, "", headers={"x-amz-bucket-region": "eu-central-1"})
    with elsewhere, pytest.raises(StorageConfigurationError, match="set region to eu-central-1"):
        check_public_bucket(client, profile)
    client.close()


def test_update_s3_needs_no_right_to_list(s3: S3Client, profile: S3Profile, session: requests.Session) -> None:
    with refusing(s3, "ListObjectsV2", 403, "AccessDenied"):
        assert len(check_public_bucket(s3, profile, session)) == 5


@pytest.mark.parametrize("prefix", ["styled", ""])
def test_a_public_bucket(s3: S3Client, profile: S3Profile, session: requests.Session, prefix: str) -> None:
    steps = check_public_bucket(s3, replace(profile, prefix=prefix), session)
    assert len(steps) == 5
    assert f"/{prefix or 'generations'}/modelslab-check-" in steps[3]
    assert "without credentials" in steps[3]
    assert keys_of(s3, str(profile.bucket)) == []


def test_a_store_without_acls_that_is_public(
    s3: S3Client, profile: S3Profile, session: requests.Session, bucket: str
) -> None:
    s3.put_bucket_policy(
        Bucket=bucket,
        Policy='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:*",'
        f'"Resource":"arn:aws:s3:::{bucket}/*"}}]}}',
    )
    with refusing(s3, "PutObjectAcl", 501, "NotImplemented"):
        steps = check_public_bucket(s3, profile, session)
    assert "the bucket itself must be public" in steps[2]


@pytest.mark.parametrize(
    ("operation", "status", "code", "says"),
    [
        ("PutObject", 403, "AccessDenied", "s3:PutObject on arn:aws:s3:::"),
        ("PutObjectAcl", 403, "AccessDenied", "s3:PutObjectAcl on arn:aws:s3:::.*Block Public Access"),
        ("PutObjectAcl", 400, "AccessControlListNotSupported", "Object Ownership"),
        ("PutObjectAcl", 501, "NotImplemented", r"cannot be read without credentials \(HTTP 403"),
    ],
)
def test_each_refusal_names_what_to_change(
    s3: S3Client,
    profile: S3Profile,
    session: requests.Session,
    operation: str,
    status: int,
    code: str,
    says: str,
) -> None:
    with refusing(s3, operation, status, code), pytest.raises(StorageConfigurationError, match=says):
        check_public_bucket(s3, profile, session)
    assert keys_of(s3, str(profile.bucket)) == []


def test_a_probe_that_may_not_be_deleted(s3: S3Client, profile: S3Profile, session: requests.Session) -> None:
    denied = refusing(s3, "DeleteObject", 403, "AccessDenied")
    with denied, pytest.raises(StorageConfigurationError, match="s3:DeleteObject"):
        check_public_bucket(s3, profile, session)


def test_the_first_failure_is_told_when_the_probe_stays_too(
    s3: S3Client, profile: S3Profile, session: requests.Session, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        refusing(s3, "PutObjectAcl", 403, "AccessDenied"),
        refusing(s3, "DeleteObject", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError, match="s3:PutObjectAcl"),
    ):
        check_public_bucket(s3, profile, session)
    assert "Could not delete the probe" in caplog.text


def test_a_public_url_that_leads_elsewhere(s3: S3Client, profile: S3Profile, files: FilesServer) -> None:
    with pytest.raises(StorageConfigurationError, match=r"HTTP 404.*correct public_url"):
        check_public_bucket(s3, replace(profile, public_url=files.url("/cdn")))
    assert keys_of(s3, str(profile.bucket)) == []


def test_a_public_url_that_gives_something_else(
    s3: S3Client, profile: S3Profile, files: FilesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.storage.checks.secrets.token_hex", lambda size: "0" * size)
    files.add("/cdn/styled/modelslab-check-00000000.txt", ServedFile(b"<html>"))
    with pytest.raises(StorageConfigurationError, match="correct public_url"):
        check_public_bucket(s3, replace(profile, public_url=files.url("/cdn")))


def test_a_store_that_cannot_be_reached(s3_server: S3Server, profile: S3Profile) -> None:
    gone = S3Server(s3_server.ca_path.parent, port=9).client()
    with pytest.raises(StorageUnavailableError):
        require_listing(gone, S3Uri("clips"))
    gone.close()
