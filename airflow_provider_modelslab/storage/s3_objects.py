"""Lists objects page by page, and reads and writes small ones; errors name the missing permission."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_modelslab.api.errors import STORAGE_ERRORS
from airflow_provider_modelslab.storage.obstore_client import read_body
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, is_missing, storage_error
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = [
    "LINES_TYPE",
    "Listed",
    "bare_etag",
    "is_gone",
    "list_names",
    "list_pages",
    "listing_budget",
    "missing_objects",
    "put_lines",
    "put_object",
    "read_object",
    "to_lines",
]

LINES_TYPE = "application/x-ndjson"
"""The content type of manifests: one JSON object a line."""

_READERS = 16


class Listed(NamedTuple):
    """One object of a listing.

    :param key: its key.
    :param etag: without quotes.
    :param bytes: its size.
    """

    key: str
    etag: str
    bytes: int


def list_pages(
    s3: S3Client, prefix: S3Uri, *, recursive: bool = True, start_after: str | None = None
) -> Iterator[list[Listed]]:
    """The objects whose keys begin with ``prefix.key``, in the order of their keys, up to 1,000 a page.

    :param recursive: if ``False``, the store leaves out keys with a further slash.
    :param start_after: begin behind this key.
    :raises StorageConfigurationError: when the store refuses, or there is no such bucket.
    :raises StorageUnavailableError: when it has trouble.
    """
    options: dict[str, Any] = {"Bucket": prefix.bucket, "Prefix": prefix.key}
    if not recursive:
        options["Delimiter"] = "/"
    if start_after is not None:
        options["StartAfter"] = start_after
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(**options):
            yield [Listed(item["Key"], bare_etag(item["ETag"]), item["Size"]) for item in page.get("Contents", [])]
    except S3_ERRORS as error:
        raise storage_error(error, prefix) from error


def list_names(s3: S3Client, folder: S3Uri, *, like: str = "") -> list[str]:
    """The names in a folder, those of folders with a slash at the end: the first 1,000, and the first that begin so.

    :param like: the beginning of names that are wanted even in a folder of many.
    :raises StorageConfigurationError: when the store refuses, or there is no such bucket.
    :raises StorageUnavailableError: when it has trouble.
    """
    names: dict[str, None] = {}
    for begin in dict.fromkeys((like, "")):
        try:
            page = s3.list_objects_v2(Bucket=folder.bucket, Prefix=folder.key + begin, Delimiter="/")
        except S3_ERRORS as error:
            raise storage_error(error, folder) from error
        found = [item["Key"] for item in page.get("Contents", [])]
        found += [item["Prefix"] for item in page.get("CommonPrefixes", [])]
        names.update(dict.fromkeys(key[len(folder.key) :] for key in found))
    names.pop("", None)  # the folder's own marker
    return sorted(names)


def listing_budget(requests: int) -> int:
    """How many objects may be listed before separate requests for the needed ones are cheaper."""
    return 2000 + 100 * requests


def read_object(s3: S3Client, uri: S3Uri) -> bytes | None:
    """A small object's content; ``None`` where there is none.

    :raises StorageConfigurationError: when the store refuses.
    :raises StorageUnavailableError: when it has trouble.
    """
    try:
        return read_body(s3, uri.bucket, uri.key)
    except S3_ERRORS as error:
        if is_missing(error, uri, s3):
            return None
        raise storage_error(error, uri) from error


def missing_objects(s3: S3Client, uris: Iterable[S3Uri]) -> list[S3Uri]:
    """Those of the objects that do not exist; several are requested at a time.

    :raises StorageConfigurationError: when the store refuses.
    :raises StorageUnavailableError: when it has trouble.
    """

    def is_there(uri: S3Uri) -> bool:
        try:
            s3.head_object(Bucket=uri.bucket, Key=uri.key)
        except S3_ERRORS as error:
            if is_missing(error, uri, s3):
                return False
            raise storage_error(error, uri) from error
        return True

    wanted = list(uris)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="modelslab-head") as pool:
        return [uri for uri, found in zip(wanted, pool.map(is_there, wanted), strict=True) if not found]


def put_object(s3: S3Client, uri: S3Uri, body: bytes, content_type: str) -> None:
    """Write a small object; an existing one is overwritten.

    :raises StorageConfigurationError: when the store refuses.
    :raises StorageUnavailableError: when it has trouble.
    """
    try:
        s3.put_object(Bucket=uri.bucket, Key=uri.key, Body=body, ContentType=content_type)
    except S3_ERRORS as error:
        raise storage_error(error, uri) from error


def put_lines(s3: S3Client, uri: S3Uri, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write a manifest, one JSON object per line; an existing one is overwritten.

    :raises StorageConfigurationError: when the store refuses.
    :raises StorageUnavailableError: when it has trouble.
    """
    put_object(s3, uri, to_lines(lines), LINES_TYPE)


def to_lines(lines: Iterable[Mapping[str, Any]]) -> bytes:
    """JSON lines, the format of a manifest."""
    return b"".join(json.dumps(line, ensure_ascii=False, default=str).encode() + b"\n" for line in lines)


def is_gone(s3: S3Client, manifest: Mapping[str, Any]) -> bool:
    """Whether a landed result is no longer in S3: the object is missing, empty, or overwritten by a different result.

    An object that was edited in place counts as present, since a missing result may be paid for again; so does every
    object when S3 fails. Long objects have no digest in their metadata, only in the sidecar.

    :param manifest: of the landed result.
    """
    uri = S3Uri.parse(manifest["uri"])
    try:
        head = s3.head_object(Bucket=uri.bucket, Key=uri.key)
    except S3_ERRORS as error:
        return is_missing(error, uri, s3)
    digest = next((text for name, text in head["Metadata"].items() if name.lower() == "sha256"), None)
    if digest is None and manifest.get("sha256"):
        digest = _sidecar_digest(s3, uri)
    is_another = bool(digest and manifest.get("sha256")) and digest != manifest["sha256"]
    return is_another or head["ContentLength"] == 0


def _sidecar_digest(s3: S3Client, uri: S3Uri) -> str | None:
    """The SHA-256 in an object's sidecar; ``None`` if it cannot be read or contains none."""
    try:
        content = json.loads(read_object(s3, S3Uri(uri.bucket, f"{uri.key}.json")) or b"{}")
    except (*STORAGE_ERRORS, ValueError):
        return None
    digest = content.get("sha256") if isinstance(content, dict) and content.get("uri") == str(uri) else None
    return digest if isinstance(digest, str) else None


def bare_etag(etag: str) -> str:
    """An ETag without its quotes; some stores omit them in listings."""
    return etag.strip('"')
