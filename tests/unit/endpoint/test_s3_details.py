from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.endpoint.results.s3_details import DeployTarget, S3Attributes, S3Details

BODY = {
    "key": "k",
    "public_url": "https://cdn.example.com",
    "region_name": "eu-central-1",
    "endpoint_url": "https://clips.s3.eu-central-1.amazonaws.com",
    "aws_access_key_id": "AKIA-SECRET",
    "aws_secret_access_key": "very-secret",
    "image_directory": "generations",
}


def details_of(**changes: str) -> S3Details:
    return S3Details.of(S3Attributes.model_validate({**BODY, **changes}))


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
    details = details_of(endpoint_url=endpoint_url)
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
        details_of(endpoint_url=endpoint_url)
    assert list(caught.value.fields) == ["endpoint_url"]


@pytest.mark.parametrize("public_url", ["https://cdn.example.com", "https://cdn.example.com/generations/"])
def test_the_link_has_the_directory_once(public_url: str) -> None:
    details = details_of(public_url=public_url, image_directory="/generations/")
    assert details.object_key("a.mp4") == "generations/a.mp4"
    assert details.link("a.mp4") == "https://cdn.example.com/generations/a.mp4"


def test_no_secret_is_shown() -> None:
    assert "secret" not in repr(details_of()).lower()
    assert "secret" not in repr(S3Attributes.model_validate(BODY)).lower()
    with pytest.raises(ValidationError) as caught:
        S3Attributes(**{**BODY, "aws_access_key_id": ["AKIA-SECRET"]})
    assert "secret" not in str(caught.value).lower()


def test_what_is_stored_reads_back_the_same() -> None:
    details = details_of()
    assert S3Details.of(S3Attributes(**details.to_store())) == details


@pytest.mark.parametrize("given", [{}, {"deploy_type": None}, {"deploy_type": ""}])
def test_the_vendors_default_is_another_server_type(given: Any) -> None:
    assert DeployTarget(**given).deploy_type == "text_to_image"
