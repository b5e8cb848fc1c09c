"""Presigned links that are valid as long as the credentials allow.

A presigned link expires with the session of the credentials that signed it, whatever its own validity. Sessions of
AssumeRole and of web identities last an hour by default, so a link is signed immediately before its job is submitted,
with a new session.
"""

from __future__ import annotations

import logging
import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, storage_error
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["MAX_PRESIGN_SECONDS", "LinkSigner", "SignedLink", "session_left", "span"]

log = logging.getLogger(__name__)

MAX_PRESIGN_SECONDS = 7 * 24 * 3600
"""SigV4's limit for presigned links."""

_FRESH_FOR = 300.0
"""Seconds for which a session counts as new: a batch signs many links with one."""

_DOTS = re.compile(r"(?<=/)\.\.?(?=/)")
_AWS_REGION = re.compile(r"(?:^|\.)s3[.-](?:dualstack\.)?([a-z0-9-]+)\.amazonaws\.com")


@dataclass(frozen=True, slots=True, repr=False)
class SignedLink:
    """A link with which anyone can read one object; a secret.

    :param expires_at: when it expires, in seconds since the epoch; ``None`` if the credentials are temporary and their
        end is unknown.
    """

    url: str
    expires_at: float | None

    def __repr__(self) -> str:
        return f"SignedLink(expires_at={self.expires_at!r})"


class LinkSigner:
    """Signs links of one connection; threads may share it.

    :param s3_factory: returns the existing client.
    :param renew: makes a client with a new session; without it only the existing client signs.
    """

    def __init__(
        self,
        s3_factory: Callable[[], S3Client],
        renew: Callable[[], S3Client] | None = None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._s3_factory = s3_factory
        self._renew = renew
        self._clock = clock
        self._s3: S3Client | None = None
        self._renewed_at = clock()
        self._lock = threading.Lock()
        self._has_warned = False

    def sign(self, uri: S3Uri, seconds: float) -> SignedLink:
        """A link to read an object.

        It is valid for ``seconds`` (above 0, limited to 7 days), or until the credentials end. The first time that this
        is sooner, or unknown, a warning with the figures is logged.

        :raises StorageConfigurationError: for missing or refused credentials, and for a bucket of another region.
        :raises StorageUnavailableError: when the issuer of the credentials fails temporarily.
        """
        seconds = min(seconds, MAX_PRESIGN_SECONDS)
        try:
            s3 = self._client(seconds)
            left = session_left(s3)
            validity = math.ceil(seconds) if left is None else max(1, int(min(seconds, left)))
            params = {"Bucket": uri.bucket, "Key": uri.key}
            url = s3.generate_presigned_url("get_object", Params=params, ExpiresIn=validity)
        except S3_ERRORS as error:
            raise storage_error(error, uri) from error
        _check_region(url, uri)
        if left is None or left < seconds:
            self._warn(uri, seconds, left)
        # HTTP clients leave folders named "." and ".." out of a link. Written like this most do not, and S3 reads the
        # same.
        path, _, query = url.partition("?")
        url = f"{_DOTS.sub(lambda found: found[0].replace('.', '%2E'), path)}?{query}"
        return SignedLink(url, None if left is None else self._clock() + validity)

    def _client(self, seconds: float) -> S3Client:
        with self._lock:
            s3 = self._s3 = self._s3 or self._s3_factory()
            left = session_left(s3)
            is_fresh = self._clock() - self._renewed_at < _FRESH_FOR
            if self._renew is None or left is None or left >= seconds or is_fresh:
                return s3
            self._renewed_at = self._clock()
            try:
                renewed = self._renew()
                if (session_left(renewed) or 0.0) > left:
                    self._s3 = s3 = renewed
            except Exception as error:  # noqa: BLE001 - the Amazon provider raises many kinds; the old session still signs
                log.warning("No new AWS session could be opened, so the present session signs the links: %s", error)
            return s3

    def _warn(self, uri: S3Uri, seconds: float, left: float | None) -> None:
        if self._has_warned:
            return
        self._has_warned = True
        remaining = "an unknown time" if left is None else span(left)
        log.warning(
            "The link to %s, and the links signed after it, may expire before the endpoint reads the clips: the S3 "
            "credentials are temporary and end in %s, but a job may wait for up to %s (its timeout and one hour). "
            "If a link has expired when the job starts, the job fails, and a retry pays for another job. Use a shorter "
            "queue (max_in_flight), longer sessions of the role (DurationSeconds in the AWS connection's "
            "assume_role_kwargs), or long-lived keys",
            uri,
            remaining,
            span(seconds),
        )


def span(seconds: float) -> str:
    """A duration as text: seconds up to two minutes, then whole minutes, rounded down."""
    return f"{int(seconds)} s" if seconds < 120 else f"{int(seconds / 60)} min"


def session_left(s3: S3Client) -> float | None:
    """Seconds until the credentials of a client end; infinite for long-lived keys, ``None`` if unknown.

    Sessions that boto can refresh are refreshed when they are about to end.
    """
    # boto has no public way from a client to its credentials, and from these to their end.
    credentials: Any = getattr(s3, "_get_credentials", lambda: None)()
    if credentials is None:
        return math.inf
    token = credentials.get_frozen_credentials().token
    expires = getattr(credentials, "_expiry_time", None)
    if expires is not None:
        return max(0.0, float(expires.timestamp()) - time.time())
    return None if token else math.inf


def _check_region(url: str, uri: S3Uri) -> None:
    """Refuse a link that AWS would: boto follows a bucket to its region, and signs for the client's own.

    :raises StorageConfigurationError: naming the two regions.
    """
    parts = urlsplit(url)
    found = _AWS_REGION.search(parts.hostname or "")
    scope = parse_qs(parts.query).get("X-Amz-Credential", [""])[0].split("/")
    if found and len(scope) == 5 and scope[2] != found[1]:
        raise StorageConfigurationError(
            f"The bucket {uri.bucket!r} is in region {found[1]}, but links are signed for {scope[2]}, so AWS would "
            f"refuse the link to {uri}: set region to {found[1]}, or copy the clip to a bucket in {scope[2]}"
        )
