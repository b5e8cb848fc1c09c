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
        "sv=2026-02-06&skdutid=1&sduoid=2&sdd=3&ses=a&ske={0}&se={0}&sr=d&sp=r&sig={0}",
        "x-oss-signature-version=OSS4-HMAC-SHA256&x-oss-date={0}&x-oss-signature={0}",
        "x-oss-credential=a&x-oss-date={0}&x-oss-expires=60&x-oss-additional-headers=host&x-oss-security-token={0}",
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


@pytest.mark.parametrize("name", ["x-oss-process", "x-tos-process", "x-oss-async-process"])
def test_what_the_store_makes_of_the_clip_is_no_signature(name: str) -> None:
    """Tencent and Alibaba cut and scale a clip on the way: another one, although the name begins as a signature's."""
    signed = "x-oss-date=1&x-oss-signature=1"
    assert identity(f"{name}=video/snapshot&{signed}") != identity(f"{name}=video/cut&{signed}")


def test_a_version_goes_before_link_object_and_file() -> None:
    def no_s3() -> object:
        pytest.fail("nothing is looked at")

    given = (f"{CLIP}?id=1", f"{CLIP}?id=2", "s3://bucket/a.mp4", "/no/such/file.mp4")
    assert len({identify_input(clip, no_s3, version="7") for clip in given}) == 1  # type: ignore[arg-type]
    assert identify_input(CLIP, no_s3, version="7") != identify_input(CLIP, no_s3, version="8")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name", ["v", "id", "file", "versionId", "se", "sp", "st", "exp", "Expires", "policy", "tokens"]
)
def test_any_other_parameter_counts(name: str) -> None:
    assert identity(f"{name}=1") != identity(f"{name}=2")
