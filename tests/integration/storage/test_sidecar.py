from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab import __version__
from airflow_provider_modelslab.api.errors import LandingError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.storage.landing import LandedObject, land
from airflow_provider_modelslab.storage.sidecar import read_sidecar, sidecar_uri, write_sidecar
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import refusing
from tests.support.samples import small_mp4

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MP4 = small_mp4()


@pytest.fixture
def landed(s3: S3Client, files: FilesServer, bucket: str) -> LandedObject:
    link = files.add("/clip.mp4", ServedFile(MP4)) + "?X-Amz-Signature=abc"
    return land([link], S3Uri(bucket, "styled/clip.mp4"), s3)


def test_a_sidecar_says_how_the_clip_was_made(s3: S3Client, landed: LandedObject) -> None:
    request = Video2VideoRequest(
        model_id="dark-sushi-mix", prompt="a fox", init_video="https://host/in.mp4?X-Amz-Signature=abc"
    )
    uri = write_sidecar(
        s3,
        landed,
        {
            "job_id": "500",
            "request": request.record(),
            "seed": 7,
            "meta": {"init_video": "https://host/in.mp4?X-Amz-Signature=abc", "key": "the-api-key"},
            "generation_time_s": 8.49,
            "submitted_at": 1_800_000_000.0,
            "dag_id": "styled",
        },
    )
    assert uri == sidecar_uri(landed.uri) == S3Uri(landed.uri.bucket, "styled/clip.mp4.json")
    body = s3.get_object(Bucket=uri.bucket, Key=uri.key)
    text = body["Body"].read().decode()
    assert body["ContentType"] == "application/json"
    assert "the-api-key" not in text
    assert "X-Amz-Signature" not in text
    content = read_sidecar(s3, landed.uri)
    assert content is not None
    assert datetime.fromisoformat(content.pop("landed_at")).tzinfo == UTC
    assert content == {
        "schema_version": 1,
        "uri": str(landed.uri),
        "sha256": hashlib.sha256(MP4).hexdigest(),
        "bytes": len(MP4),
        "content_type": "video/mp4",
        "source_url": landed.source_url,
        "job_id": "500",
        "request": request.record(),
        "seed": 7,
        "meta": {"init_video": "https://host/in.mp4", "key": "***"},
        "generation_time_s": 8.49,
        "submitted_at": "2027-01-15T08:00:00+00:00",
        "provider_version": __version__,
        "dag_id": "styled",
    }
    stored = s3.get_object(Bucket=landed.uri.bucket, Key=landed.uri.key)["Body"].read()
    assert hashlib.sha256(stored).hexdigest() == content["sha256"]


def test_what_is_not_known_is_null(s3: S3Client, landed: LandedObject) -> None:
    write_sidecar(s3, landed, {"landed_at": datetime(2027, 1, 1, tzinfo=UTC), "submitted_at": "2026-12-31T00:00:00Z"})
    content = read_sidecar(s3, landed.uri)
    assert content is not None
    assert {content[name] for name in ("job_id", "request", "seed", "meta", "generation_time_s")} == {None}
    assert content["landed_at"] == "2027-01-01T00:00:00+00:00"
    assert content["submitted_at"] == "2026-12-31T00:00:00Z"


def test_no_sidecar(s3: S3Client, landed: LandedObject) -> None:
    assert read_sidecar(s3, landed.uri) is None


@pytest.mark.parametrize("body", [b"no json", b"[]", b"{}", b'{"schema_version": 2}'])
def test_a_file_that_is_no_sidecar(s3: S3Client, landed: LandedObject, body: bytes) -> None:
    place = sidecar_uri(landed.uri)
    s3.put_object(Bucket=place.bucket, Key=place.key, Body=body)
    with pytest.raises(LandingError, match="schema_version"):
        read_sidecar(s3, landed.uri)


def test_s3_refuses(s3: S3Client, landed: LandedObject) -> None:
    with refusing(s3, "PutObject", 403, "AccessDenied"), pytest.raises(LandingError, match="s3:PutObject"):
        write_sidecar(s3, landed, {})
    write_sidecar(s3, landed, {})
    with refusing(s3, "GetObject", 403, "AccessDenied"), pytest.raises(LandingError, match="s3:GetObject"):
        read_sidecar(s3, landed.uri)
