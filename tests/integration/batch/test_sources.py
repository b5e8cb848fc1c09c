"""Clips found in a real S3: what counts as one, and what names its content."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.batch.sources.discovery import clips_below, find_clips
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.storage.inputs import identify_input
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import Put, counted, planned
from tests.support.s3 import refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEYS = ("in/a.mp4", "in/b.MOV", "in/x/c.gif", "in/x/y/d.webm", "in/x/y/é #?%20.mp4")


@pytest.mark.usefixtures("small_pages")
def test_a_prefix_with_everything_that_is_no_clip(s3: S3Client, bucket: str, put: Put) -> None:
    put(*KEYS)
    put("in/", "in/empty.mp4", "in/x/", body=b"")
    put("in/notes.txt", "in/a.mp4.json", "in/._a.mp4", "in/.cache/a.mp4", "in/_modelslab/ledger/x.mp4", "in2/no.mp4")
    put("in/styled/a.mp4", "in/styled/x/a.mp4")
    clips = find_clips(f"s3://{bucket}/in", lambda: s3, output=S3Uri(bucket, "in/styled"))
    assert [clip.source for clip in clips.clips] == [f"s3://{bucket}/{key}" for key in KEYS]
    assert [clip.path for clip in clips.clips] == [None, None, "x", "x/y", "x/y"]
    assert [clip.bytes for clip in clips.clips] == [1, 2, 3, 4, 5]
    assert clips.ignored == {
        "folders": 2,
        "empty": 1,
        "not matching": 1,
        "written by this package": 2,
        "hidden": 2,
        "below the output prefix": 2,
    }
    assert clips.describe().startswith(f"5 clips in s3://{bucket}/in/; ignored: 2 below the output prefix, 1 empty")


def test_patterns_and_depth(s3: S3Client, bucket: str, put: Put) -> None:
    put(*KEYS)

    def names(**options: object) -> list[str]:
        clips = clips_below(s3, S3Uri(bucket, "in/"), **options)  # type: ignore[arg-type]
        return [clip.source.rpartition("/")[2] for clip in clips.clips]

    assert names(recursive=False) == ["a.mp4", "b.MOV"]
    assert names(pattern="x/*") == ["c.gif"]
    assert names(pattern=["*.gif", "x/y/d*"]) == ["c.gif", "d.webm"]
    assert len(clips_below(s3, S3Uri(bucket)).clips) == 5


def test_names_like_those_of_staged_files_are_passed_over_unless_their_folder_is_named(
    s3: S3Client, bucket: str, put: Put
) -> None:
    digest = "ab" * 32
    put("in/a.mp4", f"in/inputs/{digest}.mp4")
    around = clips_below(s3, S3Uri(bucket, "in/"), pattern="*.mp4")
    assert [clip.source for clip in around.clips] == [f"s3://{bucket}/in/a.mp4"]
    assert "1 named inputs/<sha256> like staged local files" in around.describe()
    assert "name that folder itself to take them" in around.describe()
    own = clips_below(s3, S3Uri(bucket, "in/inputs/"))
    assert [clip.source for clip in own.clips] == [f"s3://{bucket}/in/inputs/{digest}.mp4"]
    assert not own.ignored


def test_the_identity_of_a_listed_clip_is_that_of_a_head(s3: S3Client, bucket: str, put: Put) -> None:
    put(*KEYS)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="in/large.mp4")["UploadId"]
    part = s3.upload_part(Bucket=bucket, Key="in/large.mp4", UploadId=upload, PartNumber=1, Body=b"y")["ETag"]
    s3.complete_multipart_upload(
        Bucket=bucket, Key="in/large.mp4", UploadId=upload, MultipartUpload={"Parts": [{"ETag": part, "PartNumber": 1}]}
    )
    with counted(s3) as called:
        plan = planned(s3, bucket)
    assert called == ["ListObjectsV2"]
    assert len(plan) == 6
    for clip in plan:
        identity = identify_input(clip.source, lambda: s3)
        single = Fingerprint.of(plan.request(clip), conn_id="c", source=identity)
        assert clip.fingerprint == single


@pytest.mark.parametrize("refused", [False, True])
def test_a_list_of_objects_is_identified_by_few_requests(s3: S3Client, bucket: str, put: Put, refused: bool) -> None:
    keys = [f"many/{number:02d}.mp4" for number in range(25)]
    put(*keys, "few/x.mp4", "many/00/sub.mp4", "many/zz.mp4")
    uris = [f"s3://{bucket}/{key}" for key in [*keys, "few/x.mp4", "few/gone.mp4", "many/gone.mp4"]]
    with counted(s3) as called:
        if refused:
            with refusing(s3, "ListObjectsV2", 403, "AccessDenied"):
                plan = planned(s3, bucket, uris)
        else:
            plan = planned(s3, bucket, uris)
    assert called.count("ListObjectsV2") == 1
    assert called.count("HeadObject") == (28 if refused else 3)
    for clip in plan:
        single = Fingerprint.of(plan.request(clip), conn_id="c", source=identify_input(clip.source, lambda: s3))
        assert clip.fingerprint == single
    assert [clip.fingerprint.source for clip in plan][-2:] == [None, None]  # gone, as for the single operator


@pytest.mark.parametrize("name", ["list/clips.jsonl", "list/clips.jsonl.gz"])
def test_a_manifest_in_s3(s3: S3Client, bucket: str, put: Put, name: str) -> None:
    put("in/a.mp4")
    lines = [{"init_video": f"s3://{bucket}/in/a.mp4", "seed": n, "destination": f"a-{n}.mp4"} for n in range(3000)]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    put(name, body=gzip.compress(body) if name.endswith(".gz") else body)
    plan = planned(s3, bucket, f"s3://{bucket}/{name}")
    assert len(plan) == 3000
    assert plan.request(plan.clips[2999]).seed == 2999
    assert str(plan.clips[7].destination) == f"s3://{bucket}/out/a-7.mp4"


def test_a_manifest_that_is_not_there(s3: S3Client, bucket: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"there is no object s3://.*/no\.csv"):
        find_clips(f"s3://{bucket}/no.csv", lambda: s3)
    with pytest.raises(StorageConfigurationError, match="'no-such-bucket-anywhere' does not exist"):
        find_clips("s3://no-such-bucket-anywhere/a.csv", lambda: s3)
    with (
        refusing(s3, "GetObject", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError, match="grant s3:GetObject"),
    ):
        find_clips(f"s3://{bucket}/a.csv", lambda: s3)


def test_a_prefix_that_may_not_be_listed(s3: S3Client, bucket: str) -> None:
    with pytest.raises(StorageConfigurationError, match="'no-such-bucket-anywhere' does not exist"):
        find_clips("s3://no-such-bucket-anywhere/in/", lambda: s3)
    with (
        refusing(s3, "ListObjectsV2", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError, match=r"grant s3:ListBucket"),
    ):
        find_clips(f"s3://{bucket}/in/", lambda: s3)
    assert find_clips(f"s3://{bucket}/in/", lambda: s3).clips == ()
