"""Clips of a batch that have landed since its checkpoint was written.

A checkpoint may be minutes old: while the batch works, and for good if its process was killed and the task is to be
tried again. Without these clips the page would call them pending.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage

__all__ = ["with_unreported"]

MAX_OBJECTS = 4000
"""Objects that are listed, at most: four requests."""


def with_unreported(rows: Mapping[int, dict[str, Any]], began: Any, store: GalleryStorage) -> dict[int, dict[str, Any]]:
    """The rows, with ``landed`` for pending clips whose result was written since the try began.

    A result is written to its key when it was verified, so the object says that it landed. If S3 refuses the listing,
    the rows are as the checkpoint has them.

    :param rows: by index; they are not changed.
    :param began: when the try began, in seconds since the epoch, as the checkpoint says.
    """
    pending = {row["uri"]: index for index, row in rows.items() if row["status"] == "pending"}
    if not pending or not isinstance(began, int | float):
        return dict(rows)
    found = dict(rows)
    try:
        since = datetime.fromtimestamp(began, UTC).replace(microsecond=0)  # S3 has whole seconds
        for uri, size in _written(pending, since, store):
            row = found[pending[uri]]
            found[pending[uri]] = {**row, "status": "landed", "bytes": size}
    except (*S3_ERRORS, StorageConfigurationError, ValueError, OverflowError, OSError):
        return dict(rows)
    return found


def _written(pending: Mapping[str, int], since: datetime, store: GalleryStorage) -> list[tuple[str, int]]:
    first, last = S3Uri.parse(min(pending)), S3Uri.parse(max(pending))
    if first.bucket != last.bucket:
        return []
    pairs = zip(first.key, last.key, strict=False)
    shared = next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(first.key), len(last.key)))
    pages = store.s3.get_paginator("list_objects_v2").paginate(
        Bucket=first.bucket,
        Prefix=first.key[:shared],
        PaginationConfig={"MaxItems": MAX_OBJECTS},
    )
    objects = [item for page in pages for item in page.get("Contents", [])]
    named = ((f"s3://{first.bucket}/{item['Key']}", item) for item in objects)
    return [(uri, item["Size"]) for uri, item in named if uri in pending and item["LastModified"] >= since]
