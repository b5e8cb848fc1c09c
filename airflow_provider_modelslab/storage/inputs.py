"""Prepares the request's ``init_video`` for the endpoint: a link, an S3 object or a local file.

Each is checked before anything is paid for: it must exist and begin like a video (mp4) or GIF. Objects are signed
later, immediately before the submit (see :mod:`~airflow_provider_modelslab.storage.signing`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.storage.clip_head import S3Factory, clip_path, clip_uri, read_head
from airflow_provider_modelslab.storage.media import CONTENT_TYPES, ContainerKind
from airflow_provider_modelslab.storage.s3_errors import (
    S3_ERRORS,
    S3ErrorKind,
    input_error,
    invalid_input,
    is_missing,
    kind_of,
    storage_error,
)
from airflow_provider_modelslab.storage.signing import LinkSigner, SignedLink
from airflow_provider_modelslab.storage.upload import MIB, ObjectUpload
from airflow_provider_modelslab.storage.uri import S3Uri, location_problem

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.api.aspect import Size

__all__ = ["PreparedInput", "S3Factory", "identify_input", "prepare_input"]

_SIGNATURE = re.compile(
    r"(X-(Amz|Goog|Oss|Tos|Cos)-(?!(async-)?process).*|q-(sign-.*|ak|key-time|header-list|url-param-list|signature)|Signature|sig|hmac|jwt"
    r"|Authorization|(access_|auth_|security-|__)?token|hdne[as]|hdnts|(AWS|OSS)?AccessKeyId|GoogleAccessId|Key-Pair-Id)",
    re.IGNORECASE,
)
"""Query parameters that sign a link: of AWS, R2, Google, CloudFront, Azure, Alibaba, Tencent, Backblaze and Akamai."""

_BESIDE_A_SIGNATURE = re.compile(
    r"(Expires|expiry|exp|Policy|Hash-Algorithm|x-id|s[vrepts]|ss|srt|spr|sip|sdd|ses|sk(oid|tid|t|e|s|v|dutid)"
    r"|saoid|s[du]uoid|scid)",
    re.IGNORECASE,
)
"""Query parameters with the validity and the user of a signed link; without a signature they count like others."""


@dataclass(frozen=True, slots=True, repr=False)
class PreparedInput:
    """The request's ``init_video`` after its check.

    :param clip: the given link, which may be signed, so it is not in the repr and must not be logged; or the object in
        S3, which :meth:`link` signs.
    :param source: the given text without a query: safe to log.
    :param kind: ``"mp4"`` or ``"gif"``; ``None`` for a link that was not checked.
    :param size: of its picture, if it was asked for and the clip says it.
    """

    clip: str | S3Uri
    source: str
    kind: ContainerKind | None
    size: Size | None = None

    @property
    def recorded(self) -> str:
        """What is recorded as the clip, without secrets: the object in S3 (for a file, the upload), else the link."""
        return str(self.clip) if isinstance(self.clip, S3Uri) else self.source

    def link(self, signer: LinkSigner, seconds: float) -> SignedLink:
        """A link for the endpoint: the given one, or one that is signed now.

        :param seconds: its validity, which must include the wait in the queue.
        :raises StorageConfigurationError: when it cannot be signed, see :meth:`LinkSigner.sign`.
        """
        return signer.sign(self.clip, seconds) if isinstance(self.clip, S3Uri) else SignedLink(self.clip, None)

    def __repr__(self) -> str:
        return f"PreparedInput(source={self.source!r}, kind={self.kind!r})"


def prepare_input(
    init_video: str,
    s3_factory: S3Factory,
    *,
    staging: S3Uri | None,
    check_links: bool = True,
    with_size: bool = False,
    session: requests.Session | None = None,
) -> PreparedInput:
    """Make sure that the endpoint will be able to read ``init_video``.

    :param init_video: ``http(s)://...`` is used unchanged; ``s3://bucket/key`` will be presigned; ``file://...`` or a
        path is uploaded to ``staging`` under its SHA-256 (once for the same content), and will be presigned, too.
    :param s3_factory: makes the S3 client; called only for the last two.
    :param staging: the folder for local files.
    :param check_links: whether to check http(s) links from here; ``False`` for links that only the endpoint can reach.
    :param with_size: also read the size of the picture, which takes some more reads where it is at the end of a file.
    :raises InvalidRequestError: for ``init_video``, with the problem.
    :raises InputRefusedError: when S3 refuses this object.
    :raises StorageConfigurationError: without a staging folder, when the upload of a local file is refused, and for
        credentials that are refused.
    :raises StorageUnavailableError: when S3 fails during the upload of a local file.
    :raises TransportError: for a temporary failure of S3 or the link's host.
    """
    given = init_video.strip()
    problem = location_problem(
        given, allowed="an http(s) link, s3://bucket/key or a path to a file", schemes=("http", "https", "file")
    )
    if problem is not None:
        raise invalid_input(problem)
    scheme = given.partition("://")[0].lower() if "://" in given else ""
    if scheme in {"http", "https"} and not check_links:
        return PreparedInput(given, strip_query(given), None)
    head = read_head(given, s3_factory, with_size=with_size, session=session)
    if scheme in {"http", "https"}:
        return PreparedInput(given, strip_query(given), *head)
    if scheme == "s3":
        uri = clip_uri(given)
        return PreparedInput(uri, str(uri), *head)
    path = clip_path(given)
    if staging is None:
        raise StorageConfigurationError(
            f"init_video is the local file {path}, but the endpoint reads only links: set a destination with a bucket, "
            "to which the file can be uploaded"
        )
    return PreparedInput(_staged(s3_factory(), path, head.kind, staging), str(path), *head)


def identify_input(init_video: str, s3_factory: S3Factory, *, version: str | None = None) -> str | None:
    """The identity of the clip's content, to detect a changed request; ``None`` if the clip was deleted.

    For a link: the URL without its signature, which differs each time it is signed; for an object: its URI and ETag;
    for a file: its SHA-256.

    :param version: given by the user instead: the same text is the same clip, and nothing is read.
    :raises StorageConfigurationError: when S3 refuses; :class:`TransportError` when it fails temporarily.
    """
    if version is not None:
        return f"version:{version}"
    given = init_video.strip()
    scheme = given.partition("://")[0].lower() if "://" in given else ""
    if scheme in {"http", "https"}:
        parts = urlsplit(given)
        query = urlencode(_without_signature(parse_qsl(parts.query, keep_blank_values=True)))
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))
    if scheme == "s3":
        uri = clip_uri(given)
        s3 = s3_factory()
        try:
            return f"{uri}#{s3.head_object(Bucket=uri.bucket, Key=uri.key)['ETag']}"
        except S3_ERRORS as error:
            if is_missing(error, uri, s3):
                return None
            problem = input_error(error, uri, s3)
            if isinstance(problem, InvalidRequestError):
                return None
            raise problem from error
    path = clip_path(given)
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    return digest.hexdigest()


def _without_signature(query: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """A link's query without its signature, so that a newly signed link is the same clip."""
    kept = [(name, value) for name, value in query if not _SIGNATURE.fullmatch(name)]
    if len(kept) == len(query):
        return query
    return [(name, value) for name, value in kept if not _BESIDE_A_SIGNATURE.fullmatch(name)]


