"""Clips on this machine's disk: an object fetched to work on, a result put into S3 with the same checks as a link's."""

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
    """``init_video`` as something that needs no S3 to read: an object is downloaded, anything else stays as it is.

    :param folder: where an object's file goes.
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
        raise TransportError(f"init_video: the download of {uri} broke off ({error}): try again later") from error
    return str(path)


def land_file(path: Path, target: S3Uri, s3: S3Client, *, expected_type: str | None = None) -> LandedObject:
    """Put a video file into S3: container verified and SHA-256 taken before the object becomes visible.

    :param expected_type: ``mp4`` or ``gif``; ``None`` takes what it is.
    :raises LandingError: when the file is no whole video or another kind, or S3 refuses.
    """
    started = time.time()
    stream = VideoStream()
    try:
        with path.open("rb") as file:
            known = hashlib.file_digest(file, "sha256").hexdigest()
        with path.open("rb") as file:
            head = stream.feed(file.read(MIB))
            if expected_type is not None and stream.kind is not None and stream.kind != expected_type:
                raise LandingError(f"{path} is a {stream.kind}, and output_type {expected_type} was asked for")
            with ObjectUpload(s3, target, content_type=stream.content_type, sha256=known) as upload:
                upload.write(head)
                while chunk := file.read(MIB):
                    upload.write(stream.feed(chunk))
                upload.write(stream.finish())
                if upload.sha256 != known:
                    raise LandingError(f"{path} changes while it is read")
                stored = upload.complete()
                sha256 = upload.sha256
    except ContainerError as error:
        raise LandingError(f"{path} is no whole video: {error}") from error
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
