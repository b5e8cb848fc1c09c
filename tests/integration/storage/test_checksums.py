"""What is verified by stores that know SHA-256, that ignore it, and that refuse it."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from airflow_provider_modelslab.api.errors import LandingError
from airflow_provider_modelslab.storage.boto_session import send_small_bodies_at_once
from airflow_provider_modelslab.storage.checksums import Checksums
from airflow_provider_modelslab.storage.extra_args import send_extra_args
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.upload import MIB, ObjectUpload, StoredObject
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.s3 import S3Server, listening, refusing, refusing_sha256, verifying_sha256

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SMALL, LARGE = bytes(300 * 1024), bytes(11 * MIB)
SHA256, MD5, SIGNED = "x-amz-checksum-sha256", "content-md5", "x-amz-content-sha256"


@pytest.fixture
def target(bucket: str) -> S3Uri:
    return S3Uri(bucket, "clip.mp4")


def upload(s3: S3Client, target: S3Uri, content: bytes = SMALL) -> StoredObject:
    with ObjectUpload(s3, target, content_type="video/mp4", part_size=5 * MIB, parts_in_flight=1) as running:
        running.write(content)
        return running.complete()


def content_of(s3: S3Client, target: S3Uri) -> bytes:
    return s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read()


def sha256_of(content: bytes) -> str:
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def operations_of(s3: S3Client, target: S3Uri) -> list[str]:
    """The calls of one upload in one put."""
    called: list[str] = []
    with listening(s3, "before-call.s3", lambda model, **_: called.append(model.name)):
        upload(s3, target)
    return called


def test_a_store_that_verifies_sha256_gets_nothing_else_after_the_first_write(s3: S3Client, target: S3Uri) -> None:
    with verifying_sha256(s3) as puts:
        upload(s3, target)
        assert operations_of(s3, target) == ["PutObject"]
    first, second = puts
    assert (first[SHA256], second[SHA256]) == (sha256_of(SMALL), sha256_of(SMALL))
    assert (MD5 in first, MD5 in second) == (True, False)
    assert second[SIGNED] == "UNSIGNED-PAYLOAD"
    assert content_of(s3, target) == SMALL


def test_only_bodies_with_a_verified_checksum_stay_unsigned(s3: S3Client, target: S3Uri) -> None:
    with verifying_sha256(s3) as puts:
        upload(s3, target)
        s3.put_object(Bucket=target.bucket, Key="note.json", Body=b"{}")
    assert puts[1][SIGNED] == hashlib.sha256(b"{}").hexdigest()


def test_a_signature_of_bodies_that_was_asked_for_stays(s3_server: S3Server, target: S3Uri) -> None:
    config = S3Profile(endpoint_url=s3_server.endpoint_url).client_config()
    s3 = boto3.session.Session("a", "b", region_name="us-east-1").client(
        "s3",
        endpoint_url=s3_server.endpoint_url,
        verify=str(s3_server.ca_path),
        config=config.merge(Config(s3={"payload_signing_enabled": True, "addressing_style": "path"})),
    )
    with verifying_sha256(s3) as puts:
        upload(s3, target)
        upload(s3, target)
    s3.close()
    assert puts[1][SIGNED] == hashlib.sha256(SMALL).hexdigest()


def test_parts_carry_sha256_and_the_completion_repeats_it(s3: S3Client, target: S3Uri) -> None:
    completions: list[bytes] = []
    with (
        verifying_sha256(s3) as parts,
        listening(s3, "before-call.s3.CompleteMultipartUpload", lambda params, **_: completions.append(params["body"])),
    ):
        upload(s3, target, LARGE)
    cut = [LARGE[at : at + 5 * MIB] for at in range(0, len(LARGE), 5 * MIB)]
    assert [part[SHA256] for part in parts] == [sha256_of(part) for part in cut]
    assert [MD5 in part for part in parts] == [True, False, False]
    assert completions[0].count(b"<ChecksumSHA256>") == 3
    assert content_of(s3, target) == LARGE


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["put", "parts"])
def test_damage_on_the_way_is_refused_by_the_store(s3: S3Client, target: S3Uri, content: bytes) -> None:
    def damage(request: Any, **_: Any) -> None:
        request.body = b"?" + bytes(request.body)[1:]

    with verifying_sha256(s3):
        upload(s3, target)
        s3.meta.events.register_first(f"before-send.s3.{'PutObject' if content is SMALL else 'UploadPart'}", damage)
        with pytest.raises(LandingError, match="BadDigest"):
            upload(s3, S3Uri(target.bucket, "other.mp4"), content)
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=target.bucket)["Contents"]] == [target.key]


def test_a_store_that_stops_to_verify_is_noticed(s3: S3Client, target: S3Uri) -> None:
    with verifying_sha256(s3):
        upload(s3, target)
    assert operations_of(s3, target) == ["PutObject", "HeadObject"]
    headers: list[Any] = []
    with listening(s3, "before-call.s3.PutObject", lambda params, **_: headers.append(params["headers"])):
        assert operations_of(s3, target) == ["PutObject"]
    assert ("Content-MD5" in headers[0], SHA256 in headers[0]) == (True, False)


def test_a_store_that_ignores_sha256_proves_the_content_by_its_etag(s3: S3Client, target: S3Uri) -> None:
    assert upload(s3, target).etag == hashlib.md5(SMALL).hexdigest()  # noqa: S324
    assert Checksums.of(s3).verifies_sha256 is False
    assert operations_of(s3, target) == ["PutObject"]


def test_an_etag_that_is_no_md5_proves_nothing(s3: S3Client, target: S3Uri) -> None:
    """As with encryption by KMS."""

    def change(parsed: dict[str, Any], **_: Any) -> None:
        parsed["ETag"] = '"0123"'

    with listening(s3, "after-call.s3.PutObject", change):
        assert operations_of(s3, target) == ["PutObject", "HeadObject"]


@pytest.mark.parametrize(
    ("status", "code"), [(400, "InvalidRequest"), (400, "InvalidArgument"), (501, "NotImplemented")]
)
@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["put", "parts"])
def test_a_store_that_refuses_the_header_is_asked_once(
    s3: S3Client, target: S3Uri, status: int, code: str, content: bytes
) -> None:
    with refusing_sha256(s3, status, code) as operations:
        upload(s3, target, content)
        first = len(operations)
        upload(s3, target, content)
    assert content_of(s3, target) == content
    assert operations[:2] == ["PutObject"] * 2 if content is SMALL else ["CreateMultipartUpload"] * 2
    assert len(operations) - first == first - 1


def test_a_store_that_refuses_for_another_reason_is_still_unknown(s3: S3Client, target: S3Uri) -> None:
    with refusing(s3, "PutObject", 400, "InvalidRequest"), pytest.raises(LandingError, match="InvalidRequest"):
        upload(s3, target)
    assert Checksums.of(s3).verifies_sha256 is None


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["put", "parts"])
def test_an_algorithm_in_extra_args_takes_the_place_of_ours(s3: S3Client, target: S3Uri, content: bytes) -> None:
    send_extra_args(s3, {"ChecksumAlgorithm": "CRC32"})
    headers: list[dict[str, str]] = []
    with listening(s3, "before-call.s3", lambda params, **_: headers.append(params["headers"])):
        upload(s3, target, content)
    assert content_of(s3, target) == content
    for sent in headers:
        assert SHA256 not in sent
        assert "SHA256" not in sent.values()
    assert Checksums.of(s3).verifies_sha256 is False


def test_only_large_bodies_wait_for_the_stores_consent(s3: S3Client, target: S3Uri) -> None:
    send_small_bodies_at_once(s3)
    headers: list[dict[str, str]] = []
    with listening(s3, "before-call.s3", lambda params, **_: headers.append(params["headers"])):
        s3.put_object(Bucket=target.bucket, Key="note.json", Body=b"{}")
        upload(s3, target, SMALL)
    assert ["Expect" in sent for sent in headers] == [False, True]
    assert s3.get_object(Bucket=target.bucket, Key="note.json")["Body"].read() == b"{}"
