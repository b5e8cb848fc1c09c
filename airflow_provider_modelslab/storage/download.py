"""Reading links that are not ours: no credentials go out, and no reason that comes back shows a signature."""

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
"""Answers of a link that is listed but cannot be read yet; storage says 403 or 404 until the upload is done."""

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


class LinkFailure(Exception):  # noqa: N818 - it is caught and told by the callers, never raised at a user
    """A link did not give its file.

    :param reason: why, without the link and without any query.
    :param status: the HTTP status, when there was an answer.
    :param retry_after: seconds after which the host wants to be asked again, when it said so.
    :param final: asking again cannot help.
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

    Proxies and CA bundles from the environment are honoured. Redirects go to http(s) alone.
    """
    session = LimitedSession()
    session.max_redirects = max_redirects
    session.headers.update(
        {
            "User-Agent": f"airflow-provider-modelslab/{__version__}",
            "Accept": "*/*",
            # A compressed answer has a Content-Length that says nothing about the file.
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
    """GET a link and stream its answer; the connection is given up at the end of the block.

    :param session: of :func:`credential_free_session`.
    :param timeout: seconds to connect, and seconds between two pieces of the body.
    :param byte_range: the value of a ``Range`` header.
    :param limit: for the whole block; 60 s without one, for a block that reads a few kB.
    :raises LinkFailure: when there is no answer, or one other than 200 (or 206 for a range); also when the body breaks
        off within the block, or is not read within the limit.
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
        # The text of requests' error shows the whole link, so it must not be printed along.
        raise failure from None


def _get(
    session: requests.Session, url: str, timeout: tuple[float, float], headers: dict[str, str], limit: CallLimit
) -> requests.Response:
    """The answer at the end of all redirects, whose bodies are not read.

    :raises LinkFailure: when a link is none, redirects lead nowhere, or there is no answer.
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
        except (ValueError, urllib3.exceptions.HTTPError):  # requests does not wrap all that it stumbles over
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
        raise LinkFailure("a redirect to nowhere", final=True)
    # http.client gives the header's bytes as latin-1; those that no URL may hold are sent on as they came, quoted.
    quoted = quote(location.encode("latin-1", "replace"), safe=string.punctuation)
    try:
        return urljoin(url, quoted)
    except ValueError:
        raise LinkFailure(_NO_LINK, final=True) from None


def _check(url: str) -> None:
    """Refuse what is no http(s) link: libraries fail at it in many ways, some only when they look up the host.

    :raises LinkFailure: saying so.
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
    """The first ``size`` bytes of the body, or all of it where it is shorter; call it inside :func:`open_link`."""
    start = b""
    for chunk in response.iter_content(size):
        start += chunk
        if len(start) >= size:
            break
    return start[:size]


def _refusal(response: requests.Response) -> LinkFailure:
    status = response.status_code
    # The phrase of the standard: the server's own may hold anything.
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
    """An error of requests in words without the link, which the errors' own text repeats with its query."""
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
        "ChunkedEncodingError": "the body broke off",
        "SSLError": "the TLS handshake failed",
        "InvalidURL": _NO_LINK,
    }.get(type(error).__name__, type(error).__name__)
    return f"{name}: {deepest}" if deepest else name
