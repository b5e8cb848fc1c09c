"""Lands a result: streams it from the endpoint's links into S3, verifies it, and only then makes it visible.

Links expire after 24 hours and may be listed before they can be read, so landing waits for them for a while, tries each
in turn, and never publishes a file that is truncated or is not a video. A result that was not landed is paid for:
running the task again lands it for free.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import requests

from airflow_provider_modelslab.api.errors import (
    LandingError,
    ModelsLabError,
    ResultExpiredError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.net.call_limit import CallLimit
from airflow_provider_modelslab.storage.base64_stream import VideoStream
from airflow_provider_modelslab.storage.download import LinkFailure, credential_free_session, open_link, shown
from airflow_provider_modelslab.storage.media import ContainerError
from airflow_provider_modelslab.storage.result_manifest import LINK_LIFETIME
from airflow_provider_modelslab.storage.upload import MIB, MIN_PART_SIZE, ObjectUpload, part_size_for
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["LandedObject", "LandingPolicy", "OnRetry", "land"]

_READ_BYTES = 256 * 1024
_MAX_LENGTH_DIGITS = 18
_GONE = frozenset({403, 404, 410})

OnRetry = Callable[[int, float, str], None]
"""Called before each pause: download attempts so far, seconds of the pause, reason (safe to log)."""


@dataclass(frozen=True, slots=True)
class LandingPolicy:
    """Settings of landing. Times are in seconds, sizes in bytes.

    :param part_size: of each multipart part, at least 5 MiB (S3's own limit); up to ``parts_in_flight + 1`` parts are
        in memory. Grows by itself for files that would need more than 10,000 parts.
    :param parts_in_flight: how many parts are sent at the same time.
    :param ready_timeout: how long links that cannot be read yet are retried.
    :param min_backoff: the first pause between two rounds over the links.
    :param max_backoff: the longest pause; a host's ``Retry-After`` takes precedence.
    :param backoff: each pause is this many times the one before.
    :param jitter: share of a pause by which it is randomly shortened, 0 to 1.
    :param connect_timeout: for the connection to a link's host.
    :param read_timeout: between two pieces of the body.
    :param min_speed: bytes per second, 0 or more. A download that was slower over ``min_speed_time`` seconds of waiting
        is aborted, and the next link is tried. Time in which S3 is slow does not count.
    :param min_speed_time: above 0.
    :param total_timeout: for one landing, including all links, pauses and the upload; above 0. By default a download
        of 100 kB/s has time for 720 MB.
    """

    part_size: int = 8 * MIB
    parts_in_flight: int = 4
    ready_timeout: float = 120.0
    min_backoff: float = 1.0
    max_backoff: float = 15.0
    backoff: float = 2.0
    jitter: float = 0.25
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    min_speed: float = 10_000.0
    min_speed_time: float = 30.0
    total_timeout: float = 7200.0

    def __post_init__(self) -> None:
        if self.part_size < MIN_PART_SIZE or self.parts_in_flight < 1:
            raise ValueError(
                f"Need part_size >= {MIN_PART_SIZE} and parts_in_flight >= 1; "
                f"got {self.part_size} and {self.parts_in_flight}"
            )
        if not 0 < self.min_backoff <= self.max_backoff or self.backoff < 1 or not 0 <= self.jitter < 1:
            raise ValueError(
                "Need 0 < min_backoff <= max_backoff, backoff >= 1 and 0 <= jitter < 1; got "
                f"{self.min_backoff}, {self.max_backoff}, {self.backoff} and {self.jitter}"
            )
        if not (self.min_speed >= 0 and self.min_speed_time > 0 and self.total_timeout > 0):
            raise ValueError(
                "Need min_speed >= 0, min_speed_time > 0 and total_timeout > 0; got "
                f"{self.min_speed}, {self.min_speed_time} and {self.total_timeout}"
            )


@dataclass(frozen=True, slots=True)
class LandedObject:
    """A result that is in S3 and was verified.

    :param uri: the object.
    :param bytes: its size.
    :param sha256: of its bytes, in hex.
    :param content_type: ``video/mp4`` or ``image/gif``, detected from the bytes.
    :param etag: as S3 gives it, without quotes.
    :param source_url: the link it came from, without query.
    :param attempts: download attempts, including the successful one.
    :param seconds: how long it took, including pauses.
    """

    uri: S3Uri
    bytes: int
    sha256: str
    content_type: str
    etag: str
    source_url: str
    attempts: int
    seconds: float


def land(
    links: Iterable[str],
    target: S3Uri,
    s3: S3Client,
    *,
    expected_type: str | None = None,
    policy: LandingPolicy | None = None,
    job_id: str | None = None,
    submitted_at: float | None = None,
    on_retry: OnRetry | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
    session: requests.Session | None = None,
) -> LandedObject:
    """Copy the first of ``links`` that can be read to ``target``, and return the landed object.

    :param links: best first, as :class:`~airflow_provider_modelslab.api.response.Finished` has them.
    :param expected_type: the requested ``output_type``, ``mp4`` or ``gif``; ``None`` accepts either.
    :param job_id: for messages.
    :param submitted_at: when the job was submitted (seconds since the epoch); distinguishes expired links from late
        ones.
    :param session: for the downloads; without one, a session that sends no credentials.
    :raises ResultExpiredError: when the links are dead and the job is older than 24 hours.
    :raises LandingError: when no link gave a whole video in time, when it was of the wrong type, or when S3 refused.
    :raises StorageConfigurationError: when ``target`` names no key.
    """
    if not target.key or target.key.endswith("/"):
        raise StorageConfigurationError(f"{target} has no object key; expected s3://bucket/clip.mp4")
    landing = _Landing(target, s3, expected_type, policy or LandingPolicy(), on_retry, sleep, clock, job_id)
    own_session = session or credential_free_session()
    try:
        return landing.run(list(dict.fromkeys(links)), own_session, submitted_at)
    except ModelsLabError as error:
        error.job_id = error.job_id or job_id
        raise
    finally:
        if session is None:
            own_session.close()


@dataclass
class _Landing:
    target: S3Uri
    s3: S3Client
    expected_type: str | None
    policy: LandingPolicy
    on_retry: OnRetry | None
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    job_id: str | None = None
    attempts: int = 0

    def run(self, links: list[str], session: requests.Session, submitted_at: float | None) -> LandedObject:
        started = self.clock()
        ends_at = started + self.policy.total_timeout
        deadline = min(started + self.policy.ready_timeout, ends_at)
        pause = self.policy.min_backoff
        failures: dict[str, LinkFailure] = {}
        not_before = dict.fromkeys(links, started)
        while not_before:
            for link in [link for link, at in not_before.items() if at <= self.clock()]:
                if self.clock() >= ends_at:
                    break
                try:
                    return self._copy(link, session, started)
                except LinkFailure as failure:
                    failures[link] = failure
                    if failure.final:
                        del not_before[link]
                    else:
                        not_before[link] = self.clock() + (failure.retry_after or 0.0)
            now = self.clock()
            earliest = min(not_before.values(), default=math.inf)
            if now >= deadline or earliest > deadline:
                break
            jittered = pause * (1 - self.policy.jitter * random.random())
            wait = min(max(jittered, earliest - now), deadline - now)
            if self.on_retry:
                self.on_retry(self.attempts, wait, _describe(failures))
            self.sleep(wait)
            pause = min(pause * self.policy.backoff, self.policy.max_backoff)
        raise self._given_up(failures, submitted_at)

    def _copy(self, link: str, session: requests.Session, started: float) -> LandedObject:
        """One download into one upload.

        :raises LinkFailure: when the link is at fault.
        :raises LandingError: when S3 is, or the type is not the requested one.
        """
        self.attempts += 1
        timeout = (self.policy.connect_timeout, self.policy.read_timeout)
        limit = CallLimit(
            started + self.policy.total_timeout - self.clock(),
            min_speed=self.policy.min_speed,
            speed_time=self.policy.min_speed_time,
        )
        try:
            with open_link(session, link, timeout=timeout, limit=limit) as response:
                return self._transfer(link, response, started)
        except ContainerError as error:
            reason = str(error)
        raise LinkFailure(reason)

    def _transfer(self, link: str, response: requests.Response, started: float) -> LandedObject:
        announced = _announced_length(response)
        stream = VideoStream()
        received = 0
        with ExitStack() as stack:
            upload: ObjectUpload | None = None

            def pass_on(data: bytes) -> None:
                nonlocal upload
                if data and upload is None:
                    upload = stack.enter_context(self._open_upload(stream, announced))
                if upload is not None:
                    upload.write(data)

            for chunk in response.iter_content(_READ_BYTES):
                received += len(chunk)
                pass_on(stream.feed(chunk))
            if announced is not None and received != announced:
                raise LinkFailure(f"the body was truncated: {received} of {announced} bytes arrived")
            pass_on(stream.finish())
            if upload is None:  # pragma: no cover - a verified stream has bytes
                raise LinkFailure("the body was empty")
            stored = upload.complete()
            sha256 = upload.sha256
        return LandedObject(
            uri=self.target,
            bytes=stored.bytes,
            sha256=sha256,
            content_type=stream.content_type,
            etag=stored.etag,
            source_url=strip_query(link),
            attempts=self.attempts,
            seconds=self.clock() - started,
        )

    def _open_upload(self, stream: VideoStream, announced: int | None) -> ObjectUpload:
        if self.expected_type is not None and stream.kind != self.expected_type:
            raise LandingError(self._wrong_type_error(str(stream.kind)))
        return ObjectUpload(
            self.s3,
            self.target,
            content_type=stream.content_type,
            part_size=part_size_for(announced, self.policy.part_size),
            parts_in_flight=self.policy.parts_in_flight,
            length=None if stream.is_base64 else announced,
        )

    def _wrong_type_error(self, kind: str) -> str:
        other = self.target.key.removesuffix(f".{self.expected_type}")
        copy = (
            f"To copy it at no cost, within 24 hours of the submission: `airflow modelslab land {self.job_id} --to "
            f"s3://{self.target.bucket}/{other}.{kind}` (add --conn-id unless it is modelslab_default). "
            if self.job_id
            else ""
        )
        return (
            f"The result is a {kind}, but output_type {self.expected_type} was requested. Nothing was written, but the "
            f"job is paid for. {copy}A retry fails in the same way. Another output_type pays for a new job"
        )

    def _given_up(self, failures: dict[str, LinkFailure], submitted_at: float | None) -> ModelsLabError:
        if not failures:
            return LandingError("The response of the endpoint has no link to a result, so there is nothing to download")
        age = self.clock() - submitted_at if submitted_at is not None else 0.0
        if age > LINK_LIFETIME.total_seconds() and all(failure.status in _GONE for failure in failures.values()):
            return ResultExpiredError(
                f"The links have expired: the job was submitted {age / 3600:.0f} hours ago, and without update_s3 the "
                f"vendor deletes results after 24 hours. {_describe(failures)}. Only a new job, which is paid for, "
                "makes the result again"
            )
        return LandingError(
            f"No link returned the video within {self.policy.ready_timeout:g} s. The result is paid for, and is kept "
            f"for 24 hours. Until then, a retry of the task lands it and pays nothing. {_describe(failures)}"
        )


def _describe(failures: dict[str, LinkFailure]) -> str:
    return "; ".join(f"{shown(link)}: {failure.reason}" for link, failure in failures.items())


def _announced_length(response: requests.Response) -> int | None:
    """The announced length of the body in bytes; ``None`` if the body is compressed: the length is not the file's."""
    text = response.headers.get("Content-Length", "")
    encoded = response.headers.get("Content-Encoding", "identity").lower() != "identity"
    return int(text) if text.isdecimal() and len(text) <= _MAX_LENGTH_DIGITS and not encoded else None
