"""Getting the clip that conditions the result: a link or a file, checked before anything decodes it.

A link comes from whoever wrote the request, so it is not trusted: the hosts inside the own network are closed to it,
also behind a redirect, and size, time and kind of what comes are limited.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from airflow_provider_modelslab.api.brands import BRAND_BYTES, describe_non_video
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.links import is_http_link
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.net.addresses import AddressError, PrivateAddressError, checked_call
from airflow_provider_modelslab.net.call_limit import CallLimit

__all__ = ["DownloadStoppedError", "FetchLimits", "clip_kind", "fetch_clip"]

_HEAD_BYTES = 12  # enough for both signatures
_CHUNK_BYTES = 1 << 16
_REDIRECTS = {301, 302, 303, 307, 308}
_LENGTH = re.compile(r"[0-9]{1,18}")
_FRAMING_FACTOR = 2  # what chunks and headers may add to a clip's bytes


class DownloadStoppedError(Exception):
    """The caller's ``should_stop`` said so. No file is left."""


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a clip may cost and where it may come from.

    :param connect_timeout: seconds to connect, for each address of the host.
    :param read_timeout: seconds without a byte.
    :param total_timeout: seconds for the whole download with its redirects, however slowly the server sends. The
        look-up of names, whose time the system's resolver bounds, is the one thing that passes it.
    :param min_speed: bytes per second, headers included, measured over ``min_speed_time``.
    :param min_speed_time: seconds.
    :param max_bytes: size of the clip, of a file as well.
    :param max_redirects: redirects followed, each after a check of its target.
    :param allow_private_addresses: whether hosts with private, loopback, link-local or other addresses that are not of
        the public internet may be asked.
    :param allow_local_files: whether a path is read; servers of other people's requests should say no.
    """

    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    total_timeout: float = 300.0
    min_speed: float = 10_000.0
    min_speed_time: float = 20.0
    max_bytes: int = 512 * 1024 * 1024
    max_redirects: int = 5
    allow_private_addresses: bool = False
    allow_local_files: bool = True


def fetch_clip(
    init_video: str, folder: Path, *, limits: FetchLimits, should_stop: Callable[[], bool] | None = None
) -> Path:
    """The clip as a file whose content is an mp4 or a gif, whatever its name says.

    A path is checked and returned as it is. A link (http or https) is downloaded into ``folder``: without credentials
    or cookies, and without the environment's proxies, since a proxy would resolve the host once more. The connection
    goes to the very address that was checked, so a name that changes its address in between gains nothing. The CA
    bundle is that of ``REQUESTS_CA_BUNDLE`` or ``CURL_CA_BUNDLE``, else certifi's. On an error no file is left.

    :param should_stop: asked every 0.1 seconds while bytes are waited for; once it says so, the connection is closed.
        A host that does not accept connections is given up after ``connect_timeout``.
    :raises InvalidRequestError: for ``init_video``, saying what came.
    :raises DownloadStoppedError: when ``should_stop`` said so.
    """
    if not is_http_link(init_video):
        return _local_clip(init_video, limits)
    limit = CallLimit(
        limits.total_timeout,
        min_speed=limits.min_speed,
        speed_time=limits.min_speed_time,
        max_bytes=_FRAMING_FACTOR * limits.max_bytes + _CHUNK_BYTES,
        should_stop=should_stop,
    )
    url = init_video
    try:
        for _ in range(limits.max_redirects + 1):
            with _get(url, limits, limit) as response:
                if response.status_code in _REDIRECTS and "location" in response.headers:
                    try:
                        url = urljoin(url, response.headers["location"])
                    except ValueError:
                        raise _problem(url, "redirects to something that is not a link") from None
                    continue
                if response.status_code != HTTPStatus.OK:
                    raise _problem(
                        url, f"the server returned HTTP {response.status_code}; give a link to a clip that can be read"
                    )
                return _save(response, url, folder, limits)
    except InvalidRequestError:
        if should_stop is not None and should_stop():
            raise DownloadStoppedError("stopped while the clip was downloaded") from None
        if limit.problem is not None:
            raise _problem(url, f"cannot be downloaded: {limit.problem}") from None
        raise
    raise _problem(init_video, f"redirects more than {limits.max_redirects} times")


def clip_kind(head: bytes) -> str | None:
    """``"mp4"`` or ``"gif"`` by the first 12 bytes, ``None`` for anything else."""
    if head[4:8] == b"ftyp":
        return "mp4"
    return "gif" if head[:6] in (b"GIF87a", b"GIF89a") else None


def _problem(source: str, problem: str) -> InvalidRequestError:
    return InvalidRequestError.of("init_video", f"{problem}; got {strip_query(source)[:200]!r}")


def _local_clip(init_video: str, limits: FetchLimits) -> Path:
    if "://" in init_video:
        raise _problem(init_video, "must be an http(s) link or the path of a file")
    if not limits.allow_local_files:
        raise _problem(init_video, "must be an http(s) link, because files of this machine are not read")
    path = Path(init_video)
    try:
        if not path.is_file():
            raise _problem(init_video, "is not a file on this machine")
        _check_size(path.stat().st_size, init_video, limits)
        with path.open("rb") as file:
            _check_head(file.read(BRAND_BYTES), init_video)
    except OSError as error:
        raise _problem(init_video, f"cannot be read ({error.strerror})") from None
    return path


def _check_size(size: int, source: str, limits: FetchLimits) -> None:
    if size > limits.max_bytes:
        raise _problem(source, f"is larger than the {limits.max_bytes} bytes allowed; use a shorter or smaller clip")


def _check_head(head: bytes, source: str) -> None:
    if (instead := describe_non_video(head)) is not None:
        raise _problem(source, f"must be an mp4 or a gif; the content is {instead}")
    if clip_kind(head) is None:
        raise _problem(source, f"must be an mp4 or a gif; the content begins with {head[:_HEAD_BYTES]!r}")


def _announced_length(response: requests.Response, url: str) -> int | None:
    """The Content-Length, ``None`` without one.

    :raises InvalidRequestError: for one that is no number, with which nobody can say where the clip ends.
    """
    announced = response.headers.get("content-length")
    if announced is None or "transfer-encoding" in response.headers:
        return None
    values = {value.strip() for value in announced.split(",")}
    (length, *others) = values
    if others or not _LENGTH.fullmatch(length):
        raise _problem(url, f"the server sent an invalid Content-Length {announced[:40]!r}")
    return int(length)


def _save(response: requests.Response, url: str, folder: Path, limits: FetchLimits) -> Path:
    expected = _announced_length(response, url)
    if expected is not None:
        _check_size(expected, url, limits)
    descriptor, name = tempfile.mkstemp(prefix="clip-", dir=folder)
    path = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            written = _copy(response, file, url, limits)
        if expected is not None and written != expected:
            raise _problem(url, f"the download stopped after {written} of {expected} bytes")
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def _copy(response: requests.Response, file: IO[bytes], url: str, limits: FetchLimits) -> int:
    head = b""
    written = 0
    known = False
    for chunk in _chunks(response, url):
        if not known:
            head = (head + chunk)[:BRAND_BYTES]
            known = len(head) == BRAND_BYTES
            if len(head) >= _HEAD_BYTES:
                _check_head(head, url)
        file.write(chunk)
        written += len(chunk)
        _check_size(written, url, limits)
    if not known:
        _check_head(head, url)
    return written


def _chunks(response: requests.Response, url: str) -> Iterator[bytes]:
    """The body as it arrives. ``iter_content`` would wait for a full chunk, however slowly it drips."""
    try:
        while chunk := response.raw.read1(_CHUNK_BYTES, decode_content=False):
            yield chunk
    except urllib3.exceptions.HTTPError as error:
        raise _problem(url, f"the download stopped ({type(error).__name__})") from None


@contextmanager
def _get(url: str, limits: FetchLimits, limit: CallLimit) -> Iterator[requests.Response]:
    """One GET, without following redirects; a fresh session each time, so that no cookie travels."""
    try:
        if _names_a_user(url):
            raise _problem(url, "must not contain a user or password, because no credentials are sent")
        with checked_call(
            "GET",
            url,
            allow_private=limits.allow_private_addresses,
            limit=limit,
            timeout=(limits.connect_timeout, limits.read_timeout),
            headers={"Accept": "video/mp4,image/gif"},
        ) as response:
            yield response
    except PrivateAddressError as error:
        raise _problem(url, f"{error} (to allow private addresses: allow_private_addresses=True)") from None
    except AddressError as error:
        raise _problem(url, str(error)) from None
    except requests.RequestException as error:
        # Its text holds the link with its query.
        raise _problem(url, f"cannot be downloaded ({type(error).__name__})") from None


def _names_a_user(url: str) -> bool:
    try:
        return "@" in urlsplit(url).netloc
    except ValueError:  # no link at all, which the call says
        return False
