"""The ground rules of landing, on each of the servers; the fine ones are in ``test_landing.py``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab.api.errors import LandingError
from airflow_provider_modelslab.storage.landing import LandingPolicy, land
from airflow_provider_modelslab.storage.upload import MIB
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import leftovers
from tests.support.samples import framed_mp4, small_mp4

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

POLICY = LandingPolicy(part_size=5 * MIB, parts_in_flight=2, ready_timeout=0.3, min_backoff=0.01, max_backoff=0.05)
CLIPS = {"one put": small_mp4(), "three parts": framed_mp4(12 * MIB + 345)}


@pytest.fixture
def target(any_bucket: str) -> S3Uri:
    return S3Uri(any_bucket, "styled/clip é.mp4")


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_a_clip_lands_whole(any_s3: S3Client, files: FilesServer, target: S3Uri, clip: bytes) -> None:
    landed = land([files.add("/clip.mp4", ServedFile(clip))], target, any_s3, policy=POLICY)
    head = any_s3.head_object(Bucket=target.bucket, Key=target.key)
    assert (landed.bytes, landed.sha256) == (len(clip), hashlib.sha256(clip).hexdigest())
    assert (head["ContentLength"], head["ContentType"]) == (len(clip), "video/mp4")
    assert landed.etag == head["ETag"].strip('"')
    assert any_s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read() == clip


def test_landing_again_replaces(any_s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    for clip in CLIPS.values():
        land([files.add("/clip.mp4", ServedFile(clip))], target, any_s3, policy=POLICY)
    assert any_s3.get_object(Bucket=target.bucket, Key=target.key)["Body"].read() == CLIPS["three parts"]


def test_a_clip_that_breaks_off_leaves_nothing(any_s3: S3Client, files: FilesServer, target: S3Uri) -> None:
    link = files.add("/clip.mp4", ServedFile(CLIPS["three parts"], truncate_at=11 * MIB))
    with pytest.raises(LandingError, match="truncated"):
        land([link], target, any_s3, policy=POLICY)
    assert leftovers(any_s3, target.bucket) == []
