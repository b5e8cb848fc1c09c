"""The client for an event loop, on aiohttp. Same calls, same decisions as the blocking one."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import certifi
from requests.utils import get_environ_proxies, select_proxy
from yarl import URL

from airflow_provider_modelslab.api.errors import ModelsLabError, RequestValidationError
from airflow_provider_modelslab.api.polling import Done, GiveUp, JobPoller, PollPolicy, Wait
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.api.response import Answer, Finished, Processing
from airflow_provider_modelslab.client.attempts import Repeat, SubmitAttempts
from airflow_provider_modelslab.client.calls import Call, Calls
from airflow_provider_modelslab.client.core import (
    DEFAULT_BASE_URL,
    HEADERS,
    MAX_ANSWER_BYTES,
    MAX_CONNECTIONS,
    NoReply,
    Outcome,
    Reply,
    SubmitPolicy,
    Timeouts,
    check_verify,
)
from airflow_provider_modelslab.client.faults import no_reply
from airflow_provider_modelslab.client.reading import read, read_details, read_message

__all__ = ["AsyncModelsLabClient", "Connection"]

logger = logging.getLogger(__name__)

# aiohttp raises these from its connector alone, that is before a byte of the request is written.
_NOT_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.ClientHttpProxyError)


@dataclass(frozen=True, slots=True)
class Connection:
    """What makes two clients one and the same to the endpoint; the key is in no repr."""

    base_url: str
    key: str = field(repr=False)
    verify: bool | str
    timeouts: Timeouts
    session: aiohttp.ClientSession | None = field(repr=False)


class AsyncModelsLabClient:
    """One key at one base URL, for one event loop; its methods may run side by side.

    Proxies and CA files come from the same places of the environment as with the blocking client, credentials from
    none: ``.netrc`` is not read. Redirects are not followed, since each call carries the key.

    :param base_url: see :func:`~airflow_provider_modelslab.client.core.normalise_base_url`.
    :param verify: ``False`` to accept any TLS certificate, or the path of a CA file.
    :param session: one whose connections to use for everything but submits. Only its connector is used, not its
        cookies, credentials, headers or middlewares, and closing it stays with its owner.
    :raises AuthenticationError: for an empty key.
    :raises RequestValidationError: for a base URL or CA file that cannot work, or a closed session.
    """

    def __init__(
        self,
        key: str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - frozen
        submit_policy: SubmitPolicy = SubmitPolicy(),  # noqa: B008 - frozen
        verify: bool | str = True,
        session: aiohttp.ClientSession | None = None,
    ) -> None:
        self._calls = Calls(key, base_url)
        self._timeouts = timeouts
        self._submit_policy = submit_policy
        self._verify = check_verify(verify)
        if session is not None and session.closed:
            raise RequestValidationError.of("session", "must be open; got a closed aiohttp.ClientSession")
        self._shared = session
        self._session: aiohttp.ClientSession | None = None
        self._way: _Way | None = None
        self._finding_way = asyncio.Lock()
        self._connection = Connection(self._calls.base_url, str(key).strip(), self._verify, timeouts, session)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._calls.base_url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    @property
    def connection(self) -> Connection:
        """Equal for clients that may stand in for one another."""
        return self._connection

    def twin(self) -> AsyncModelsLabClient:
        """Another client with the same settings, and connections of its own unless they were lent to both."""
        return AsyncModelsLabClient(
            self._connection.key,
            base_url=self._calls.base_url,
            timeouts=self._timeouts,
            submit_policy=self._submit_policy,
            verify=self._verify,
            session=self._shared,
        )

    async def aclose(self) -> None:
        """Close the connections that are kept open for polling, unless they belong to a shared session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def submit(self, request: Video2VideoRequest) -> Finished | Processing:
        """Send a job; it is sent again only while it surely did not arrive or was refused.

        :raises RequestValidationError: before anything is sent, or when the endpoint refuses an attribute.
        :raises SubmissionUnknownError: when the job may be running although no usable answer came.
        :raises RateLimitError: when it was refused as often as the submit policy allows.
        :raises TransportError: when it did not arrive as often as the submit policy allows.
        :raises ModelsLabError: of the kind that the answer tells: key, credits, plan, a job that failed at once.
        """
        call = self._calls.submit(request)
        attempts = SubmitAttempts(call, self._submit_policy, track_id=request.track_id)
        while True:
            # A kept connection that the server has just closed would leave open whether the job arrived.
            async with _new_session(aiohttp.TCPConnector()) as session:
                outcome = await self._post(session, call, self._timeouts)
            step = attempts.after(outcome)
            if not isinstance(step, Repeat):
                return step
            logger.info("%s; sending it again in %.1f s", step.note, step.seconds)
            await asyncio.sleep(step.seconds)

    async def fetch(self, job_id: str) -> Answer:
        """Look at a job once. A job that failed or is unknown is an answer, :class:`Failed`, too.

        :raises RequestValidationError: for an empty id.
        :raises TransportError: when no answer came.
        """
        call = self._calls.fetch(job_id)
        return read(await self._ask(call), call)

    async def wait(
        self,
        job_id: str,
        *,
        submitted_at: float,
        deadline: float,
        eta: float | None = None,
        policy: PollPolicy | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        on_wait: Callable[[Wait], object] | None = None,
    ) -> Finished:
        """Look at a job until it is done, paced by :class:`~airflow_provider_modelslab.api.polling.JobPoller`.

        :param submitted_at: seconds since the epoch.
        :param deadline: when to give up, in seconds since the epoch.
        :param eta: seconds, from the answer to the submit.
        :param on_wait: called before each pause, with it; for heartbeats.
        :raises RequestValidationError: for an empty id.
        :raises JobTimeoutError: when the deadline passed.
        :raises ModelsLabError: of the kind that the endpoint tells, as soon as waiting on is of no use.
        """
        self._calls.fetch(job_id)
        poller = JobPoller(job_id, submitted_at=submitted_at, deadline=deadline, eta=eta, policy=policy)
        pause = Wait(poller.first_delay())
        while True:
            if pause.note:
                logger.log(logging.WARNING if pause.warn else logging.INFO, "Job %s: %s", job_id, pause.note)
            if on_wait is not None:
                on_wait(pause)
            await sleep(pause.seconds)
            try:
                decision = poller.on_answer(await self.fetch(job_id))
            except ModelsLabError as error:
                decision = poller.on_error(error)
            if isinstance(decision, Done):
                return decision.answer
            if isinstance(decision, GiveUp):
                raise decision.error
            pause = decision

    async def system_details(self) -> dict[str, Any]:
        """What the video server tells of itself, such as ``model_count`` and ``queue_time``.

        :raises ModelsLabError: of the kind that the answer tells; :class:`TransportError` when none came.
        """
        call = self._calls.video_server("system_details")
        return read_details(await self._ask(call), call)

    async def restart_server(self) -> str:
        """Restart the video server; the answer's message. Errors as in :meth:`system_details`."""
        return await self._administer(self._calls.video_server("restart_server"))

    async def update_server(self) -> str:
        """Update the video server; the answer's message. Errors as in :meth:`system_details`."""
        return await self._administer(self._calls.video_server("update_server"))

    async def clear_cache(self) -> str:
        """Clear the video server's cache; the answer's message. Errors as in :meth:`system_details`."""
        return await self._administer(self._calls.video_server("clear_cache"))

    async def clear_queue(self) -> str:
        """Drop every queued job of the key, and restart the server. Errors as in :meth:`system_details`."""
        return await self._administer(self._calls.video_server("clear_queue"))

    async def update_s3(self, settings: Mapping[str, str], *, deploy_type: str = "video") -> str:
        """Have the server put its results in a bucket; the answer's message.

        :param settings: exactly :data:`~airflow_provider_modelslab.client.calls.S3_SETTINGS`.
        :param deploy_type: which kind of server gets them.
        :raises RequestValidationError: naming each setting that is missing, empty or unknown.
        :raises ModelsLabError: as in :meth:`system_details`.
        """
        return await self._administer(self._calls.update_s3(settings, deploy_type=deploy_type))

    async def reset_s3(self, *, deploy_type: str = "video") -> str:
        """Have the server forget its bucket; the answer's message. Errors as in :meth:`system_details`."""
        return await self._administer(self._calls.reset_s3(deploy_type=deploy_type))

    async def _administer(self, call: Call) -> str:
        return read_message(await self._ask(call), call)

    async def _ask(self, call: Call) -> Outcome:
        if self._session is None:
            if self._shared is None:
                self._session = _new_session(aiohttp.TCPConnector(limit=MAX_CONNECTIONS))
            elif self._shared.connector is not None:
                self._session = _new_session(self._shared.connector, owner=False)
            else:
                return NoReply("the shared aiohttp session was closed by its owner", sent=False, permanent=True)
        return await self._post(self._session, call, self._timeouts.for_reading())

    async def _post(self, session: aiohttp.ClientSession, call: Call, timeouts: Timeouts) -> Outcome:
        try:
            way = self._way or await self._find_way()
        except (OSError, ValueError) as error:
            return no_reply(error, sent=False, retriable=False, timed_out=False, timeouts=timeouts)
        try:
            async with session.post(
                URL(call.url, encoded=True),
                data=call.body,
                headers=HEADERS,
                proxy=way.proxy,
                ssl=way.tls,
                timeout=aiohttp.ClientTimeout(
                    total=None, connect=timeouts.connect, sock_connect=timeouts.connect, sock_read=timeouts.read
                ),
                allow_redirects=False,
            ) as response:
                content = bytearray()
                async for chunk in response.content.iter_chunked(65536):
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        return NoReply(f"an answer of more than {MAX_ANSWER_BYTES} bytes", sent=True)
                headers = response.headers
                return Reply(response.status, bytes(content), headers.get("Retry-After"), headers.get("Location"))
        except (aiohttp.ClientError, OSError) as error:
            return no_reply(
                error,
                sent=not isinstance(error, (*_NOT_CONNECTED, aiohttp.InvalidURL)),
                retriable=isinstance(error, _NOT_CONNECTED),
                timed_out=isinstance(error, TimeoutError),
                timeouts=timeouts,
            )

    async def _find_way(self) -> _Way:
        """Proxy and TLS settings, found once: all calls go to one base URL, and both cost more than the call itself."""
        async with self._finding_way:
            if self._way is None:
                proxy = _proxy(self._calls.base_url)
                tls: ssl.SSLContext | bool = self._verify is not False
                if tls and self._calls.base_url.startswith("https:"):
                    # Reading the CA file takes tens of milliseconds, which would stall every other job of the loop.
                    tls = await asyncio.to_thread(_tls_context, self._verify)
                self._way = _Way(proxy, tls)
            return self._way


@dataclass(frozen=True, slots=True)
class _Way:
    """How a client's calls reach its base URL."""

    proxy: str | None = field(repr=False)
    tls: ssl.SSLContext | bool


def _new_session(connector: aiohttp.BaseConnector, *, owner: bool = True) -> aiohttp.ClientSession:
    # trust_env would read .netrc for the endpoint's host; proxies are looked up here, and given with each call.
    return aiohttp.ClientSession(
        connector=connector, connector_owner=owner, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
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
