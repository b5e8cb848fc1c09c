from __future__ import annotations

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.endpoint.results.s3_details import DEPLOY_TYPES, S3Details, deploy_type_of

BODY = {
    "key": "k",
    "public_url": "https://cdn.example.com",
    "region_name": "eu-central-1",
    "endpoint_url": "https://clips.s3.eu-central-1.amazonaws.com",
    "aws_access_key_id": "AKIA-SECRET",
    "aws_secret_access_key": "very-secret",
    "image_directory": "generations",
}


@pytest.mark.parametrize(
    ("endpoint_url", "bucket", "endpoint", "virtual_host"),
    [
        ("https://clips.s3.amazonaws.com", "clips", "https://s3.amazonaws.com", True),
        ("https://clips.s3.eu-central-1.amazonaws.com/", "clips", "https://s3.eu-central-1.amazonaws.com", True),
        ("https://clips.s3-eu-west-1.amazonaws.com", "clips", "https://s3-eu-west-1.amazonaws.com", True),
        ("https://my.clips.s3.example.org:9000", "my.clips", "https://s3.example.org:9000", True),
        ("https://127.0.0.1:9000/clips", "clips", "https://127.0.0.1:9000", False),
        ("http://localhost:9000/clips/", "clips", "http://localhost:9000", False),
        ("https://s3.eu-central-1.amazonaws.com/clips", "clips", "https://s3.eu-central-1.amazonaws.com", False),
        ("https://[::1]:9000/clips", "clips", "https://[::1]:9000", False),
    ],
)
def test_both_forms_of_endpoint_url(endpoint_url: str, bucket: str, endpoint: str, virtual_host: bool) -> None:
    details = S3Details.from_body({**BODY, "endpoint_url": endpoint_url})
    assert (details.bucket, details.endpoint, details.virtual_host) == (bucket, endpoint, virtual_host)


@pytest.mark.parametrize(
    "endpoint_url",
    [
        "clips",
        "ftp://host/clips",
        "https://host",
        "https://s3.amazonaws.com",
        "https://host/clips/deeper",
        "https://user:word@host/clips",
        "https://host/clips?X-Amz-Signature=abc",
        "https://host:port/clips",
        "https://host/not~a~bucket",
    ],
)
def test_an_endpoint_url_that_names_no_bucket_is_refused(endpoint_url: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        S3Details.from_body({**BODY, "endpoint_url": endpoint_url})
    assert list(caught.value.fields) == ["endpoint_url"]


@pytest.mark.parametrize("public_url", ["https://cdn.example.com", "https://cdn.example.com/generations/"])
def test_the_link_has_the_directory_once(public_url: str) -> None:
    details = S3Details.from_body({**BODY, "public_url": public_url, "image_directory": "/generations/"})
    assert details.object_key("a.mp4") == "generations/a.mp4"
    assert details.link("a.mp4") == "https://cdn.example.com/generations/a.mp4"


def test_every_missing_attribute_is_named_and_no_secret_is_shown() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        S3Details.from_body({"aws_secret_access_key": "very-secret", "aws_access_key_id": 5, "public_url": ""})
    assert caught.value.fields == {
        "public_url": ["is required"],
        "region_name": ["is required"],
        "endpoint_url": ["is required"],
        "aws_access_key_id": ["must be text"],
        "image_directory": ["is required"],
    }
    assert "very-secret" not in str(caught.value)
    assert "secret" not in repr(S3Details.from_body(BODY)).lower()


def test_what_is_stored_reads_back_the_same() -> None:
    details = S3Details.from_body(BODY)
    assert S3Details.from_body(details.to_store()) == details


def test_deploy_types() -> None:
    assert deploy_type_of({}) == "text_to_image"
    assert [deploy_type_of({"deploy_type": name}) for name in DEPLOY_TYPES] == list(DEPLOY_TYPES)
    with pytest.raises(InvalidRequestError, match="must be one of"):
        deploy_type_of({"deploy_type": ["video"]})
