"""The demo's copy of its bucket."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.s3 import keys_of
from tools.stack.kept import SavedObjects

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_a_bucket_comes_back_as_it_was(s3: S3Client, bucket: str, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="a/1.mp4", Body=b"one", ContentType="video/mp4", Metadata={"sha256": "ab"})
    s3.put_object(Bucket=bucket, Key="a/2.json", Body=b"two")
    saved = SavedObjects(tmp_path / "objects")
    assert not saved.exists
    saved.save(s3, bucket)
    s3.delete_object(Bucket=bucket, Key="a/2.json")
    s3.put_object(Bucket=bucket, Key="a/1.mp4", Body=b"newer", ContentType="video/mp4", Metadata={"sha256": "cd"})
    saved.save(s3, bucket)
    s3.delete_object(Bucket=bucket, Key="a/1.mp4")

    again = SavedObjects(tmp_path / "objects")
    assert again.exists
    assert again.restore(s3, bucket) == 1
    assert keys_of(s3, bucket) == ["a/1.mp4"]
    found = s3.get_object(Bucket=bucket, Key="a/1.mp4")
    assert (found["Body"].read(), found["ContentType"], found["Metadata"]) == (b"newer", "video/mp4", {"sha256": "cd"})
    assert len(list((tmp_path / "objects").iterdir())) == 2  # the object and the index