def _staged(s3: S3Client, path: Path, kind: ContainerKind, staging: S3Uri) -> S3Uri:
    """The file's URI in S3; it is uploaded if its content is not there already."""
    digest = hashlib.sha256()
    for chunk in _chunks(path):
        digest.update(chunk)
    uri = staging.child(f"{digest.hexdigest()}.{kind}")
    size = path.stat().st_size
    try:
        if s3.head_object(Bucket=uri.bucket, Key=uri.key)["ContentLength"] == size:
            return uri
    except S3_ERRORS as error:
        # Without s3:ListBucket a missing key answers 403; the upload shows whether access is really forbidden.
        if kind_of(error) not in {S3ErrorKind.NO_OBJECT, S3ErrorKind.ACCESS_DENIED}:
            raise storage_error(error, uri) from error
    # Tasks with the same clip upload the same bytes at the same time.
    with ObjectUpload(
        s3,
        uri,
        content_type=CONTENT_TYPES[kind],
        sha256=digest.hexdigest(),
        refused=storage_error,
        ends_others=False,
    ) as upload:
        for chunk in _chunks(path):
            upload.write(chunk)
        if upload.sha256 != digest.hexdigest():
            raise invalid_input(f"{path} changed while it was read; run the task again when the file is complete")
        upload.complete()
    return uri


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            yield chunk
