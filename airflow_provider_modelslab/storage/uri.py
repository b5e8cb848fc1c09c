"""Where something lies in S3: ``s3://bucket/key`` as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_modelslab.api.errors import StorageConfigurationError

__all__ = ["S3Uri", "check_bucket_name"]

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html; compatible stores follow it.
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
_MAX_KEY_BYTES = 1024


def check_bucket_name(bucket: str) -> str:
    """The name itself when S3 allows it.

    :raises StorageConfigurationError: when it does not, with the rule.
    """
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _ADDRESS.fullmatch(bucket):
        raise StorageConfigurationError(
            f"{bucket!r} is no legal S3 bucket name: 3 to 63 lower-case letters, digits, dots and hyphens, beginning "
            "and ending with a letter or digit, no two dots in a row, not an IP address"
        )
    return bucket


@dataclass(frozen=True, slots=True, order=True)
class S3Uri:
    """A place in S3.

    :param bucket: a legal bucket name.
    :param key: the object's key, as it is (nothing is percent-decoded), at most 1,024 bytes of UTF-8. It is empty, or
        ends with a slash, where the URI names a place for several objects.
    :raises StorageConfigurationError: for an illegal bucket name or a key that is too long.
    """

    bucket: str
    key: str = ""

    def __post_init__(self) -> None:
        check_bucket_name(self.bucket)
        length = len(self.key.encode())
        if length > _MAX_KEY_BYTES:
            raise StorageConfigurationError(
                f"The S3 key {self.key[:80]!r}... has {length} bytes; S3 allows {_MAX_KEY_BYTES}. Shorten the prefix"
            )

    @classmethod
    def parse(cls, text: str) -> S3Uri:
        """Read ``s3://bucket`` or ``s3://bucket/key``.

        :raises StorageConfigurationError: for another scheme, a missing bucket or an illegal bucket name.
        """
        scheme, separator, rest = text.strip().partition("://")
        if not separator or scheme.lower() != "s3":
            # Only the scheme is shown: an https link may hold a signature.
            given = f"{scheme}://..." if separator else repr(text)
            raise StorageConfigurationError(f"Expected an S3 URI like s3://bucket/key; got {given}")
        bucket, _, key = rest.partition("/")
        if not bucket:
            raise StorageConfigurationError(f"The S3 URI {text!r} names no bucket; expected s3://bucket/key")
        return cls(bucket, key)

    def child(self, name: str) -> S3Uri:
        """The object ``name`` under this place; a missing slash in between is put in."""
        head = f"{self.key}/" if self.key and not self.key.endswith("/") else self.key
        return S3Uri(self.bucket, head + name.lstrip("/"))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"
