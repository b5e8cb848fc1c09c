"""Reads links of other hosts: without sending credentials, and without signatures in error messages."""

from __future__ import annotations

import string
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import quote, urljoin, urlsplit

import requests
import urllib3

from airflow_provider_modelslab import __version__
from airflow_provider_modelslab.api.links import is_http_link
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.api.response import header_seconds
from airflow_provider_modelslab.net.call_limit import CallLimit, CallLimitError, LimitedSession

__all__ = ["LinkFailure", "credential_free_session", "open_link", "plain_reason", "read_start", "shown"]

NOT_READY = frozenset({403, 404, 408, 425, 429})
"""Status codes of a link that is listed but cannot be read yet: 403 or 404 until the upload is complete."""

_FINAL_ERRORS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
)
_STATUSES = frozenset(HTTPStatus)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NO_LINK = "no valid http(s) link"
_SHORT_READ = 60.0  # seconds
_MAX_SHOWN = 300  # characters


class LinkFailure(Exception):  # noqa: N818 - callers catch and report it, a user never sees it
    """A link could not be read.

    :param reason: without the link and without any query.
    :param status: the HTTP status, if there was a response.
    :param retry_after: seconds of the ``Retry-After`` header, if there was one.
    :param final: a retry cannot help.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, retry_after: float | None = None, final: bool = False
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        self.final = final


def credential_free_session(*, max_redirects: int = 5) -> requests.Session:
    """A session for links on other people's hosts: no netrc, no authorization, no cookies.

    Proxies and CA bundles from the environment are used. Redirects are followed to http(s) only. Threads may share it,
    which saves TLS handshakes.
    """
    session = LimitedSession()
    session.max_redirects = max_redirects
    session.headers.update(
        {
            "User-Agent": f"airflow-provider-modelslab/{__version__}",
            "Accept": "*/*",
            # The Content-Length of a compressed response is not the size of the file.
            "Accept-Encoding": "identity",
        }
    )
    return session


@contextmanager
def open_link(
    session: requests.Session,
    url: str,
    *,
    timeout: tuple[float, float],
    byte_range: str | None = None,
    limit: CallLimit | None = None,
) -> Iterator[requests.Response]:
    """GET a link and stream the response; the connection is closed at the end of the block.

    :param session: of :func:`credential_free_session`.
    :param timeout: seconds to connect, and seconds between two pieces of the body.
    :param byte_range: the value of a ``Range`` header.
    :param limit: for the whole block; 60 s by default, for a block that reads a few kB.
    :raises LinkFailure: when there is no response, or a status other than 200 (or 206 for a range); also when the body
        is truncated within the block, or is not read within the limit.
    """
    headers = {"Range": byte_range} if byte_range else {}
    failure: LinkFailure | None = None
    try:
        with _get(session, url, timeout, headers, limit or CallLimit(_SHORT_READ)) as response:
            if response.status_code not in ({200, 206} if byte_range else {200}):
                raise _refusal(response)
            yield response
    except requests.RequestException as error:
        failure = LinkFailure(plain_reason(error))
    if failure:
        # The text of requests' error contains the whole link, so it must not become part of the traceback.
        raise failure from None


def _get(
    session: requests.Session, url: str, timeout: tuple[float, float], headers: dict[str, str], limit: CallLimit
) -> requests.Response:
    """The response after all redirects, whose bodies are not read.

    :raises LinkFailure: for an invalid link or redirect, and when there is no response.
    """
    for _ in range(session.max_redirects + 1):
        _check(url)
        failure: LinkFailure
        try:
            with limit.applied():
                response = session.get(
                    url, headers=headers, timeout=limit.timeouts(*timeout), allow_redirects=False, stream=True
                )
        except OSError as error:  # RequestException is one; so is a CA bundle that is not there
            failure = LinkFailure(plain_reason(error), final=isinstance(error, _FINAL_ERRORS))
        except (ValueError, urllib3.exceptions.HTTPError):  # requests does not wrap all errors
            failure = LinkFailure(_NO_LINK, final=True)
        else:
            location = response.headers.get("Location")
            if location is None or response.status_code not in _REDIRECTS:
                return response
            response.close()
            url = _redirected(url, location)
            continue
        raise failure from None
    raise LinkFailure("too many redirects", final=True)


def _redirected(url: str, location: str) -> str:
    if not location.strip():
        raise LinkFailure("a redirect without a target", final=True)
    # http.client gives the header's bytes as latin-1; those that no URL may hold are sent on as they came, quoted.
    quoted = quote(location.encode("latin-1", "replace"), safe=string.punctuation)
    try:
        return urljoin(url, quoted)
    except ValueError:
        raise LinkFailure(_NO_LINK, final=True) from None


def _check(url: str) -> None:
    """Refuse invalid http(s) links: libraries fail on them in many ways, some only when they resolve the host.

    :raises LinkFailure: for an invalid link.
    """
    if url.strip() and not is_http_link(url.strip()):
        raise LinkFailure("not an http(s) link", final=True)
    try:
        url.encode()  # lone surrogates
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        is_valid = bool(host) and not any(c.isspace() for c in host)
        if host.isascii():
            host.removesuffix(".").encode("idna")  # an empty label, or one that is too long
    except ValueError:
        is_valid = False
    if not is_valid:
        raise LinkFailure(_NO_LINK, final=True)


def read_start(response: requests.Response, size: int) -> bytes:
    """The first ``size`` bytes of the body, or all of it if it is shorter; call it inside :func:`open_link`."""
    start = b""
    for chunk in response.iter_content(size):
        start += chunk
        if len(start) >= size:
            break
    return start[:size]


def _refusal(response: requests.Response) -> LinkFailure:
    status = response.status_code
    # The phrase of the standard: the server's own may contain anything.
    phrase = HTTPStatus(status).phrase if status in _STATUSES else ""
    return LinkFailure(
        f"HTTP {status} {phrase}".rstrip(),
        status=status,
        retry_after=header_seconds(response.headers.get("Retry-After")),
        final=status < 500 and status not in NOT_READY,
    )


def shown(link: str) -> str:
    """A link for a message: without its query, one line, at most 300 characters."""
    text = strip_query(link)[:_MAX_SHOWN]
    return "".join(c if c.isprintable() else "?" for c in text)


def plain_reason(error: BaseException) -> str:
    """The message for an error of requests, without the link, which the error's own text contains with its query."""
    deepest = ""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, CallLimitError):
            return str(link.strerror)
        if isinstance(link, OSError) and link.strerror:
            deepest = link.strerror
        reason = getattr(link, "reason", None) or next((a for a in link.args if isinstance(a, BaseException)), None)
        link = reason if isinstance(reason, BaseException) else link.__cause__ or link.__context__
    name = {
        "ConnectTimeout": "no connection in time",
        "ReadTimeout": "no data in time",
        "ChunkedEncodingError": "the body was truncated",
        "SSLError": "the TLS handshake failed",
        "InvalidURL": _NO_LINK,
    }.get(type(error).__name__, type(error).__name__)
    return f"{name}: {deepest}" if deepest else name
