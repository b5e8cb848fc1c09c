"""S3 for the gallery: small files read with the connection's credentials, and links that let a browser read a clip."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, S3ErrorKind, is_missing, kind_of, storage_error
from airflow_provider_modelslab.storage.sidecar import sidecar_uri
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.storage.profile import S3Profile

__all__ = ["LINK_SECONDS", "Parsed", "Store", "open_store", "read_json"]

LINK_SECONDS = 3600
"""How long a link opens its object."""

_REUSED_FOR = LINK_SECONDS / 2
_STORE_LIVES = 300.0
_MAX_LINKS = 20_000
_MAX_PARSED = 16
_MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Parsed:
    """A small file as it was when it was last looked at.

    :param version: changes when the content does.
    :param content: what the reader made of it.
    """

    version: str
    modified: datetime
    content: Any


class Store:
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

    def link(self, uri: S3Uri, *, fresh: bool = False) -> str:
        """A presigned GET, good for half an hour at least. It is a secret: it must not be logged or stored.

        It is given out again until then, so that a browser finds the clip in its cache.

        :param fresh: make a new one: the last did not work.
        :raises StorageConfigurationError: when there are no credentials to sign with.
        """
        now = time.monotonic()
        with self._lock:
            known = self._links.get(uri)
        if known and not fresh and known[1] > now:
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

    def read(self, uri: S3Uri, reader: Callable[[bytes], Any]) -> Parsed | None:
        """A small file, parsed once for each of its versions; ``None`` where there is none.

        :param reader: from the (unpacked) content; a function of a module, since its name is part of the key.
        :raises StorageConfigurationError: when S3 refuses, or the file is larger than 64 MiB.
        """
        key = uri, reader.__name__
        with self._lock:
            known = self._parsed.get(key)
        options: dict[str, Any] = {"IfNoneMatch": known.version} if known else {}
        try:
            answer = self.s3.get_object(Bucket=uri.bucket, Key=uri.key, **options)
            if answer["ContentLength"] > _MAX_BYTES:
                raise StorageConfigurationError(f"{uri} is larger than 64 MiB; the gallery does not read it")
            body = answer["Body"].read()
        except S3_ERRORS as error:
            kind = kind_of(error)
            if kind is S3ErrorKind.NOT_MODIFIED and known:
                return known
            if is_missing(error, uri, self.s3):
                return None
            raise storage_error(error, uri) from error
        content = reader(gzip.decompress(body) if uri.key.endswith(".gz") else body)
        parsed = Parsed(answer["ETag"], answer["LastModified"], content)
        with self._lock:
            self._parsed[key] = parsed
            self._parsed.move_to_end(key)
            while len(self._parsed) > _MAX_PARSED:
                self._parsed.popitem(last=False)
        return parsed

    def sidecar(self, result: S3Uri) -> dict[str, Any]:
        """What the file beside a result tells of it; empty where there is none, or it tells of another object.

        :raises StorageConfigurationError: when S3 refuses.
        """
        found = self.read(sidecar_uri(result), read_json)
        content: dict[str, Any] = found.content if found else {}
        is_its_own = isinstance(content.get("schema_version"), int) and content.get("uri") == str(result)
        return content if is_its_own else {}


def read_json(body: bytes) -> dict[str, Any]:
    """A JSON object; anything else counts as empty."""
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


_stores: dict[str, tuple[Store, float]] = {}
_stores_lock = threading.Lock()


def open_store(conn_id: str) -> Store:
    """The store of a ModelsLab connection; a changed connection counts after five minutes.

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
        # What it says depends on Airflow's version and on the secrets backend.
        raise StorageConfigurationError(f"The connection {conn_id!r} cannot be read: {type(error).__name__}") from error
    if connection.conn_type != ModelsLabHook.conn_type:
        raise StorageConfigurationError(f"The connection {conn_id!r} is no ModelsLab connection")
    profile = hook.s3_profile
    try:
        store = Store(hook.get_s3_client(), profile)
    except Exception as error:
        raise StorageConfigurationError(s3_problem(hook, error)) from error
    with _stores_lock:
        _stores[conn_id] = store, now + _STORE_LIVES
    return store
