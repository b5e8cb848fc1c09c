"""The sidecar: a small JSON file beside each result with its job, its request and its metadata."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab import __version__
from airflow_provider_modelslab.api.errors import LandingError, StorageConfigurationError
from airflow_provider_modelslab.api.redaction import scrub
from airflow_provider_modelslab.storage.landing import LandedObject
from airflow_provider_modelslab.storage.obstore_client import read_body
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, is_missing, landing_error
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["SIDECAR_SCHEMA_VERSION", "read_sidecar", "sidecar_uri", "write_sidecar"]

SIDECAR_SCHEMA_VERSION = 1
_TIMES = ("submitted_at", "landed_at")


def sidecar_uri(uri: S3Uri) -> S3Uri:
    """The URI of an object's sidecar: ``<key>.json``.

    :raises StorageConfigurationError: when the object's key is longer than 1,019 bytes.
    """
    try:
        return S3Uri(uri.bucket, f"{uri.key}.json")
    except StorageConfigurationError as error:
        raise StorageConfigurationError(f"The key of the result's sidecar would be too long: {error}") from error


def write_sidecar(s3: S3Client, landed: LandedObject, record: Mapping[str, Any]) -> S3Uri:
    """Write the sidecar of a landed object and return its URI.

    :param record: plain JSON: ``job_id``, ``request`` (:meth:`Video2VideoRequest.record`), ``seed``, ``meta``,
        ``generation_time_s``, ``submitted_at`` and ``landed_at`` (seconds since the epoch, or text as it is; the latter
        is now if it is missing). Other keys are kept. Secret fields are masked and links lose their query.
    :raises LandingError: when S3 refuses.
    """
    given = {"landed_at": time.time(), **record}
    content: dict[str, Any] = {
        **given,
        **{name: _iso(given.get(name)) for name in _TIMES},
        "schema_version": SIDECAR_SCHEMA_VERSION,
        "uri": str(landed.uri),
        "sha256": landed.sha256,
        "bytes": landed.bytes,
        "content_type": landed.content_type,
        "source_url": landed.source_url,
        "provider_version": __version__,
    }
    for name in ("job_id", "request", "seed", "meta", "generation_time_s"):
        content.setdefault(name, None)
    uri = sidecar_uri(landed.uri)
    body = json.dumps(scrub(content), indent=2, sort_keys=True, ensure_ascii=False).encode()
    try:
        s3.put_object(Bucket=uri.bucket, Key=uri.key, Body=body, ContentType="application/json")
    except S3_ERRORS as error:
        raise landing_error(error, uri) from error
    return uri


def read_sidecar(s3: S3Client, uri: S3Uri) -> dict[str, Any] | None:
    """The content of the sidecar of the object ``uri``, or ``None`` if it has none.

    :raises LandingError: when S3 refuses, or the file is no sidecar of a version this package knows.
    """
    location = sidecar_uri(uri)
    try:
        body = read_body(s3, location.bucket, location.key)
    except S3_ERRORS as error:
        if is_missing(error, location, s3):
            return None
        raise landing_error(error, location) from error
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(content, dict) or not isinstance(version, int) or version > SIDECAR_SCHEMA_VERSION:
        raise LandingError(
            f"{location} is not a sidecar that this version can read (schema_version {version}, known up to "
            f"{SIDECAR_SCHEMA_VERSION}). Update the provider, or move the file away"
        )
    return content


def _iso(moment: object) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC."""
    if moment is None or isinstance(moment, str):
        return moment
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).isoformat(timespec="seconds")
    if isinstance(moment, int | float):
        return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds")
    raise TypeError(f"A time must be seconds since the epoch, text or a datetime; got {type(moment).__name__}")
