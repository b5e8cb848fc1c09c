"""Reads the beginning of a clip, wherever it is: which container it is, and how large its picture is."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

import requests

from airflow_provider_modelslab.api.brands import BRAND_BYTES, describe_non_video
from airflow_provider_modelslab.api.errors import ModelsLabError, StorageConfigurationError, TransportError
from airflow_provider_modelslab.api.links import is_http_link
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.storage.download import LinkFailure, credential_free_session, open_link, read_start
from airflow_provider_modelslab.storage.media import ContainerKind, describe_start, sniff
from airflow_provider_modelslab.storage.obstore_client import read_body
from airflow_provider_modelslab.storage.picture_size import ReadPiece, picture_size
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, input_error, invalid_input
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.api.aspect import Size

__all__ = ["ClipHead", "S3Factory", "clip_path", "clip_size", "clip_uri", "read_head"]

S3Factory = Callable[[], "S3Client"]

_START_RANGE = f"bytes=0-{BRAND_BYTES - 1}"
_LINK_TIMEOUT = (10.0, 30.0)
_LINK_TRIES = 3


class ClipHead(NamedTuple):
    """What the beginning of a clip says.

    :param size: of its picture, if it was asked for and the clip says it.
    """

    kind: ContainerKind
    size: Size | None = None


def read_head(
    given: str, s3_factory: S3Factory, *, with_size: bool = False, session: requests.Session | None = None
) -> ClipHead:
    """Read the first bytes of a link, an ``s3://`` object or a file; for the size perhaps some more of its headers.

    :param s3_factory: called only for an object.
    :raises InvalidRequestError: for ``init_video``, when it cannot be read or is no video.
    :raises ModelsLabError: whatever S3 or the link's host calls for.
    """
    if is_http_link(given):
        with nullcontext(session) if session else credential_free_session() as own:
            start = _link_start(given, own)
            return _head(start, strip_query(given), _link_reader(given, own) if with_size else None)
    if given.lower().startswith("s3://"):
        uri, s3 = clip_uri(given), s3_factory()
        return _head(_object_start(s3, uri), str(uri), _object_reader(s3, uri) if with_size else None)
    path = clip_path(given)
    return _head(_file_start(path), str(path), _file_reader(path) if with_size else None)


def clip_size(given: str, s3_factory: S3Factory) -> Size | None:
    """The size of a clip's picture; ``None`` where it cannot be read, for whatever reason."""
    try:
        return read_head(given.strip(), s3_factory, with_size=True).size
    except ModelsLabError:
        return None


def clip_path(given: str) -> Path:
    """The file that a path or a ``file://`` URI names."""
    return Path(unquote(urlsplit(given).path)) if given.lower().startswith("file://") else Path(given)


def clip_uri(text: str) -> S3Uri:
    """The object that an ``s3://`` URI names.

    :raises InvalidRequestError: for ``init_video``, where it names none.
    """
    try:
        uri = S3Uri.parse(text)
    except StorageConfigurationError as error:
        raise invalid_input(error.message) from None
    if not uri.key or uri.key.endswith("/"):
        raise invalid_input(f"{uri} has no object key; expected s3://bucket/key")
    return uri


def _head(start: bytes, name: str, read: ReadPiece | None) -> ClipHead:
    kind = sniff(start)
    if kind is None or describe_non_video(start) is not None:
        raise invalid_input(f"{name} is not an mp4 or gif: it is {describe_start(start)}")
    return ClipHead(kind, picture_size(start, read) if read else None)


def _link_start(url: str, session: requests.Session) -> bytes:
    name = strip_query(url)
    for tries in range(1, _LINK_TRIES + 1):
        try:
            with open_link(session, url, timeout=_LINK_TIMEOUT, byte_range=_START_RANGE) as response:
                return read_start(response, BRAND_BYTES)
        except LinkFailure as failure:
            last = failure
        busy = last.status is not None and (last.status >= 500 or last.status in {408, 425, 429})
        if not busy:
            raise invalid_input(
                f"{name} cannot be read ({last.reason}). If only the endpoint can reach it, set check_input=False in "
                "the task",
                last.status,
            ) from None
        if tries < _LINK_TRIES:
            time.sleep(min(last.retry_after or 0.5 * tries, 5.0))
    raise TransportError(
        f"init_video: the host of {name} failed ({last.reason}); nothing was sent. Try again later",
        http_status=last.status,
    ) from None


def _link_reader(url: str, session: requests.Session) -> ReadPiece:
    def read(at: int, size: int) -> bytes:
        try:
            with open_link(session, url, timeout=_LINK_TIMEOUT, byte_range=_range(at, size)) as response:
                return read_start(response, size) if response.status_code == requests.codes.partial_content else b""
        except LinkFailure:
            return b""

    return read


def _object_start(s3: S3Client, uri: S3Uri) -> bytes:
    try:
        start = read_body(s3, uri.bucket, uri.key, _START_RANGE)
    except S3_ERRORS as error:
        raise input_error(error, uri, s3) from error
    if not start:  # some stores answer the range of an empty object with nothing
        raise invalid_input(f"{uri} is empty")
    return start


def _object_reader(s3: S3Client, uri: S3Uri) -> ReadPiece:
    def read(at: int, size: int) -> bytes:
        try:
            return read_body(s3, uri.bucket, uri.key, _range(at, size))
        except S3_ERRORS:  # also where the object ends before
            return b""

    return read


def _file_start(path: Path) -> bytes:
    if not path.exists():
        raise invalid_input(f"there is no file {path}")
    if not path.is_file():
        raise invalid_input(f"{path} is not a file")
    try:
        with path.open("rb") as file:
            return file.read(BRAND_BYTES)
    except OSError as error:
        raise invalid_input(f"{path} cannot be read ({error.strerror})") from error


def _file_reader(path: Path) -> ReadPiece:
    def read(at: int, size: int) -> bytes:
        try:
            with path.open("rb") as file:
                file.seek(at)
                return file.read(size)
        except OSError:
            return b""

    return read


def _range(at: int, size: int) -> str:
    return f"bytes={at}-{at + size - 1}"
