"""Names of inputs and outputs as OpenLineage datasets and as Airflow assets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

__all__ = ["DatasetUri", "Output", "asset_uri", "uri_of"]

_LEGAL_IN_PATHS = "/!$&'()*+,;=:@-._~"


@dataclass(frozen=True, slots=True)
class DatasetUri:
    """A dataset's name according to the rules of OpenLineage and of Airflow's own converters.

    :param namespace: ``s3://bucket``, ``https://host:port`` or ``file``.
    :param name: the key, or the path.
    """

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class Output:
    """An output in S3.

    :param uri: the object, or the prefix.
    :param bytes: its size; ``None`` before it has landed.
    :param files: how many objects.
    """

    uri: str
    bytes: int | None = None
    files: int | None = None


def uri_of(text: object) -> DatasetUri | None:
    """The dataset URI of a clip or a result; ``None`` if it has none. A link loses its user, password and query.

    :param text: ``s3://bucket/key``, an http(s) link, ``file://`` or a path.
    """
    if not isinstance(text, str) or not text.strip():
        return None
    text = text.strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        return DatasetUri("file", str(Path(text).absolute()))
    scheme = scheme.lower()
    if scheme == "s3":  # not by urlsplit: a key may hold "#" and "?"
        bucket, _, key = rest.partition("/")
        return DatasetUri(f"s3://{bucket}", key or "/") if bucket else None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    if scheme in {"http", "https"}:
        host = parts.netloc.rpartition("@")[2]
        return DatasetUri(f"{scheme}://{host}", parts.path or "/") if host else None
    return DatasetUri("file", unquote(parts.path)) if scheme == "file" and parts.path else None


def asset_uri(uri: str) -> str:
    """An S3 URI as the URI of an asset: characters that are illegal in URIs are percent-encoded.

    Airflow would truncate a key at ``#``, sort the text after ``?``, and, on MySQL, refuse non-ASCII characters. The
    event's ``extra["uri"]`` has the unencoded URI.
    """
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{quote(rest, safe=_LEGAL_IN_PATHS)}"
