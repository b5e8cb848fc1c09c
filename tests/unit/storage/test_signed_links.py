"""A link that is signed anew is the same clip, and one with another parameter is another."""

from __future__ import annotations

import pytest

from airflow_provider_modelslab.storage.inputs import identify_input

CLIP = "https://h.example/a.mp4"


def identity(query: str) -> str | None:
    return identify_input(f"{CLIP}?{query}", lambda: pytest.fail("no S3 is asked"))


@pytest.mark.parametrize(
    "query",
    [
        "X-Amz-Algorithm=A&X-Amz-Credential=a&X-Amz-Date=1&X-Amz-Expires=60&X-Amz-Signature={0}&x-id=GetObject",
        "AWSAccessKeyId=a&Expires={0}&Signature={0}",
        "X-Goog-Algorithm=g&X-Goog-Signature={0}",
        "GoogleAccessId=a&Expires={0}&Signature={0}",
        "Expires={0}&Signature={0}&Key-Pair-Id=k",
        "Policy={0}&Signature={0}&Key-Pair-Id=k&Hash-Algorithm=SHA256",
        "sv=2024-11-04&st=1&se={0}&sr=b&sp=r&sig={0}",
        "skoid=1&sktid=2&skt={0}&ske={0}&sks=b&skv=2024-11-04&sv=1&spr=https&sip=1.2.3.4&se={0}&sr=b&sp=r&sig={0}",
        "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date={0}&x-oss-signature={0}",
        "OSSAccessKeyId=a&Expires={0}&Signature={0}&security-token={0}",
        "q-sign-algorithm=sha1&q-ak=a&q-sign-time={0}&q-key-time={0}&q-header-list=&q-url-param-list=&q-signature={0}",
        "X-Tos-Signature={0}&X-Tos-Date={0}",
        "Authorization={0}",
        "token={0}",
        "access_token={0}&exp={0}",
        "hdnts=exp={0}~hmac={0}",
        "jwt={0}",
    ],
)
def test_signed_anew_it_is_the_same_clip(query: str) -> None:
    assert identity(query.format("1")) == identity(query.format("2")) == CLIP
    assert identity(f"v=3&{query.format('1')}") == f"{CLIP}?v=3"


@pytest.mark.parametrize(
    "name", ["v", "id", "file", "versionId", "se", "sp", "st", "exp", "Expires", "policy", "tokens"]
)
def test_any_other_parameter_counts(name: str) -> None:
    assert identity(f"{name}=1") != identity(f"{name}=2")
