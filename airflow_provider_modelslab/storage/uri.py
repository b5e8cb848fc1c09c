"""S3 URIs: ``s3://bucket/key`` as a value, and the validation of texts that should name one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from airflow_provider_modelslab.api.endpoint_request import is_blank
from airflow_provider_modelslab.api.errors import StorageConfigurationError

__all__ = [
    "SOURCES",
    "S3Uri",
    "check_bucket_name",
    "check_suffix",
    "destination_problem",
    "location_problem",
    "media_suffix",
    "source_problem",
]

# What boto accepts: AWS has stricter rules for new buckets since 2018 but keeps the older names, and Google and Ceph
# allow underscores.
_BUCKET = re.compile(r"[A-Za-z0-9._-]{3,255}")
_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}")
_MAX_KEY_BYTES = 1024

# A scheme with too few slashes counts, too: s3:/bucket/clip.mp4 is not meant as a key.
_SCHEME = re.compile(
    r"([a-z][a-z0-9+.-]*)(:[/\\]+)|(s3[an]?|gs|gcs|abfss?|wasbs?|az|file|https?|ftp)(:)", re.IGNORECASE
)
_USER = re.compile(r"(?<=:)(/*)[^/@]*@")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@lru_cache(maxsize=64)
def check_bucket_name(bucket: str) -> str:
    """The name itself, if it is legal in some store; whether the bucket exists is not checked.

    :raises StorageConfigurationError: when the name is illegal, with the rule.
    """
    if not _BUCKET.fullmatch(bucket) or not bucket.strip(".") or _ADDRESS.fullmatch(bucket):
        raise StorageConfigurationError(
            f"{bucket!r} is not a valid S3 bucket name: 3 to 255 letters, digits, dots, hyphens and underscores, not "
            "only dots and not an IP address"
        )
    return bucket


@dataclass(frozen=True, slots=True, order=True)
class S3Uri:
    """An object or a prefix in S3.

    :param bucket: a legal bucket name.
    :param key: the object's key, as it is (nothing is percent-decoded), at most 1,024 bytes of UTF-8. It is empty, or
        ends with a slash, if the URI names a folder.
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
            raise StorageConfigurationError(f"The S3 URI {text!r} has no bucket; expected s3://bucket/key")
        return cls(bucket, key)

    def child(self, name: str) -> S3Uri:
        """The object ``name`` in this folder; the name is used unchanged, slashes included."""
        return S3Uri(self.bucket, self.folder().key + name)

    def folder(self) -> S3Uri:
        """The URI as a folder: its key ends with a slash, unless it is the whole bucket.

        All other slashes are part of the key: ``s3://bucket//day`` is another folder than ``s3://bucket/day``.
        """
        return self if not self.key or self.key.endswith("/") else S3Uri(self.bucket, f"{self.key}/")

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def location_problem(text: str, *, allowed: str, schemes: tuple[str, ...] = ()) -> str | None:
    """Why a text with a URI scheme cannot be used; ``None`` if it can, or has no scheme.

    :param allowed: the supported values, as the end of a sentence.
    :param schemes: supported schemes besides ``s3``.
    :return: the end of a sentence that begins with the field's name. The query and the user of a link are left out.
    """
    given = text.strip()
    found = _SCHEME.match(given)
    if found is None:
        return None
    scheme, separator = (part for part in found.groups() if part)
    if separator.startswith("://"):
        if scheme.lower() in schemes:
            return None
        if scheme.lower() == "s3":
            try:
                S3Uri.parse(given)
            except StorageConfigurationError as error:
                return error.message
            return None
    shown = _USER.sub(r"\1", re.split("[?#]", given, maxsplit=1)[0], count=1)[:200]
    return f"{found[0]} is not supported; give {allowed}; got {shown!r}"


SOURCES = "s3://bucket/prefix/, a manifest file (.jsonl, .csv), a list of clips or the summary of a batch"
"""The supported sources of a batch, as the end of a sentence."""


def source_problem(given: str) -> str | None:
    """Why a text cannot be the source of a batch, from the text alone; ``None`` if it can.

    :return: the end of a sentence that begins with the field's name.
    """
    if is_blank(given):
        return f"needs {SOURCES}; got {given!r}"
    return location_problem(given, allowed=SOURCES, schemes=("file",))


_MEDIA_SUFFIX = re.compile(r"[^/]\.(mp4|m4v|mov|gif|webm|mkv|avi)\s*$", re.IGNORECASE)
_MEDIA_FOLDER = re.compile(r"[^/]\.(mp4|gif)/+\s*$", re.IGNORECASE)


def media_suffix(location: str) -> str | None:
    """The suffix of a video's name, in lower case and without the dot; ``None`` for other names and for folders."""
    key = location.partition("://")[2].partition("/")[2] if "://" in location else location
    found = _MEDIA_SUFFIX.search(key)
    return found[1].lower() if found else None


def check_suffix(destination: str, suffix: str, *, field: str = "destination") -> None:
    """Refuse a name whose suffix says another kind of video than what lands there.

    :param destination: an object or a prefix; a name without a video's suffix fits everything.
    :param suffix: ``mp4`` or ``gif``, as the result is going to be.
    :raises StorageConfigurationError: naming both.
    """
    given = media_suffix(destination)
    if given is not None and given != suffix and (given, suffix) != ("m4v", "mp4"):
        option = f"output_type={given!r}" if field == "destination" else f"--output-type {given}"
        advice = f"set {option}, or " if given in {"mp4", "gif"} else ""
        raise StorageConfigurationError(
            f"{field}: ends with .{given}, but the result is {suffix}; {advice}give a name that ends with .{suffix}; "
            f"got {destination[:200]!r}"
        )


def destination_problem(given: object) -> str | None:
    """Why results cannot land there, with any connection; ``None`` if they can.

    :param given: ``s3://bucket/key``, or a key below the connection's bucket and prefix; whitespace around it is
        ignored. A key is used unchanged, including two slashes in a row.
    :return: the end of a sentence that begins with the field's name.
    """
    if is_blank(given):
        return "is empty; give s3://bucket/prefix/ or leave the argument out"
    if not isinstance(given, str):
        return f"must be text; got {given!r:.200}"
    text = given.strip()
    allowed = "s3://bucket/key.mp4, s3://bucket/prefix/, or a key below the connection's bucket"
    problem = location_problem(text, allowed=allowed)
    if problem is not None:
        return problem
    key = text
    if _SCHEME.match(text):
        key = S3Uri.parse(text).key
    elif text.startswith("/"):
        return f"must be {allowed} (without a slash at its start); got {text[:200]!r}"
    if "\\" in key:
        return f"must have no backslash; folders are separated by /; got {text[:200]!r}"
    if _UNPRINTABLE.search(key):
        return f"must have no control characters; got {text[:200]!r}"
    if (folder := _MEDIA_FOLDER.search(key)) is not None:
        return (
            f"ends with .{folder[1]}/, a folder with the name of a video; leave out the slash to name one video, "
            "or the suffix to name a folder; got " + repr(text[:200])
        )
    if {".", ".."} & set(key.split("/")):
        return f"must have no folder named '.' or '..', which many tools read as another location; got {text[:200]!r}"
    return None
