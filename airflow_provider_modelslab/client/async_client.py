"""The client for an event loop, on aiohttp. It only polls: workers submit jobs with the blocking client."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import aiohttp
import certifi
from requests.utils import get_environ_proxies, select_proxy
from yarl import URL

from airflow_provider_modelslab.api.response import Answer
from airflow_provider_modelslab.client.config import (
    DEFAULT_BASE_URL,
    HEADERS,
    MAX_ANSWER_BYTES,
    MAX_CONNECTIONS,
    HttpResponse,
    NoResponse,
    Outcome,
    Timeouts,
    check_verify,
    is_redirect,
)
from airflow_provider_modelslab.client.parsing import read
from airflow_provider_modelslab.client.requests import ApiRequest, RequestFactory
from airflow_provider_modelslab.client.transport_errors import no_response
from airflow_provider_modelslab.net.call_limit import CallLimitError

__all__ = ["AsyncModelsLabClient", "Connection"]

_MAX_HEADER_BYTES = 65536

# aiohttp raises these from its connector only, that is, before a byte of the request is written.
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


@dataclass(frozen=True, slots=True)
class Connection:
    """A client's settings, the cache key of shared pollers. The API key is excluded from ``repr()``."""

    base_url: str
    key: str = field(repr=False)
    verify: bool | str
    timeouts: Timeouts


class AsyncModelsLabClient:
    """Client for one API key at one base URL, in one event loop; its methods may run concurrently.

    Proxies and CA files come from the same environment variables as with the blocking client, credentials from none:
    ``.netrc`` is not read. Redirects are not followed, since each request carries the key.

    :param base_url: see :func:`~airflow_provider_modelslab.client.config.normalise_base_url`.
    :param verify: ``False`` to accept any TLS certificate, or the path of a CA file.
    :raises AuthenticationError: for an empty key.
    :raises InvalidRequestError: for a base URL or CA file that cannot work.
    """

    def __init__(
        self,
        key: str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        verify: bool | str = True,
    ) -> None:
        self._calls = RequestFactory(key, base_url)
        self._connection = Connection(self._calls.base_url, str(key).strip(), check_verify(verify), timeouts)
        self._session: aiohttp.ClientSession | None = None
        self._route: _Route | None = None
        self._finding_route = asyncio.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._calls.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def connection(self) -> Connection:
        """Equal for clients with the same settings."""
        return self._connection

    def clone(self) -> AsyncModelsLabClient:
        """Another client with the same settings and its own HTTP connections."""
        settings = self._connection
        return AsyncModelsLabClient(
            settings.key, base_url=settings.base_url, timeouts=settings.timeouts, verify=settings.verify
        )

    async def aclose(self) -> None:
        """Close the HTTP connections that are kept open."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def fetch(self, job_id: str) -> Answer:
        """Fetch a job's state once. A job that failed or is unknown is an answer, :class:`Failed`, too.

        :raises InvalidRequestError: for an empty id.
        :raises TransportError: when no answer came.
        """
        call = self._calls.fetch(job_id)
        return read(await self._post(call, self._connection.timeouts.for_reading()), call, polling=True)

    async def _post(self, call: ApiRequest, timeouts: Timeouts) -> Outcome:
        try:
            route = self._route or await self._find_route()
        except (OSError, ValueError) as error:
            return no_response(error, sent=False, retriable=False, timed_out=False, timeouts=timeouts)
        if self._session is None:
            self._session = _new_session()
        try:
            async with self._session.post(
                URL(call.url, encoded=True),
                data=call.body,
                headers=HEADERS,
                proxy=route.proxy,
                ssl=route.tls,
                timeout=aiohttp.ClientTimeout(
                    total=timeouts.total,
                    connect=timeouts.connect,
                    sock_connect=timeouts.connect,
                    sock_read=timeouts.read,
                ),
                allow_redirects=False,
            ) as response:
                status, headers = response.status, response.headers
                if is_redirect(status):
                    response.close()
                    return HttpResponse(status, b"", location=headers.get("Location"))
                content = bytearray()
                async for chunk in response.content.iter_chunked(65536):
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        return NoResponse(f"a response of more than {MAX_ANSWER_BYTES} bytes", sent=True)
                return HttpResponse(status, bytes(content), headers.get("Retry-After"))
        except (aiohttp.ClientError, OSError, UnicodeError) as error:  # the last for a host name that is none
            total = isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ServerTimeoutError)
            return no_response(
                CallLimitError(f"no complete response within {timeouts.total:g} s") if total else error,
                sent=not isinstance(error, (*_NOT_CONNECTED, aiohttp.InvalidURL, UnicodeError)),
                retriable=isinstance(error, _NOT_CONNECTED),
                timed_out=isinstance(error, TimeoutError),
                timeouts=timeouts,
                url=call.url,
            )

    async def _find_route(self) -> _Route:
        """Proxy and TLS settings, resolved once: all requests go to one base URL, and both cost more than a request."""
        async with self._finding_route:
            if self._route is None:
                base_url, verify = self._connection.base_url, self._connection.verify
                proxy = _proxy(base_url)
                tls: ssl.SSLContext | bool = verify is not False
                if tls and base_url.startswith("https:"):
                    # Reading the CA file takes tens of milliseconds, which would stall every other job of the loop.
                    tls = await asyncio.to_thread(_tls_context, verify)
                self._route = _Route(proxy, tls)
            return self._route


@dataclass(frozen=True, slots=True)
class _Route:
    """Proxy and TLS settings for a client's base URL."""

    proxy: str | None = field(repr=False)
    tls: ssl.SSLContext | bool


def _new_session() -> aiohttp.ClientSession:
    # trust_env would read .netrc for the endpoint's host, so the proxy is resolved here and passed with each request.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        # As http.client, which the blocking client uses: a gateway's header may be longer than aiohttp's 8 kB.
        max_line_size=_MAX_HEADER_BYTES,
        max_field_size=_MAX_HEADER_BYTES,
    )


def _proxy(url: str) -> str | None:
    """The environment's proxy for a URL, found by the same code as in the blocking client."""
    found = select_proxy(url, get_environ_proxies(url))
    if not found:
        return None
    proxy = str(found) if "://" in found else f"http://{found}"
    if URL(proxy).scheme not in {"http", "https"}:
        raise _UnusableProxyError
    return proxy


def _tls_context(verify: bool | str) -> ssl.SSLContext:
    """The CAs of ``verify``, else those that the environment names for requests, else the system's and certifi's."""
    path = (
        verify if isinstance(verify, str) else os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    )
    if path and Path(path).is_dir():
        return ssl.create_default_context(capath=path)
    if path:
        return ssl.create_default_context(cafile=path)
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


class _UnusableProxyError(ValueError):
    """The environment's proxy is of a kind that aiohttp cannot use (only http and https)."""
