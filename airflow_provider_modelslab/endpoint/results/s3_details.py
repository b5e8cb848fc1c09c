"""The body of ``update_s3``: where a person's results go, and how to reach it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import quote, urlsplit

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.storage.uri import check_bucket_name

__all__ = ["DEFAULT_DEPLOY_TYPE", "DEPLOY_TYPES", "S3Details", "deploy_type_of"]

DEPLOY_TYPES = (
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
)
"""The server types of the vendor's page; this endpoint serves ``video`` and remembers the others."""

DEFAULT_DEPLOY_TYPE = "text_to_image"
"""The vendor's default, so details for videos need ``deploy_type`` to be given."""

_REQUIRED = (
    "public_url",
    "region_name",
    "endpoint_url",
    "aws_access_key_id",
    "aws_secret_access_key",
    "image_directory",
)
_MOST_CHARACTERS = 2048  # AWS's own bound for a URL; keys and names are shorter


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
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read a call's body.

        :raises InvalidRequestError: naming each attribute at fault; no value of a credential is repeated.
        """
        fields: dict[str, list[str]] = {}
        for name in _REQUIRED:
            value = body.get(name)
            if value is None or value == "":
                fields[name] = ["is required"]
            elif not isinstance(value, str):
                fields[name] = ["must be text"]
            elif len(value) > _MOST_CHARACTERS:
                fields[name] = [f"must be at most {_MOST_CHARACTERS} characters"]
        if fields:
            raise InvalidRequestError.of_fields(fields)
        bucket, endpoint, virtual_host = _bucket_of(body["endpoint_url"])
        try:
            check_bucket_name(bucket)
        except StorageConfigurationError as error:
            raise InvalidRequestError.of("endpoint_url", error.message) from None
        public = urlsplit(body["public_url"])
        if public.scheme not in {"http", "https"} or not public.hostname:
            raise InvalidRequestError.of("public_url", "must be an http(s) URL")
        given = {name: body[name].strip() for name in _REQUIRED}
        return cls(**given, bucket=bucket, endpoint=endpoint, virtual_host=virtual_host)

    def to_store(self) -> dict[str, str]:
        """The attributes as :meth:`from_body` takes them, credentials included: for the state database alone."""
        return {name: getattr(self, name) for name in _REQUIRED}

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


def deploy_type_of(body: Mapping[str, Any]) -> str:
    """The server type that a call is about.

    :raises InvalidRequestError: for a type that the vendor's page does not have.
    """
    value = body.get("deploy_type") or DEFAULT_DEPLOY_TYPE
    if value not in DEPLOY_TYPES:
        raise InvalidRequestError.of("deploy_type", f"must be one of {', '.join(DEPLOY_TYPES)}")
    return str(value)


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
