"""Clips on the local disk: downloads an object for local generation, and uploads a result with the same checks."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from boto3.exceptions import RetriesExceededError

from airflow_provider_modelslab.api.errors import LandingError, TransportError
from airflow_provider_modelslab.storage.base64_stream import VideoStream
from airflow_provider_modelslab.storage.landing import LandedObject
from airflow_provider_modelslab.storage.media import ContainerError
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, input_error
from airflow_provider_modelslab.storage.upload import MIB, ObjectUpload
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.storage.inputs import S3Factory

__all__ = ["fetch_object", "land_file"]


def fetch_object(init_video: str, s3_factory: S3Factory, folder: Path) -> str:
    """Download ``init_video`` if it is an S3 object; any other value is returned unchanged.

    :param folder: the folder for the downloaded file.
    :raises ModelsLabError: of the classes that :func:`~airflow_provider_modelslab.storage.s3_errors.input_error` names.
    """
    given = init_video.strip()
    if given.startswith("file://"):
        return unquote(urlsplit(given).path)
    if not given.startswith("s3://"):
        return given
    uri = S3Uri.parse(given)
    path = folder / (Path(uri.key).name or "clip")
    s3 = s3_factory()
    try:
        s3.download_file(uri.bucket, uri.key, str(path))
    except S3_ERRORS as error:
        raise input_error(error, uri, s3) from error
    except RetriesExceededError as error:
        raise TransportError(f"init_video: the download of {uri} was interrupted ({error}): try again later") from error
    return str(path)


def land_file(path: Path, target: S3Uri, s3: S3Client, *, expected_type: str | None = None) -> LandedObject:
    """Upload a video file to S3. The container is verified and hashed before the object becomes visible.

    :param expected_type: ``mp4`` or ``gif``; ``None`` accepts either.
    :raises LandingError: when the file is not a complete video or of another type, or S3 refuses.
    """
    started = time.time()
    stream = VideoStream()
    try:
        with path.open("rb") as file:
            known = hashlib.file_digest(file, "sha256").hexdigest()
        with path.open("rb") as file:
            head = stream.feed(file.read(MIB))
            if expected_type is not None and stream.kind is not None and stream.kind != expected_type:
                raise LandingError(f"{path} is a {stream.kind}, but output_type {expected_type} was requested")
            with ObjectUpload(s3, target, content_type=stream.content_type, sha256=known) as upload:
                upload.write(head)
                while chunk := file.read(MIB):
                    upload.write(stream.feed(chunk))
                upload.write(stream.finish())
                if upload.sha256 != known:
                    raise LandingError(f"{path} changed while it was read")
                stored = upload.complete()
                sha256 = upload.sha256
    except ContainerError as error:
        raise LandingError(f"{path} is not a complete video: {error}") from error
    return LandedObject(
        uri=target,
        bytes=stored.bytes,
        sha256=sha256,
        content_type=stream.content_type,
        etag=stored.etag,
        source_url="",
        attempts=1,
        seconds=time.time() - started,
    )
