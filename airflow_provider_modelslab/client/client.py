"""The blocking client, on requests."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Self

import requests
import urllib3

from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.poll_policy import PollPolicy
from airflow_provider_modelslab.api.polling import Decision, GiveUp, JobPoller, Wait
from airflow_provider_modelslab.api.response import Answer, Finished, Processing
from airflow_provider_modelslab.client.config import (
    DEFAULT_BASE_URL,
    HEADERS,
    MAX_ANSWER_BYTES,
    HttpResponse,
    NoResponse,
    Outcome,
    SubmitPolicy,
    Timeouts,
    check_verify,
    is_redirect,
    longest_submit,
)
from airflow_provider_modelslab.client.parsing import read, read_admin, read_message
from airflow_provider_modelslab.client.requests import ApiRequest, RequestFactory
from airflow_provider_modelslab.client.retry import Repeat, SubmitAttempts
from airflow_provider_modelslab.client.transport_errors import no_response
from airflow_provider_modelslab.net.call_limit import CallLimit, CallLimitError, LimitedSession

__all__ = ["ModelsLabClient"]

logger = logging.getLogger(__name__)


class ModelsLabClient:
    """Client for one API key at one base URL; for one thread at a time.

    Proxies and CA files come from the environment (``HTTPS_PROXY``, ``NO_PROXY``, ``REQUESTS_CA_BUNDLE``), credentials
    never do: ``.netrc`` is not read. Redirects are not followed, since each request contains the key.

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
        submit_policy: SubmitPolicy = SubmitPolicy(),  # noqa: B008 - frozen
        verify: bool | str = True,
    ) -> None:
        self._calls = RequestFactory(key, base_url)
        self._timeouts = timeouts
        self._submit_policy = submit_policy
        self._verify = check_verify(verify)
        self._session = _new_session()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self._calls.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections that are kept open for polling."""
        self._session.close()

    def submit(self, request: EndpointRequest, *, ends_by: float = math.inf) -> Finished | Processing:
        """Submit a job. The request is repeated only if it certainly did not arrive or was refused.

        This takes :func:`~airflow_provider_modelslab.client.config.longest_submit` seconds at most.

        :param ends_by: seconds since the epoch after which nothing may be sent any more.
        :raises InvalidRequestError: before anything is sent, or when the endpoint refuses an attribute.
        :raises SubmissionUnknownError: when the job may be running although no usable answer came.
        :raises RateLimitError: when all attempts that the submit policy allows were refused.
        :raises TransportError: when none of the attempts that the submit policy allows arrived.
        :raises ModelsLabError: the subclass for the response: key, credits, plan, a job that failed at once.
        """
        call = self._calls.submit(request)
        ends_by = min(ends_by, time.time() + longest_submit(self._submit_policy, self._timeouts))
        max_wait = max(0.0, min(self._submit_policy.max_wait, ends_by - time.time()))
        attempts = SubmitAttempts(call, replace(self._submit_policy, max_wait=max_wait), track_id=request.track_id)
        while True:
            # With a reused connection that the server has just closed, it would be unknown whether the job arrived.
            with _new_session() as session:
                outcome = self._post(session, call, self._timeouts, ends_by)
            step = attempts.after(outcome)
            if not isinstance(step, Repeat):
                return step
            logger.info("%s; sending it again in %.1f s", step.note, step.seconds)
            time.sleep(step.seconds)

    def fetch(self, job_id: str) -> Answer:
        """Fetch a job's state once. A job that failed or is unknown is an answer, :class:`Failed`, too.

        :raises InvalidRequestError: for an empty id.
        :raises TransportError: when no answer came.
        """
        call = self._calls.fetch(job_id)
        return read(self._call(call), call, polling=True)

    def poll(self, poller: JobPoller) -> Decision:
        """Fetch a job's state once and decide what to do next. Errors are part of the decision, not raised."""
        try:
            answer = self.fetch(poller.job_id)
        except ModelsLabError as error:
            return poller.on_error(error)
        return poller.on_answer(answer)

    def wait(
        self,
        job_id: str,
        *,
        submitted_at: float,
        deadline: float,
        eta: float | None = None,
        policy: PollPolicy | None = None,
        poll_now: bool = False,
        sleep: Callable[[float], object] = time.sleep,
        on_wait: Callable[[Wait], object] | None = None,
    ) -> Finished:
        """Poll a job until it is done, as :class:`~airflow_provider_modelslab.api.polling.JobPoller` decides.

        :param submitted_at: seconds since the epoch.
        :param deadline: when to give up, in seconds since the epoch.
        :param eta: seconds, from the answer to the submit.
        :param poll_now: do not pause before the first poll, for a job that may have ended long ago.
        :param sleep: called with the seconds of each pause.
        :param on_wait: called before each pause with the decision to wait; by default its note is logged.
        :raises InvalidRequestError: for an empty id.
        :raises JobTimeoutError: when the deadline passed.
        :raises ModelsLabError: the subclass for the response, as soon as waiting longer cannot help.
        """
        self._calls.fetch(job_id)
        poller = JobPoller(job_id, submitted_at=submitted_at, deadline=deadline, eta=eta, policy=policy)
        on_wait = on_wait or partial(_log_note, job_id)
        decision: Decision = Wait(0.0 if poll_now else poller.first_delay())
        while isinstance(decision, Wait):
            on_wait(decision)
            sleep(decision.seconds)
            decision = self.poll(poller)
        if isinstance(decision, GiveUp):
            raise decision.error
        return decision.answer

    def system_details(self) -> dict[str, Any]:
        """The video server's own report of its state, such as ``model_count`` and ``queue_time``.

        :raises ModelsLabError: the subclass for the response; :class:`TransportError` when there was none.
        """
        call = self._calls.video_server("system_details")
        return read_admin(self._call(call), call)

    def restart_server(self) -> str:
        """Restart the video server; the answer's message. Errors as in :meth:`system_details`."""
        return self._administer(self._calls.video_server("restart_server"))

    def update_server(self) -> str:
        """Update the video server; the answer's message. Errors as in :meth:`system_details`."""
        return self._administer(self._calls.video_server("update_server"))

    def clear_cache(self) -> str:
        """Clear the video server's cache; the answer's message. Errors as in :meth:`system_details`."""
        return self._administer(self._calls.video_server("clear_cache"))

    def clear_queue(self) -> str:
        """Drop every queued job of the key, and restart the server. Errors as in :meth:`system_details`."""
        return self._administer(self._calls.video_server("clear_queue"))

    def update_s3(self, settings: Mapping[str, str], *, deploy_type: str = "video") -> str:
        """Set the bucket in which the server stores its results; returns the response's message.

        :param settings: exactly :data:`~airflow_provider_modelslab.client.requests.S3_SETTINGS`.
        :param deploy_type: the kind of server that gets the settings.
        :raises InvalidRequestError: naming each setting that is missing, empty or unknown.
        :raises ModelsLabError: as in :meth:`system_details`.
        """
        return self._administer(self._calls.update_s3(settings, deploy_type=deploy_type))

    def reset_s3(self, *, deploy_type: str = "video") -> str:
        """Remove the server's bucket settings; returns the response's message. Errors as in :meth:`system_details`."""
        return self._administer(self._calls.reset_s3(deploy_type=deploy_type))

    def _administer(self, call: ApiRequest) -> str:
        return read_message(self._call(call), call)

    def _call(self, call: ApiRequest) -> Outcome:
        return self._post(self._session, call, self._timeouts.for_reading())

    def _post(
        self, session: LimitedSession, call: ApiRequest, timeouts: Timeouts, ends_by: float = math.inf
    ) -> Outcome:
        limit = CallLimit(min(timeouts.total, ends_by - time.time()))
        if limit.left <= 0:
            return NoResponse("no time was left to send it", sent=False)
        body = _Body(call.body, limit, ends_by)
        try:
            with (
                limit.applied(),
                session.post(
                    call.url,
                    data=body,
                    timeout=limit.timeouts(timeouts.connect, timeouts.read),
                    verify=self._verify,
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                status, headers = response.status_code, response.headers
                if is_redirect(status):
                    return HttpResponse(status, b"", location=headers.get("Location"))
                content = bytearray()
                for chunk in response.iter_content(65536):
                    content += chunk
                    if len(content) > MAX_ANSWER_BYTES:
                        return NoResponse(f"a response of more than {MAX_ANSWER_BYTES} bytes", sent=True)
                return HttpResponse(status, bytes(content), headers.get("Retry-After"), server=headers.get("Server"))
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            return no_response(
                error,
                sent=body.begun,
                retriable=isinstance(error, requests.ConnectionError | requests.Timeout),
                timed_out=isinstance(error, requests.Timeout),
                timeouts=timeouts,
                url=call.url,
            )


def _log_note(job_id: str, wait: Wait) -> None:
    if wait.note:
        logger.log(logging.WARNING if wait.warn else logging.INFO, "Job %s: %s", job_id, wait.note)


class _Body:
    """A request body that records whether sending it has begun.

    The libraries' exceptions do not say so: a TLS fault or a time-out can come before or after the body. Until its
    first byte is read, the server has the headers at most and cannot have started a job. The body is withheld when the
    time for the call is over, by the wall clock too: the monotonic clock may stop while the machine is suspended.
    """

    def __init__(self, content: bytes, limit: CallLimit, ends_by: float) -> None:
        self._content = content
        self._limit = limit
        self._ends_by = ends_by
        self.begun = False

    def __len__(self) -> int:
        return len(self._content)

    def __iter__(self) -> Iterator[bytes]:
        self._limit.check()
        if time.time() >= self._ends_by:
            raise CallLimitError("no time was left to send this submit")
        self.begun = True
        yield self._content


def _new_session() -> LimitedSession:
    session = LimitedSession()
    session.headers.update(HEADERS)
    return session
