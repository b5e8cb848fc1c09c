"""S3 access of the gallery: reads small files with the connection's credentials, and signs links to clips."""

from __future__ import annotations

import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.plugins.json_values import has_too_many_values, parse_json, sound_fields
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, S3ErrorKind, is_missing, kind_of, storage_error
from airflow_provider_modelslab.storage.sidecar import sidecar_uri
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.storage.s3_profile import S3Profile

__all__ = ["LINK_SECONDS", "GalleryStorage", "Parsed", "UnreadableError", "open_store", "read_json"]

LINK_SECONDS = 3600
"""How long a link opens its object."""

_REUSED_FOR = LINK_SECONDS / 2
_STORE_LIVES = 300.0
_MAX_LINKS = 20_000
_MAX_PARSED = 16
_MAX_BYTES = 64 * 1024 * 1024
_MAX_SIDECAR_BYTES = 1024 * 1024


class UnreadableError(StorageConfigurationError):
    """An object is not a file of this provider: it is too large, or its name ends in ``.gz`` and it is not gzip."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A small file as it was last read.

    :param version: changes when the content does.
    :param content: the parsed content.
    :param size: bytes, decompressed.
    """

    version: str
    modified: datetime
    content: Any
    size: int


class GalleryStorage:
    """What one connection can read. Threads may share it.

    :param s3: a boto3 client.
    :param profile: the connection's S3 profile.
    """

    def __init__(self, s3: S3Client, profile: S3Profile) -> None:
        self.s3 = s3
        self.profile = profile
        self._lock = threading.Lock()
        self._links: OrderedDict[S3Uri, tuple[str, float]] = OrderedDict()
        self._parsed: OrderedDict[tuple[S3Uri, str], Parsed] = OrderedDict()

    def link(self, uri: S3Uri, *, renew: bool = False) -> str:
        """A presigned GET, valid for half an hour at least. It is a secret: it must not be logged or stored.

        The same link is returned until then, so that a browser finds the clip in its cache.

        :param renew: make a new one, because the last did not work.
        :raises StorageConfigurationError: when there are no credentials to sign with.
        """
        now = time.monotonic()
        with self._lock:
            known = self._links.get(uri)
        if known and not renew and known[1] > now:
            return known[0]
        params = {"Bucket": uri.bucket, "Key": uri.key}
        try:
            url = self.s3.generate_presigned_url("get_object", Params=params, ExpiresIn=LINK_SECONDS)
        except S3_ERRORS as error:  # such as a role that cannot be assumed
            raise storage_error(error, uri) from error
        with self._lock:
            self._links[uri] = url, now + _REUSED_FOR
            self._links.move_to_end(uri)
            while len(self._links) > _MAX_LINKS:
                self._links.popitem(last=False)
        return url

    def read(self, uri: S3Uri, reader: Callable[[bytes], Any], *, limit: int = _MAX_BYTES) -> Parsed | None:
        """A small file, parsed once for each of its versions; ``None`` where there is none.

        :param reader: from the (unpacked) content; a function of a module, since its name is part of the key.
        :param limit: bytes that the file may have, also when it is unpacked.
        :raises StorageConfigurationError: when S3 refuses; :class:`UnreadableError` when the file is larger, or ends in
            ``.gz`` and is no gzip.
        """
        key = uri, reader.__name__
        with self._lock:
            known = self._parsed.get(key)
        options: dict[str, Any] = {"IfNoneMatch": known.version} if known else {}
        try:
            answer = self.s3.get_object(Bucket=uri.bucket, Key=uri.key, **options)
            body = _read_at_most(limit, answer["Body"], uri)
        except S3_ERRORS as error:
            kind = kind_of(error)
            if kind is S3ErrorKind.NOT_MODIFIED and known:
                return known
            if is_missing(error, uri, self.s3):
                return None
            raise storage_error(error, uri) from error
        if uri.key.endswith(".gz"):
            body = _unpack_at_most(limit, body, uri)
        if has_too_many_values(body):
            raise UnreadableError(f"{uri} has too many values; it is not read")
        parsed = Parsed(answer["ETag"], answer["LastModified"], reader(body), len(body))
        with self._lock:
            self._parsed[key] = parsed
            self._parsed.move_to_end(key)
            while len(self._parsed) > 1 and (
                len(self._parsed) > _MAX_PARSED or sum(one.size for one in self._parsed.values()) > _MAX_BYTES
            ):
                self._parsed.popitem(last=False)
        return parsed

    def read_uncached(self, uri: S3Uri, limit: int = _MAX_SIDECAR_BYTES) -> bytes | None:
        """A small file, not cached; ``None`` if there is none.

        :param limit: bytes that the file may have.
        :raises StorageConfigurationError: when S3 refuses; :class:`UnreadableError` when the file is larger.
        """
        try:
            return _read_at_most(limit, self.s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"], uri)
        except S3_ERRORS as error:
            if is_missing(error, uri, self.s3):
                return None
            raise storage_error(error, uri) from error

    def sidecar(self, result: S3Uri) -> dict[str, Any]:
        """The sidecar of a result; empty if there is none, or the file is not the sidecar of this object.

        :raises StorageConfigurationError: when S3 refuses.
        """
        try:
            found = self.read(sidecar_uri(result), read_json, limit=_MAX_SIDECAR_BYTES)
        except UnreadableError:
            return {}
        content: dict[str, Any] = found.content if found else {}
        is_its_own = isinstance(content.get("schema_version"), int) and content.get("uri") == str(result)
        return sound_fields(content) if is_its_own else {}


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object; anything else counts as empty."""
    try:
        found = parse_json(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _read_at_most(limit: int, body: StreamingBody, uri: S3Uri) -> bytes:
    content = body.read(limit + 1)
    if len(content) > limit:
        body.close()
        raise UnreadableError(f"{uri} has more than {limit} bytes; it is not read")
    body.read(1)  # fails where the answer was cut off
    return content


def _unpack_at_most(limit: int, body: bytes, uri: S3Uri) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)  # gzip
    try:
        content = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise UnreadableError(f"{uri} is not a gzip file: {error}") from error
    if len(content) > limit:
        raise UnreadableError(f"{uri} has more than {limit} bytes when it is unpacked; it is not read")
    if not unpacker.eof:
        raise UnreadableError(f"{uri} is not a complete gzip file")
    return content


_stores: dict[str, tuple[GalleryStorage, float]] = {}
_stores_lock = threading.Lock()


def open_store(conn_id: str) -> GalleryStorage:
    """The storage of a ModelsLab connection; a change of the connection takes effect after five minutes.

    :raises StorageConfigurationError: when the connection is of another type, cannot be read, or leads to no S3 client.
    """
    from airflow_provider_modelslab.hooks.connection_check import s3_problem
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

    now = time.monotonic()
    with _stores_lock:
        found = _stores.get(conn_id)
        if found and found[1] > now:
            return found[0]
    hook = ModelsLabHook(conn_id)
    try:
        connection = hook.connection
    except Exception as error:
        # The exception's type depends on Airflow's version and on the secrets backend.
        raise StorageConfigurationError(f"The connection {conn_id!r} cannot be read: {type(error).__name__}") from error
    if connection.conn_type != ModelsLabHook.conn_type:
        raise StorageConfigurationError(f"The connection {conn_id!r} does not have the type modelslab")
    profile = hook.s3_profile
    try:
        store = GalleryStorage(hook.get_s3_client(), profile)
    except Exception as error:
        raise StorageConfigurationError(s3_problem(hook, error)) from error
    with _stores_lock:
        _stores[conn_id] = store, now + _STORE_LIVES
    return store
