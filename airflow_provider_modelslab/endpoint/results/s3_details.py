"""The body of ``update_s3``: where a person's results go, and how to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, Field, model_validator

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.storage.uri import check_bucket_name

__all__ = ["DeployTarget", "DeployType", "S3Attributes", "S3Details"]

DeployType = Literal[
    "text_to_image",
    "image_editing",
    "voice_cloning",
    "text_to_3d",
    "video",
    "face_gen",
    "deepfake",
    "realtime",
    "super_resolution",
    "flux",
    "flux_headshot",
    "interior",
    "qwen",
    "qwen_tts",
    "flux_kontext_dev",
    "image_to_video_ultra",
    "z_image_turbo",
]
"""The server types of the vendor's page; this endpoint serves ``video`` and remembers the others."""

# AWS's own bound for a URL; keys and names are shorter.
_Text = Annotated[str, Field(min_length=1, max_length=2048)]


class DeployTarget(BaseModel, frozen=True):
    """The server type that a call is about. ``None`` and ``""`` mean that an attribute is not given."""

    deploy_type: DeployType = Field(
        default="text_to_image", description="The server type; for results of this endpoint, video."
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, data: Any) -> Any:
        return {k: v for k, v in data.items() if v not in (None, "")} if isinstance(data, Mapping) else data


class S3Attributes(DeployTarget, frozen=True, str_strip_whitespace=True, hide_input_in_errors=True):
    """The attributes of ``update_s3``."""

    public_url: _Text = Field(
        description="Base URL of the links in responses, with or without the image_directory.",
        examples=["https://cdn.example.com/generations/"],
    )
    region_name: _Text = Field(description="Region of the bucket.", examples=["eu-central-1"])
    endpoint_url: _Text = Field(
        description="https://<bucket>.s3.<region>.amazonaws.com or https://<host>/<bucket>.",
        examples=["https://clips.s3.eu-central-1.amazonaws.com"],
    )
    aws_access_key_id: _Text = Field(description="Needs s3:PutObject and s3:PutObjectAcl.", repr=False)
    aws_secret_access_key: _Text = Field(description="The secret of this access key.", repr=False)
    image_directory: _Text = Field(description="Folder in the bucket.", examples=["generations"])


_STORED = tuple(name for name in S3Attributes.model_fields if name != "deploy_type")


@dataclass(frozen=True, slots=True)
class S3Details:
    """A bucket and the credentials for it.

    :param endpoint: the S3 service without the bucket; see :func:`_bucket_of`.
    :param virtual_host: whether the bucket is the first label of the host name rather than of the path.
    """

    public_url: str
    region_name: str
    endpoint_url: str
    image_directory: str
    aws_access_key_id: str = field(repr=False)
    aws_secret_access_key: str = field(repr=False)
    bucket: str = ""
    endpoint: str = ""
    virtual_host: bool = False

    @classmethod
    def of(cls, attributes: S3Attributes) -> Self:
        """The bucket that the attributes name.

        :raises InvalidRequestError: for an ``endpoint_url`` without a bucket, and a ``public_url`` that is no URL.
        """
        bucket, endpoint, virtual_host = _bucket_of(attributes.endpoint_url)
        try:
            check_bucket_name(bucket)
        except StorageConfigurationError as error:
            raise InvalidRequestError.of("endpoint_url", error.message) from None
        public = urlsplit(attributes.public_url)
        if public.scheme not in {"http", "https"} or not public.hostname:
            raise InvalidRequestError.of("public_url", "must be an http(s) URL")
        given = attributes.model_dump(include=set(_STORED))
        return cls(**given, bucket=bucket, endpoint=endpoint, virtual_host=virtual_host)

    def to_store(self) -> dict[str, str]:
        """What :class:`S3Attributes` is made of, credentials included: for the state database alone."""
        return {name: getattr(self, name) for name in _STORED}

    def object_key(self, name: str) -> str:
        """The key of a file in the bucket."""
        directory = self.image_directory.strip("/")
        return f"{directory}/{name}" if directory else name

    def link(self, name: str) -> str:
        """The public link of a file.

        The vendor's example has a ``public_url`` that already ends in the ``image_directory``; both ways of giving it
        lead to the same link.
        """
        base, directory = self.public_url.rstrip("/"), self.image_directory.strip("/")
        if directory and urlsplit(base).path.endswith(f"/{directory}"):
            return f"{base}/{quote(name)}"
        return f"{base}/{quote(self.object_key(name))}"


def _bucket_of(endpoint_url: str) -> tuple[str, str, bool]:
    """Bucket, service address and whether the bucket is in the host name.

    Two forms are read: the bucket host of the vendor's example (``https://<bucket>.s3.<anything>``) and the path style
    that most S3-compatible services use (``https://host:port/<bucket>``).
    """
    problem = InvalidRequestError.of(
        "endpoint_url", "must name the bucket, as https://<bucket>.s3.<region>.amazonaws.com or https://<host>/<bucket>"
    )
    try:
        parts = urlsplit(endpoint_url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise problem from None
    if parts.scheme not in {"http", "https"} or not host or parts.username or parts.query or parts.fragment:
        raise problem
    path = parts.path.strip("/")
    if path:
        if "/" in path:
            raise problem
        return path, f"{parts.scheme}://{parts.netloc}", False
    for mark in (".s3.", ".s3-"):
        bucket, found, rest = host.partition(mark)
        if found and bucket:
            service = f"{mark[1:]}{rest}" + (f":{port}" if port else "")
            return bucket, f"{parts.scheme}://{service}", True
    raise problem
