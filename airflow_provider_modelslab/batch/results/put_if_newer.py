"""Which attempt's results manifest stands: one that Airflow has given up may end after the one that took its place.

A worker that is frozen, or cut off, goes on with a task that runs elsewhere by then. Each clip's ledger sees to it that
nothing is paid for twice; but what such a process knows of the batch is old, so its manifest must not replace a newer
one. Each manifest therefore says in its metadata who wrote it (see :mod:`~airflow_provider_modelslab.ledger.attempt`),
and an earlier attempt leaves it alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_modelslab.api.errors import BatchSupersededError
from airflow_provider_modelslab.api.plain import parse_json
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.storage.s3_errors import (
    NO_CONDITIONS,
    S3_ERRORS,
    S3ErrorKind,
    is_missing,
    kind_of,
    storage_error,
)
from airflow_provider_modelslab.storage.s3_objects import LINES_TYPE, put_lines, read_object, to_lines
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["put_if_newer"]

log = logging.getLogger(__name__)

# Since it was looked at; AWS answers 404 when If-Match meets nothing any more.
_CHANGED = {S3ErrorKind.NO_OBJECT, S3ErrorKind.CONFLICT, S3ErrorKind.PRECONDITION_FAILED}
_PAUSES = (0.05, 0.2, 0.8)


def put_if_newer(
    s3: S3Client,
    place: S3Uri,
    lines: Iterable[Mapping[str, Any]],
    attempt: AttemptId | None,
    *,
    join: Callable[[list[dict[str, Any]]], Iterable[Mapping[str, Any]]] | None = None,
    probably_new: bool = False,
) -> bool:
    """Write a manifest, unless a later attempt has; says whether there was none before, as far as the store tells.

    It costs one ``HeadObject`` beside the put. The put holds only for what was seen there (``If-Match``,
    ``If-None-Match``), and where that has changed in the meantime, it is looked at again. A store that ignores or
    refuses conditions is looked at all the same; there a later attempt is overwritten only by one that has looked
    before and puts after it, a moment of milliseconds unless the process is frozen in just that moment.

    :param attempt: the attempt that runs; ``None`` replaces whatever is there.
    :param join: called with the lines of a manifest that another process of the same try has written; the lines to
        write instead. It costs one ``GetObject``.
    :param probably_new: nothing is expected there, so it is looked at only where the store refuses the put for it.
    :raises BatchSupersededError: when a later attempt has written it; it is left as it is.
    :raises StorageConfigurationError: when S3 refuses.
    """
    if attempt is None:
        put_lines(s3, place, lines)
        return False
    body = to_lines(lines)
    there = None if probably_new else _look(s3, place)
    for pause in _PAUSES:
        if join and there and there.attempt and attempt.is_same_try(there.attempt):
            body = to_lines(join(_read(s3, place)))
        try:
            _put(s3, place, body, attempt, _condition(place, attempt, there))
        except S3_ERRORS as error:
            if kind_of(error) in NO_CONDITIONS:
                break
            if kind_of(error) not in _CHANGED:
                raise storage_error(error, place) from error
        else:
            return there is None
        time.sleep(pause)
        there = _look(s3, place)  # perhaps this very put: botocore repeats one whose answer was lost
    else:
        # Nobody else writes that often: what this store calls an ETag is not what it compares.
        _condition(place, attempt, there)
    try:
        _put(s3, place, body, attempt, {})
    except S3_ERRORS as error:
        raise storage_error(error, place) from error
    return False


class _There(NamedTuple):
    """What is in an object's place.

    :param etag: as the store tells it, with quotes; ``None`` where it must not be looked at.
    """

    etag: str | None
    attempt: AttemptId | None


def _condition(place: S3Uri, attempt: AttemptId, there: _There | None) -> dict[str, Any]:
    """What a put holds for, as arguments.

    :raises BatchSupersededError: when it must not be.
    """
    if there is None:
        return {"IfNoneMatch": "*"}
    if there.attempt is not None and attempt.is_before(there.attempt):
        raise _superseded(place, attempt, there.attempt)
    return {"IfMatch": there.etag} if there.etag else {}


def _superseded(place: S3Uri, attempt: AttemptId, later: AttemptId) -> BatchSupersededError:
    return BatchSupersededError(
        f"Try {attempt.try_number} of this batch stops: Airflow had declared it dead, and try {later.try_number} has "
        f"already finished the batch. {place} was written by try {later.try_number} and is not changed. The results "
        f"that try {attempt.try_number} landed stay, and later runs find them. Nothing needs to be done. Only if "
        f"no later attempt wrote {place}: delete it and clear the task. With reuse 'never', this clear pays for every "
        "clip again"
    )


def _look(s3: S3Client, place: S3Uri) -> _There | None:
    try:
        head = s3.head_object(Bucket=place.bucket, Key=place.key)
    except S3_ERRORS as error:
        if is_missing(error, place, s3):
            return None
        if kind_of(error) is not S3ErrorKind.ACCESS_DENIED:
            raise storage_error(error, place) from error
        log.warning(
            "S3 does not allow a check of which attempt wrote %s, so it is written without this check. An attempt that "
            "Airflow declared dead may replace what a later attempt wrote. Grant s3:GetObject on it, and s3:ListBucket",
            place,
        )
        return _There(None, None)
    return _There(head["ETag"], AttemptId.from_metadata(head["Metadata"]))


def _read(s3: S3Client, place: S3Uri) -> list[dict[str, Any]]:
    found = map(parse_json, (read_object(s3, place) or b"").splitlines())
    return [line for line in found if isinstance(line, dict)]


def _put(s3: S3Client, place: S3Uri, body: bytes, attempt: AttemptId, condition: Mapping[str, Any]) -> None:
    s3.put_object(
        Bucket=place.bucket,
        Key=place.key,
        Body=body,
        ContentType=LINES_TYPE,
        Metadata=attempt.metadata(),
        **condition,
    )
