"""A batch without clips says what is there instead, in a few names, with a real S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab.batch.sources.discovery import find_clips
from airflow_provider_modelslab.batch.sources.empty import explain_empty
from tests.integration.batch.conftest import Put, counted
from tests.support.s3 import refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def explained(s3: S3Client, source: object, **options: object) -> str:
    clips = find_clips(source, lambda: s3, **options)  # type: ignore[arg-type]
    assert not clips.clips
    return explain_empty(clips, lambda: s3)


def test_a_pattern_that_matches_none_of_the_objects_names_some(s3: S3Client, bucket: str, put: Put) -> None:
    put(*(f"in/cam/clip{number:02d}.mov" for number in range(30)), "in/notes.txt")
    text = explained(s3, f"s3://{bucket}/in/", pattern="*.mp4")
    assert "are 31: " in text
    assert "'*.mp4'" in text
    assert "cam/clip00.mov, cam/clip01.mov" in text
    assert text.count(".mov") == 5
    put("other/readme.md")
    assert "readme.md" in explained(s3, f"s3://{bucket}/other/")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("in/2026-11-22", "in/2026-11-22-raw/"),
        ("in/2026-11-32/", "in/2026-11-23/"),
        ("in/2026-11-23.mp", "in/2026-11-23/"),
        ("In/2026-11-23/", "in/"),
        ("inn/2026-11-23/cam/", "in/"),
    ],
)
def test_a_misspelt_prefix_names_the_sibling(s3: S3Client, bucket: str, put: Put, given: str, meant: str) -> None:
    put("in/2026-11-22-raw/a.mp4", "in/2026-11-23/a.mp4", "other/a.mp4")
    assert f"Did you mean s3://{bucket}/{meant}" in explained(s3, f"s3://{bucket}/{given}")


def test_a_prefix_like_nothing_else_names_what_is_there_and_lists_little(s3: S3Client, bucket: str, put: Put) -> None:
    put(*(f"day-{number:02d}/a.mp4" for number in range(20)))
    with counted(s3) as called:
        text = explained(s3, f"s3://{bucket}/zzz/yyy/")
    assert f"s3://{bucket}/ has: day-00/, day-01/, day-02/, day-03/, day-04/ and others" in text
    assert called.count("ListObjectsV2") <= 6


def test_an_object_folders_alone_and_an_empty_bucket(s3: S3Client, bucket: str, put: Put) -> None:
    assert "bucket is empty" in explained(s3, f"s3://{bucket}/in/")
    put("in/clip.mp4", "deep/cam1/a.mp4")
    assert f"s3://{bucket}/in/clip.mp4 is an object" in explained(s3, f"s3://{bucket}/in/clip.mp4")
    assert "recursive=True" in explained(s3, f"s3://{bucket}/deep/", recursive=False)
    put("none/a.mp4", body=b"")
    assert "1 empty" in explained(s3, f"s3://{bucket}/none/")


def test_an_empty_list_and_a_list_of_nothing(s3: S3Client) -> None:
    assert explained(s3, []) == "The list is empty."
    assert "2 items without a value" in explained(s3, [None, None])


def test_without_access_to_the_folder_above_there_is_no_guess(s3: S3Client, bucket: str, put: Put) -> None:
    put("in/2026-11-23/a.mp4")
    clips = find_clips(f"s3://{bucket}/in/2026-11-32/", lambda: s3)
    with refusing(s3, "ListObjectsV2", 403, "AccessDenied"):
        assert explain_empty(clips, lambda: s3) == f"There is nothing below s3://{bucket}/in/2026-11-32/."
