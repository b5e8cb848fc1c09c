"""Checksums that a store verifies before it shows an object: SHA-256 where it can, else MD5.

The first write of a client finds out which: it carries both, and only a store that verifies SHA-256 repeats it in its
response. AWS, MinIO and R2 do. Ceph (radosgw), rclone and moto ignore it, and some stores refuse the header. Where it
is verified, MD5 is not computed, and the body is not hashed again for the signature, which covers the checksum.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakKeyDictionary

from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_provider_modelslab.storage.s3_errors import S3ErrorKind, kind_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Checksums"]

_UNSUPPORTED = frozenset({S3ErrorKind.INVALID_REQUEST, S3ErrorKind.NOT_IMPLEMENTED})
"""Responses of a store that does not know the header of the checksum."""

_HEADER = "x-amz-checksum-sha256"


class Checksums:
    """The checksums of one client's writes. Get it with :meth:`of`; threads may share it.

    :ivar verifies_sha256: whether the store verifies SHA-256; ``None`` until the first write.
    """

    _known: ClassVar[WeakKeyDictionary[S3Client, Checksums]] = WeakKeyDictionary()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, s3: S3Client) -> None:
        self.verifies_sha256: bool | None = None
        config = s3.meta.config
        # Compatible stores: boto's own checksums are off, as several refuse them. AWS: boto adds CRCs to parts.
        self._is_compatible = getattr(config, "request_checksum_calculation", None) == "when_required"
        given: Any = getattr(config, "s3", None) or {}
        self._unsigned_body: Config | None = None
        if given.get("payload_signing_enabled") is None:
            unsigned: Any = {**given, "payload_signing_enabled": False}
            self._unsigned_body = config.merge(Config(s3=unsigned))
            s3.meta.events.register("before-sign.s3", self._sign_no_body)

    @classmethod
    def of(cls, s3: S3Client) -> Checksums:
        """The object of this client, made at the first call."""
        with cls._lock:
            found = cls._known.get(s3)
            if found is None:
                found = cls._known[s3] = cls(s3)
            return found

    def put(self, call: Callable[..., Any], body: bytearray, sha256: bytes) -> tuple[Any, bool]:
        """Call ``put_object`` with a checksum.

        :param call: ``put_object`` with all other arguments.
        :param body: its ``Body``.
        :param sha256: digest of it.
        :return: the response, and whether it proves that the store has exactly these bytes: it repeats the SHA-256, or
            its ETag is the MD5.
        """
        return self._send(call, body, lambda: sha256)

    def put_part(self, call: Callable[..., Any], body: bytearray) -> Any:
        """Call ``upload_part`` with a checksum; returns the response."""
        if not self._is_compatible:
            return call(Body=body)
        answer, _ = self._send(call, body, lambda: hashlib.sha256(body).digest())
        return answer

    def begin(self, call: Callable[..., Any]) -> Any:
        """Call ``create_multipart_upload`` with the algorithm of :meth:`put_part`; returns the response."""
        if not self._is_compatible or self.verifies_sha256 is False:
            return call()
        try:
            return call(ChecksumAlgorithm="SHA256")
        except ClientError as error:
            if self.verifies_sha256 or kind_of(error) not in _UNSUPPORTED:
                raise
        answer = call()
        self.verifies_sha256 = False
        return answer

    def _send(self, call: Callable[..., Any], body: bytearray, sha256: Callable[[], bytes]) -> tuple[Any, bool]:
        was_known = self.verifies_sha256
        wants_md5 = was_known is None or (self._is_compatible and not was_known)
        md5 = hashlib.md5(body, usedforsecurity=False).digest() if wants_md5 else b""
        content_md5 = {"ContentMD5": base64.b64encode(md5).decode()} if md5 else {}
        answer = None
        if was_known is not False:
            checksum = base64.b64encode(sha256()).decode()
            try:
                answer = call(Body=body, ChecksumSHA256=checksum, **content_md5)
            except ClientError as error:
                if was_known or kind_of(error) not in _UNSUPPORTED:
                    raise
            else:
                self.verifies_sha256 = answer.get("ChecksumSHA256") == checksum
                if self.verifies_sha256:
                    return answer, True
        if answer is None:
            # A store that knows no SHA-256 still gets boto's own checksum, if that is on.
            answer = call(Body=body, **(content_md5 if self._is_compatible else {}))
            self.verifies_sha256 = False
        return answer, bool(md5) and answer.get("ETag", "").strip('"') == md5.hex()

    def _sign_no_body(self, request: Any, **_: Any) -> None:
        if self.verifies_sha256 and _HEADER in request.headers:
            request.context = {**request.context, "client_config": self._unsigned_body}
