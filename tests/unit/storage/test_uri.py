from __future__ import annotations

import pytest

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.uri import S3Uri


@pytest.mark.parametrize(
    ("text", "bucket", "key"),
    [
        ("s3://clips/a/b.mp4", "clips", "a/b.mp4"),
        ("S3://clips/a b+c%20?#ü.gif", "clips", "a b+c%20?#ü.gif"),
        ("s3://my.bucket-1", "my.bucket-1", ""),
        (" s3://clips/styled/ ", "clips", "styled/"),
        ("s3://my_bucket/a.mp4", "my_bucket", "a.mp4"),
        ("s3://My.Old_Bucket../a.mp4", "My.Old_Bucket..", "a.mp4"),
        (f"s3://{'b' * 255}/a.mp4", "b" * 255, "a.mp4"),
    ],
)
def test_parse(text: str, bucket: str, key: str) -> None:
    uri = S3Uri.parse(text)
    assert (uri.bucket, uri.key) == (bucket, key)
    assert S3Uri.parse(str(uri)) == uri


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("s3:///key", "expected s3://bucket/key"),
        ("clips/a.mp4", "s3://bucket/key"),
        ("s3a://clips/a.mp4", "s3a://"),
        ("s3://a/b", "'a'"),
        ("s3://.../b", "'...'"),
        ("s3://10.0.0.1/c", "IP address"),
        ("s3://my clips/c", "my clips"),
        ("s3://arn:aws:s3:us-east-1:1:accesspoint%2Fclips/c", "arn:aws"),
    ],
)
def test_parse_refuses(text: str, says: str) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        S3Uri.parse(text)
    assert says in str(caught.value)


def test_other_links_are_not_repeated_because_they_may_be_signed() -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        S3Uri.parse("https://host/key?X-Amz-Signature=abc")
    assert "abc" not in str(caught.value)


def test_a_key_has_at_most_1024_bytes() -> None:
    assert len(S3Uri("clips", "ü" * 512).key) == 512
    with pytest.raises(StorageConfigurationError, match="1026 bytes"):
        S3Uri("clips", "ü" * 513)


@pytest.mark.parametrize(
    ("key", "name", "child"),
    [
        ("", "a.mp4", "a.mp4"),
        ("styled", "a.mp4", "styled/a.mp4"),
        ("styled/", "a.mp4", "styled/a.mp4"),
        ("styled//", "a.mp4", "styled//a.mp4"),
        ("/", "a.mp4", "/a.mp4"),
        ("/styled", "x//a.mp4", "/styled/x//a.mp4"),
        ("styled/", "/a.mp4", "styled//a.mp4"),
        ("", "/a.mp4", "/a.mp4"),
    ],
)
def test_a_child_keeps_every_slash(key: str, name: str, child: str) -> None:
    assert S3Uri("clips", key).child(name).key == child


@pytest.mark.parametrize(
    ("key", "folder"),
    [("", ""), ("a", "a/"), ("a/", "a/"), ("a//", "a//"), ("/", "/"), ("/a", "/a/"), ("a//b", "a//b/")],
)
def test_a_folder_keeps_every_slash(key: str, folder: str) -> None:
    assert S3Uri("clips", key).folder().key == folder
