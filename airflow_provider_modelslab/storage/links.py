"""Reading links that are not ours: no credentials go out, and no reason that comes back shows a signature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import DefaultCookiePolicy

import requests

from airflow_provider_modelslab import __version__
from airflow_provider_modelslab.api.response import header_seconds

__all__ = ["LinkFailure", "credential_free_session", "open_link", "plain_reason", "read_start"]

NOT_READY = frozenset({403, 404, 408, 425, 429})
"""Answers of a link that is listed but cannot be read yet; storage says 403 or 404 until the upload is done."""

_FINAL_ERRORS = (
    requests.exceptions.InvalidURL,
    requests.exceptions.InvalidSchema,
    requests.exceptions.MissingSchema,
    requests.exceptions.TooManyRedirects,
)


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


class _NoAuth(requests.auth.AuthBase):
    """Being set, it keeps requests from looking into ``~/.netrc`` and into ``user:password@`` of the link."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


class _CredentialFreeSession(requests.Session):
    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """After a redirect requests would ask ``~/.netrc`` again, and send the cookies it was just given; not here."""
        for name in ("Authorization", "Cookie"):
            prepared_request.headers.pop(name, None)


def credential_free_session(*, max_redirects: int = 5) -> requests.Session:
    """A session for links on other people's hosts: no netrc, no authorization, no cookies.

    Proxies and CA bundles from the environment are honoured. Redirects go to http(s) alone.
    """
    session = _CredentialFreeSession()
    session.auth = _NoAuth()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
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
    session: requests.Session, url: str, *, timeout: tuple[float, float], byte_range: str | None = None
) -> Iterator[requests.Response]:
    """GET a link and stream its answer; the connection is given up at the end of the block.

    :param timeout: seconds to connect, and seconds between two pieces of the body.
    :param byte_range: the value of a ``Range`` header.
    :raises LinkFailure: when there is no answer, or one other than 200 (or 206 for a range); also when the body breaks
        off within the block.
    """
    headers = {"Range": byte_range} if byte_range else {}
    failure: LinkFailure | None = None
    try:
        with session.get(url, stream=True, timeout=timeout, headers=headers) as response:
            if response.status_code not in ({200, 206} if byte_range else {200}):
                raise _refusal(response)
            yield response
    except requests.RequestException as error:
        failure = LinkFailure(plain_reason(error), final=isinstance(error, _FINAL_ERRORS))
    if failure:
        # The text of requests' error shows the whole link, so it must not be printed along.
        raise failure from None


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
    return LinkFailure(
        f"HTTP {status} {response.reason or ''}".rstrip(),
        status=status,
        retry_after=header_seconds(response.headers.get("Retry-After")),
        final=status < 500 and status not in NOT_READY,
    )


def plain_reason(error: BaseException) -> str:
    """An error of requests in words without the link, which the errors' own text repeats with its query."""
    deepest = ""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            deepest = link.strerror
        reason = getattr(link, "reason", None) or next((a for a in link.args if isinstance(a, BaseException)), None)
        link = reason if isinstance(reason, BaseException) else link.__cause__ or link.__context__
    name = {
        "ConnectTimeout": "no connection in time",
        "ReadTimeout": "no data in time",
        "ChunkedEncodingError": "the body broke off",
        "SSLError": "the TLS handshake failed",
        "TooManyRedirects": "too many redirects",
        "InvalidSchema": "not an http(s) link",
    }.get(type(error).__name__, type(error).__name__)
    return f"{name}: {deepest}" if deepest else name
