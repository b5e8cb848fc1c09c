from __future__ import annotations

from typing import Any

import boto3
import pytest

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri

AWS = S3Profile(bucket="clips", prefix="/styled/", region="eu-central-1")
R2 = S3Profile(
    bucket="clips", region="auto", endpoint_url="https://acc.r2.example/", public_url="https://pub.example.dev"
)


@pytest.mark.parametrize("extra", [None, {}, {"bucket": None, "prefix": " ", "aws_conn_id": "", "surplus": 1}])
def test_an_extra_that_sets_nothing(extra: dict[str, Any] | None) -> None:
    assert S3Profile.from_extra(extra) == S3Profile()


def test_an_extra_that_sets_all() -> None:
    extra = {
        "bucket": " clips ",
        "prefix": "/a/b/",
        "aws_conn_id": "minio",
        "region": "auto",
        "endpoint_url": "http://store:9000/",
        "public_url": "https://pub.example/",
        "poll": {"min_interval": 1},
    }
    assert S3Profile.from_extra(extra) == S3Profile(
        "clips", "a/b", "minio", "auto", "http://store:9000", "https://pub.example"
    )


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        ({"bucket": "Not Legal"}, "Not Legal"),
        ({"endpoint_url": "store:9000"}, "endpoint_url"),
        ({"endpoint_url": "https://user:pass@store"}, "endpoint_url"),
        ({"public_url": "ftp://store"}, "public_url"),
    ],
)
def test_an_extra_that_cannot_work(extra: dict[str, Any], says: str) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        S3Profile.from_extra(extra)
    assert says in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_uri() -> None:
    assert str(AWS.uri("a.mp4")) == "s3://clips/styled/a.mp4"
    assert str(AWS.uri()) == "s3://clips/styled/"
    assert str(R2.uri("a.mp4")) == "s3://clips/a.mp4"
    with pytest.raises(StorageConfigurationError, match="no bucket"):
        S3Profile().uri("a.mp4")


def test_client_of_a_compatible_store() -> None:
    config: Any = R2.client_config()
    assert config.s3 == {"addressing_style": "path"}
    assert config.request_checksum_calculation == "when_required"
    assert config.response_checksum_validation == "when_required"
    assert config.signature_version == "s3v4"


def test_presigned_links_of_aws_name_the_regions_own_host() -> None:
    client = boto3.session.Session("AKIAEXAMPLE", "secret", region_name="eu-central-1").client(
        "s3", config=AWS.client_config()
    )
    link = client.generate_presigned_url("get_object", Params={"Bucket": "clips", "Key": "a.mp4"})
    client.close()
    assert link.startswith("https://clips.s3.eu-central-1.amazonaws.com/a.mp4?X-Amz-Algorithm=AWS4-HMAC-SHA256")
    config: Any = AWS.client_config()
    assert config.request_checksum_calculation is None


def test_settings_for_aws() -> None:
    assert AWS.server_settings("AKIAEXAMPLE", "secret") == {
        "public_url": "https://clips.s3.eu-central-1.amazonaws.com/styled/",
        "region_name": "eu-central-1",
        "endpoint_url": "https://clips.s3.eu-central-1.amazonaws.com",
        "aws_access_key_id": "AKIAEXAMPLE",
        "aws_secret_access_key": "secret",
        "image_directory": "styled",
    }


def test_settings_for_a_compatible_store() -> None:
    settings = R2.server_settings("AKIAEXAMPLE", "secret")
    assert settings["endpoint_url"] == "https://acc.r2.example/clips"
    assert settings["public_url"] == "https://pub.example.dev/generations/"
    assert settings["image_directory"] == "generations"


def test_a_public_url_that_names_the_directory_is_taken_as_it_is() -> None:
    profile = S3Profile(bucket="clips", prefix="styled", region="eu-west-1", public_url="https://cdn.example/styled/")
    assert profile.server_settings("a", "b")["public_url"] == "https://cdn.example/styled/"


@pytest.mark.parametrize(
    ("profile", "keys", "says"),
    [
        (AWS, ("AKIAEXAMPLE", "hush-hush", "token"), "session token"),
        (AWS, ("", "hush-hush", None), "no access key"),
        (S3Profile(region="eu-west-1"), ("a", "hush-hush", None), "no bucket"),
        (S3Profile(bucket="clips"), ("a", "hush-hush", None), "no region"),
        (S3Profile(bucket="clips", region="auto", endpoint_url="https://x"), ("a", "hush-hush", None), "public_url"),
        (S3Profile(bucket="clips", endpoint_url="https://x", public_url="https://y"), ("a", "b", None), "no region"),
    ],
)
def test_settings_that_cannot_work(profile: S3Profile, keys: tuple[str, str, str | None], says: str) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        profile.server_settings(*keys)
    assert says in str(caught.value)
    assert "hush-hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("profile", "key", "expected"),
    [
        (S3Profile("clips"), "a.mp4", None),
        (S3Profile("clips", public_url="https://cdn.example"), "a b/ü.mp4", "https://cdn.example/a%20b/%C3%BC.mp4"),
        (S3Profile("clips", "styled", public_url="https://cdn.example"), "styled/a.mp4", "https://cdn.example/styled/a.mp4"),
        # As update_s3 allows it: the URL may end with the directory that the vendor's server writes to.
        (S3Profile("clips", "styled", public_url="https://cdn.example/styled"), "styled/a.mp4", "https://cdn.example/styled/a.mp4"),
        (S3Profile("clips", public_url="https://cdn.example/generations"), "x/a.mp4", "https://cdn.example/x/a.mp4"),
        (S3Profile("others", public_url="https://cdn.example"), "a.mp4", None),
        (S3Profile(None, public_url="https://cdn.example"), "a.mp4", None),
    ],
)  # fmt: skip
def test_where_anybody_can_read_an_object(profile: S3Profile, key: str, expected: str | None) -> None:
    assert profile.public_link(S3Uri("clips", key)) == expected


def test_where_ledgers_are_kept() -> None:
    target = S3Uri("elsewhere", "styled/a.mp4")
    assert S3Profile("clips", "styled").ledger_root(target) == S3Uri("clips", "styled/_modelslab/ledger")
    assert S3Profile().ledger_root(target) == S3Uri("elsewhere", "_modelslab/ledger")
    assert S3Profile().ledger_root(None) is None
