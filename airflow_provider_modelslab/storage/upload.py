"""Streams bytes into one S3 object with bounded memory: parts of exactly equal size, a few of them in flight.

The object's metadata contain its SHA-256, by which a result is distinguished from another one that has overwritten it.
S3 accepts metadata only at the start of a multipart upload, so that starts only when the digest is known, or when no
more parts fit into memory. Longer streams (above 40 MiB by default) have no digest in their metadata, only in the
sidecar: to copy the object onto itself would cost another request for each part, and S3 has no SHA-256 of a whole
multipart object.

boto's ``upload_fileobj`` is not used: with a stream it may treat a short read as a whole small file, it cannot hold the
object back until its content is verified, and it needs more memory. Some stores (R2) also refuse parts of unequal size.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from airflow_provider_modelslab.api.errors import LandingError, ModelsLabError
from airflow_provider_modelslab.storage.checksums import Checksums
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, S3Error, code_of, landing_error
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

__all__ = ["MAX_PARTS", "MIB", "MIN_PART_SIZE", "ObjectUpload", "StoredObject", "part_size_for", "was_ended"]

log = logging.getLogger(__name__)

MIB = 1024 * 1024
MIN_PART_SIZE = 5 * MIB
MAX_PARTS = 10_000
"""S3's limits: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html"""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as S3 reports it after the write.

    :param bytes: its size.
    :param etag: its ETag without the quotes.
    """

    bytes: int
    etag: str


def part_size_for(length: int | None, part_size: int) -> int:
    """``part_size``, or more (in whole MiB) if an object of ``length`` bytes would need more than 10,000 parts."""
    if length is None or length <= part_size * MAX_PARTS:
        return part_size
    return math.ceil(length / MAX_PARTS / MIB) * MIB


def was_ended(error: BaseException | None) -> bool:
    """Whether S3 no longer has the upload, because another upload to the same key finished first and aborted this one.

    :param error: what :class:`ObjectUpload` raised, or its cause.
    """
    cause = error if isinstance(error, ClientError) else error and error.__cause__
    return isinstance(cause, ClientError) and code_of(cause) == "NoSuchUpload"


class ObjectUpload:
    """One upload. Nothing is visible in S3 until :meth:`complete`; leaving the block without it aborts the upload.

    Up to ``parts_in_flight + 1`` parts are in memory. An object that fits into one part is one PutObject; one that fits
    into memory is sent when all of it is there.

    :param part_size: bytes of each part but the last, at least 5 MiB.
    :param parts_in_flight: how many parts are sent at the same time.
    :param length: of the whole object, if it is known; more memory than that is not taken.
    :param sha256: of the whole object, in hex, if it is known before; the caller compares it.
    :param refused: makes the exception for a refusal of S3.
    :param ends_others: whether a completed multipart upload aborts all others to the same key: those of killed
        processes, whose parts would stay and be billed, and those that are still running (see :func:`was_ended`).
    """

    def __init__(
        self,
        s3: S3Client,
        target: S3Uri,
        *,
        content_type: str,
        part_size: int = 8 * MIB,
        parts_in_flight: int = 4,
        length: int | None = None,
        sha256: str | None = None,
        refused: Callable[[S3Error, S3Uri], ModelsLabError] = landing_error,
        ends_others: bool = True,
    ) -> None:
        self._s3 = s3
        self._target = target
        self._content_type = content_type
        self._part_size = part_size
        self._parts_in_flight = parts_in_flight
        self._known_sha256 = sha256
        self._pending: list[bytearray] = []
        self._refused = refused
        self._ends_others = ends_others
        self._buffer = bytearray(min(part_size, length or MIB, 8 * MIB))
        self._filled = 0
        self._spare: list[bytearray] = []
        self._upload_id: str | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._in_flight: set[Future[CompletedPartTypeDef]] = set()
        self._parts: list[CompletedPartTypeDef] = []
        self._started_parts = 0
        self._size = 0
        self._digest = hashlib.sha256()
        self._checksums = Checksums.of(s3)

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes written so far, in hex."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Write the next bytes; waits while too many parts are in flight.

        :raises LandingError: when S3 refuses a part, or for an object of more than 10,000 parts.
        """
        self._digest.update(data)
        self._size += len(data)
        view = memoryview(data)
        while view:
            if self._filled == self._part_size:
                self._end_part()
            if self._filled == len(self._buffer):
                self._buffer += bytes(min(max(len(self._buffer), MIB), self._part_size - len(self._buffer)))
            taken = view[: len(self._buffer) - self._filled]
            memoryview(self._buffer)[self._filled : self._filled + len(taken)] = taken
            self._filled += len(taken)
            view = view[len(taken) :]

    def complete(self) -> StoredObject:
        """Make the object visible, then check it.

        :raises LandingError: when S3 refuses, or reports another size than was written.
        """
        in_parts = self._upload_id is not None or bool(self._pending)
        try:
            if in_parts:
                self._complete_parts()
            etag = (None if in_parts else self._put()) or self._checked_etag()
        except S3_ERRORS as error:
            raise self._refused(error, self._target) from error
        if in_parts and self._ends_others:
            self._end_others()
        return StoredObject(self._size, etag)

    def __enter__(self) -> ObjectUpload:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pool:
            # A part that arrives after the abort would stay and be billed, so the running ones are waited for.
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._upload_id is not None:
            self._abort(self._upload_id)

    def _put(self) -> str | None:
        """Put the object in one call; its ETag if the response proves that the store has exactly these bytes."""
        del self._buffer[self._filled :]
        put = partial(
            self._s3.put_object,
            Bucket=self._target.bucket,
            Key=self._target.key,
            ContentType=self._content_type,
            Metadata={"sha256": self.sha256},
        )
        answer, is_proven = self._checksums.put(put, self._buffer, self._digest.digest())
        return answer.get("ETag", "").strip('"') or None if is_proven else None

    def _complete_parts(self) -> None:
        self._end_part(is_last=True)
        self._collect(self._in_flight)
        self._s3.complete_multipart_upload(
            Bucket=self._target.bucket,
            Key=self._target.key,
            UploadId=str(self._upload_id),
            MultipartUpload={"Parts": sorted(self._parts, key=lambda part: part["PartNumber"])},
        )
        self._upload_id = None

    def _checked_etag(self) -> str:
        """The ETag of the object; some stores send none in the response to a completion.

        :raises LandingError: when the object has another size than was written.
        """
        head = self._s3.head_object(Bucket=self._target.bucket, Key=self._target.key)
        if head["ContentLength"] != self._size:
            raise LandingError(
                f"{self._target} has {head['ContentLength']} bytes in S3, but {self._size} were written: another "
                "program writes to the same key. Stop it and run the task again. Within 24 hours, this lands the "
                "result of the endpoint and pays nothing. Another destination pays for a new job"
            )
        return head.get("ETag", "").strip('"')

    def _end_part(self, *, is_last: bool = False) -> None:
        """Send the filled part, or keep it until the upload is begun."""
        body = self._buffer
        del body[self._filled :]
        self._buffer, self._filled = bytearray(), 0
        if self._upload_id is not None:
            self._send(body)
        else:
            self._pending.append(body)
            if is_last:
                self._begin(self.sha256)
            elif self._known_sha256 is not None or len(self._pending) > self._parts_in_flight:
                self._begin(self._known_sha256)
        if not is_last:
            self._buffer = self._spare.pop() if self._spare else bytearray(self._part_size)

    def _begin(self, sha256: str | None) -> None:
        metadata: dict[str, Any] = {"Metadata": {"sha256": sha256}} if sha256 else {}
        try:
            answer = self._checksums.begin(
                partial(
                    self._s3.create_multipart_upload,
                    Bucket=self._target.bucket,
                    Key=self._target.key,
                    ContentType=self._content_type,
                    **metadata,
                )
            )
        except S3_ERRORS as error:
            raise self._refused(error, self._target) from error
        self._upload_id = answer["UploadId"]
        while self._pending:
            self._send(self._pending.pop(0))

    def _send(self, body: bytearray) -> None:
        if self._started_parts == MAX_PARTS:
            raise LandingError(
                f"{self._target} would need more than {MAX_PARTS} parts of {self._part_size // MIB} MiB, and the "
                "source did not announce its length. Set a larger part_size"
            )
        if len(self._in_flight) >= self._parts_in_flight:
            done, _ = wait(self._in_flight, return_when=FIRST_COMPLETED)
            self._collect(done)
        self._started_parts += 1
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._parts_in_flight, thread_name_prefix="landing")
        self._in_flight.add(self._pool.submit(self._upload_part, self._started_parts, body))

    def _upload_part(self, number: int, body: bytearray) -> CompletedPartTypeDef:
        answer = self._checksums.put_part(
            partial(
                self._s3.upload_part,
                Bucket=self._target.bucket,
                Key=self._target.key,
                UploadId=str(self._upload_id),
                PartNumber=number,
            ),
            body,
        )
        if len(body) == self._part_size:
            self._spare.append(body)
        # S3 wants the checksums of the parts again in the completion.
        checksums: Any = {n: v for n, v in answer.items() if n.startswith("Checksum") and n != "ChecksumType"}
        part: CompletedPartTypeDef = {"PartNumber": number, "ETag": answer["ETag"]}
        part.update(checksums)
        return part

    def _collect(self, futures: set[Future[CompletedPartTypeDef]]) -> None:
        for future in list(futures):
            try:
                self._parts.append(future.result())
            except S3_ERRORS as error:
                raise self._refused(error, self._target) from error
        self._in_flight -= set(futures)

    def _end_others(self) -> None:
        """Abort all unfinished uploads to this key, if S3 allows it."""
        target = self._target
        try:
            pages = self._s3.get_paginator("list_multipart_uploads").paginate(Bucket=target.bucket, Prefix=target.key)
            uploads = [
                upload["UploadId"]
                for page in pages
                for upload in page.get("Uploads", [])
                if upload["Key"] == target.key
            ]
        except S3_ERRORS as error:
            log.debug("Unfinished uploads of %s, if any, could not be aborted: %s", target, error)
            return
        for upload_id in uploads:
            self._abort(upload_id)

    def _abort(self, upload_id: str) -> None:
        try:
            self._s3.abort_multipart_upload(Bucket=self._target.bucket, Key=self._target.key, UploadId=upload_id)
        except S3_ERRORS as error:
            if was_ended(error):
                return
            log.warning(
                "Could not abort the unfinished upload of %s (%s). S3 keeps and bills its parts until a lifecycle rule "
                "(AbortIncompleteMultipartUpload) removes them. To avoid this, grant s3:AbortMultipartUpload",
                self._target,
                error,
            )
