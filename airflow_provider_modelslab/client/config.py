"""Shared by both clients, without I/O: base URL, time-outs, and the two possible outcomes of a request.

A transport turns every outcome into a value, :class:`HttpResponse` or :class:`NoResponse`, and raises nothing itself.
Exceptions are raised from those values, outside any ``except`` block, so that none has a library's exception (with its
URLs, proxies and buffers) as its context.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from airflow_provider_modelslab import __version__
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.redaction import strip_query

__all__ = [
    "DEFAULT_BASE_URL",
    "HEADERS",
    "MAX_ANSWER_BYTES",
    "MAX_CONNECTIONS",
    "HttpResponse",
    "NoResponse",
    "Outcome",
    "SubmitPolicy",
    "Timeouts",
    "check_verify",
    "is_redirect",
    "is_vendor",
    "longest_submit",
    "normalise_base_url",
]

DEFAULT_BASE_URL = "https://modelslab.com/api/v1"

HEADERS = {
    "User-Agent": f"airflow-provider-modelslab/{__version__}",
    "Accept": "application/json",
    "Content-Type": "application/json",
}

MAX_ANSWER_BYTES = 16 * 2**20
"""A response is a few kB of JSON. A longer one than this is not read to its end and counts as no response."""


MAX_CONNECTIONS = 200
"""Connections of one asynchronous client: 10,000 jobs make 370 polls a second, which may take half a second each."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, all above 0.

    :param connect: to connect, TLS handshake included; for each address of the host.
    :param read: without a byte, before and within a response. Without ``instant_response`` the server holds a submit
        for a fixed time that the vendor does not document, so this is long: a time-out here loses the job's id.
    :param total: from the start of a request to the last byte of its response; at least ``read``. Nothing is sent
        after it.
    """

    connect: float = 10.0
    read: float = 120.0
    total: float = 150.0

    def __post_init__(self) -> None:
        for name in ("connect", "read", "total"):
            if not getattr(self, name) > 0:
                raise InvalidRequestError.of(f"timeouts.{name}", f"must be above 0 s; got {getattr(self, name)!r}")
        if self.total < self.read:
            raise InvalidRequestError.of(
                "timeouts.total", f"must be at least timeouts.read, {self.read:g} s; got {self.total!r}"
            )

    def for_reading(self) -> Timeouts:
        """For requests that the server answers at once, so that a hung poll does not use up a deadline.

        At most 30 s without a byte and 60 s in all.
        """
        return Timeouts(self.connect, min(self.read, 30.0), min(self.total, 60.0))


@dataclass(frozen=True, slots=True)
class SubmitPolicy:
    """How often a submit is sent that was refused or certainly did not arrive.

    :param attempts: how often at most in all, the first time included; 1 or more.
    :param max_wait: seconds after the first attempt, beyond which none is begun; 0 or more.
    :param base_wait: seconds before the second attempt, doubled each time and lengthened at random by up to as much
        again; above 0. A longer ``Retry-After`` of the endpoint takes precedence.
    """

    attempts: int = 5
    max_wait: float = 120.0
    base_wait: float = 2.0

    def __post_init__(self) -> None:
        checks = {"attempts": self.attempts >= 1, "max_wait": self.max_wait >= 0, "base_wait": self.base_wait > 0}
        allowed = {"attempts": "1 or more", "max_wait": "0 s or more", "base_wait": "above 0 s"}
        found = {
            f"submit_policy.{name}": [f"must be {allowed[name]}; got {getattr(self, name)!r}"]
            for name, fine in checks.items()
            if not fine
        }
        if found:
            raise InvalidRequestError.of_fields(found)


def longest_submit(policy: SubmitPolicy, timeouts: Timeouts) -> float:
    """Seconds after which a submit, including repeats, sends nothing more."""
    return policy.max_wait + timeouts.total


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An HTTP response with any status.

    :param body: empty for a redirect, which is not followed.
    :param retry_after: the ``Retry-After`` header.
    :param location: the ``Location`` header.
    :param server: the ``Server`` header.
    """

    status: int
    body: bytes
    retry_after: str | None = None
    location: str | None = None
    server: str | None = None


@dataclass(frozen=True, slots=True)
class NoResponse:
    """There was no complete HTTP response.

    :param text: what happened, without secrets.
    :param sent: whether the request may have reached the server; ``False`` only if it certainly did not.
    :param permanent: whether a repeat cannot help until a setting is changed (TLS, CA file, proxy).
    """

    text: str
    sent: bool
    permanent: bool = False


Outcome = HttpResponse | NoResponse


def is_redirect(status: int) -> bool:
    """Whether an HTTP status is a redirect; redirects are not followed, since each request contains the key."""
    return 300 <= status < 400


def is_vendor(base_url: str) -> bool:
    """Whether a base URL is the vendor's own, so that the limits of the vendor's page hold there."""
    host, vendor = urlsplit(base_url).hostname or "", urlsplit(DEFAULT_BASE_URL).hostname or ""
    return host == vendor or host.endswith(f".{vendor}")


def normalise_base_url(text: str) -> str:
    """Complete a base URL: add ``https://`` if it has no scheme, and ``/api/v1`` if it has no path.

    :raises InvalidRequestError: for another scheme, a missing host, a user or password, a query, blanks.
    """
    given = str(text or "").strip()
    whole = given if "://" in given else f"https://{given}"
    try:
        parts = urlsplit(whole)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    # A password may be before an @, and a token in a query: neither is repeated in the message.
    shown = repr(strip_query(whole)[:200]) if "@" not in given else "a URL with an @"
    problem = ""
    if "@" in parts.netloc or (not host and "@" in given):
        problem = "must have no user or password; the API key goes into the connection's password"
    elif parts.scheme not in {"http", "https"}:
        problem = f"must begin with https:// or http://; got {shown}"
    elif not host or parts.netloc.endswith(":") or any(c.isspace() or c == "\\" for c in whole):
        problem = f"must be a URL such as {DEFAULT_BASE_URL}; got {shown}"
    elif "?" in whole or "#" in whole:
        problem = f"must have no query and no fragment; got {shown} with one"
    if problem:
        raise InvalidRequestError.of("base_url", problem)
    path = parts.path.rstrip("/") or "/api/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def check_verify(verify: bool | str) -> bool | str:
    """``True``, ``False``, or the path of a CA file or folder.

    :raises InvalidRequestError: when the path does not exist.
    """
    if isinstance(verify, str) and not Path(verify).exists():
        raise InvalidRequestError.of("verify", f"must be true, false or the path of a CA file; got {verify!r}")
    return verify
