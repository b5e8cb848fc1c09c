"""A boto client whose small calls go through obstore, a client in Rust: 0.2 ms of CPU time each instead of 1.4.

Only speed depends on it. What obstore is not used for here (other arguments, unusual keys, the main thread), and what
it could not do, for whatever reason, boto does. So errors, retries and their messages are always boto's, and a put
that boto repeats after obstore is like one that botocore itself repeats.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from obstore.store import S3Store

__all__ = ["ObstoreClient", "read_body", "with_obstore"]

log = logging.getLogger(__name__)

MOST_BYTES = 256 * 1024
"""The longest body that is put through obstore. With longer ones a call costs little beside its bytes."""

USUAL_KEY = re.compile(r"(?!.*(?:^|/)\.{0,2}(?:/|$))[A-Za-z0-9_.=@+:,/-]+")
"""Keys that all S3 clients write alike; no part of them is empty, ``.`` or ``..``."""

FAILURES_IN_A_ROW = 10
"""After so many obstore is not used any more by this client."""

_USUAL_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")
_OF_PUT = frozenset({"Bucket", "Key", "Body", "ContentType", "Metadata", "IfNoneMatch", "ChecksumSHA256", "ContentMD5"})
_CREDENTIALS_ARE_KEPT = timedelta(minutes=10)  # then botocore is asked again, which renews them in time
_CLIENT_OPTIONS = {"connect_timeout": "10s", "timeout": "60s"}
_NOT_FROM_ENVIRONMENT = dict.fromkeys(("skip_signature", "request_payer", "s3_express", "unsigned_payload"), False)
# obstore would take these from variables that boto does not know.


class ObstoreClient:
    """The same client, but for ``put_object`` of small objects, and with :meth:`read_body`, outside of the main thread.

    The main thread keeps boto: Python handles no signal, such as that of a killed task, while obstore works.

    :param s3: the boto client.
    :param new_store: makes obstore's client of a bucket; with ``True`` one that sends SHA-256 with each put.
    """

    def __init__(self, s3: S3Client, new_store: Callable[[str, bool], S3Store]) -> None:
        self._s3 = s3
        self._new_store = new_store
        self._stores: dict[tuple[str, bool], S3Store] = {}
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._failures = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._s3, name)

    def put_object(self, **given: Any) -> Any:
        """As boto's."""
        if self._can_put(given):
            try:
                return self._put(given)
            except Exception as error:  # noqa: BLE001 - boto tries again, and says why where it fails too
                self._note(error)
        return self._s3.put_object(**given)

    def read_body(self, bucket: str, key: str, byte_range: str | None) -> bytes:
        """The whole content of an object, or of a range like ``bytes=0-9``; see :func:`read_body`."""
        given: Any = {"Bucket": bucket, "Key": key, **({"Range": byte_range} if byte_range else {})}
        if self._is_usual(given):
            try:
                return self._read(bucket, key, byte_range)
            except Exception as error:  # noqa: BLE001 - boto tries again, and says why where it fails too
                self._note(error)
        return self._s3.get_object(**given)["Body"].read()

    def _is_usual(self, given: Mapping[str, Any]) -> bool:
        return (
            threading.current_thread() is not threading.main_thread()
            and self._process == os.getpid()  # a forked process has none of obstore's threads
            and self._failures < FAILURES_IN_A_ROW
            and USUAL_KEY.fullmatch(given["Key"]) is not None
            and _USUAL_BUCKET.fullmatch(given["Bucket"]) is not None
        )

    def _can_put(self, given: Mapping[str, Any]) -> bool:
        body = given.get("Body")
        return (
            given.keys() <= _OF_PUT
            and given.get("IfNoneMatch", "*") == "*"
            # Both together ask which of them the store verifies; obstore's answer does not say.
            and not {"ChecksumSHA256", "ContentMD5"} <= given.keys()
            and isinstance(body, bytes | bytearray)
            and len(body) <= MOST_BYTES
            and self._is_usual(given)
        )

    def _put(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Without ``Content-MD5``: the signature covers the SHA-256 of the body, and a store verifies that as well."""
        import obstore

        checksum = given.get("ChecksumSHA256")
        if checksum is not None and checksum != b64encode(sha256(given["Body"]).digest()).decode():
            raise ValueError("The body has another SHA-256")  # obstore would send that one
        put = obstore.put(
            self._store(given["Bucket"], checksum is not None),
            given["Key"],
            given["Body"],
            attributes={
                **given.get("Metadata", {}),
                **({"Content-Type": given["ContentType"]} if "ContentType" in given else {}),
            },
            mode="create" if "IfNoneMatch" in given else "overwrite",
            use_multipart=False,
        )
        self._failures = 0
        answer = {"ETag": put["e_tag"], "ChecksumSHA256": checksum}
        return {name: value for name, value in answer.items() if value is not None}

    def _read(self, bucket: str, key: str, byte_range: str | None) -> bytes:
        import obstore

        options: Any = {}
        if byte_range:
            first, last = map(int, _RANGE.fullmatch(byte_range).groups())  # type: ignore[union-attr]  # to boto then
            options["range"] = first, last + 1
        body = bytes(obstore.get(self._store(bucket, False), key, options=options).bytes())
        self._failures = 0
        return body

    def _store(self, bucket: str, checksum: bool) -> S3Store:
        with self._lock:
            if (bucket, checksum) not in self._stores:
                self._stores[bucket, checksum] = self._new_store(bucket, checksum)
            return self._stores[bucket, checksum]

    def _note(self, error: Exception) -> None:
        """Count the failures in a row. That an object is there, or is not, is none."""
        from obstore.exceptions import AlreadyExistsError

        if isinstance(error, FileNotFoundError | AlreadyExistsError):
            return
        self._failures += 1
        if self._failures == FAILURES_IN_A_ROW:  # no text of it: it may have the store's whole answer
            log.info("obstore failed %d times in a row (%s). Now boto makes all calls", self._failures, type(error))


def read_body(s3: S3Client, bucket: str, key: str, byte_range: str | None = None) -> bytes:
    """The whole content of a small object, through obstore if the client has it.

    :param byte_range: of a part of it, like ``bytes=0-9``.
    :raises ClientError: and the other errors of boto's ``get_object``.
    """
    if isinstance(s3, ObstoreClient):
        return s3.read_body(bucket, key, byte_range)
    given: Any = {"Range": byte_range} if byte_range else {}
    return s3.get_object(Bucket=bucket, Key=key, **given)["Body"].read()


def with_obstore(
    s3: S3Client, session: Any, *, verify: bool | str | None = None, path_addressing: bool = False
) -> S3Client:
    """The client with obstore for small calls; as it was where obstore is not installed, or cannot do as it does.

    :param s3: the boto client.
    :param session: the boto3 session that made it. Its credentials are read when obstore needs them.
    :param verify: as for boto's client. A file of CA certificates is trusted besides the public ones, not instead.
    :param path_addressing: whether the bucket is in the path and not in the host's name.
    """
    if find_spec("obstore") is None:
        return s3
    credentials, region = session.get_credentials(), s3.meta.region_name
    options = _client_options(s3.meta.endpoint_url, session, verify)
    if credentials is None or not region or options is None:
        return s3
    scheme, host, path, *_ = urlsplit(s3.meta.endpoint_url)

    def read_credentials() -> Any:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": datetime.now(UTC) + _CREDENTIALS_ARE_KEPT,
        }

    def new_store(bucket: str, checksum: bool) -> S3Store:
        from obstore.store import S3Store  # late: many a process makes a client and no call through obstore

        config: Any = {
            **_NOT_FROM_ENVIRONMENT,
            "endpoint": f"{scheme}://{host if path_addressing else f'{bucket}.{host}'}{path}",
            "region": region,
            "virtual_hosted_style_request": not path_addressing,
            **({"checksum_algorithm": "SHA256"} if checksum else {}),
        }
        return S3Store(
            bucket,
            config=config,
            client_options=options,
            retry_config={"max_retries": 0},  # boto does again what failed
            credential_provider=read_credentials,
        )

    return cast("S3Client", ObstoreClient(s3, new_store))


def _client_options(endpoint_url: str, session: Any, verify: bool | str | None) -> Any:
    """Options of obstore for TLS and time limits; ``None`` where there are none that do the same."""
    options: dict[str, Any] = {**_CLIENT_OPTIONS, "allow_http": endpoint_url.startswith("http://")}
    if verify is None:
        verify = session._session.get_config_variable("ca_bundle")  # of AWS_CA_BUNDLE and the like
    if verify is False:
        return {**options, "allow_invalid_certificates": True}
    if verify is None or verify is True:
        return options
    file = Path(verify)
    return {**options, "root_certificate": file.read_text()} if file.is_file() else None
