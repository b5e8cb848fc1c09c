"""Retry policy of the paid submit, without I/O.

The endpoint has no idempotency key, so a submit that arrives twice is paid twice. It is repeated only if it certainly
did not arrive or was refused; if its outcome is unknown, it is never sent again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_modelslab.api.errors import (
    EndpointSettingsError,
    EndpointUnreachableError,
    ModelsLabError,
    RateLimitError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.response import Failed, Finished, Processing
from airflow_provider_modelslab.client.config import NoResponse, Outcome, SubmitPolicy
from airflow_provider_modelslab.client.gateways import refused_by_gateway
from airflow_provider_modelslab.client.parsing import clean, read
from airflow_provider_modelslab.client.requests import ApiRequest

__all__ = ["Repeat", "SubmitAttempts"]


@dataclass(frozen=True, slots=True)
class Repeat:
    """Send the same request again after ``seconds``; ``note`` is the reason, for the log."""

    seconds: float
    note: str


class SubmitAttempts:
    """Decides after each attempt at one submit.

    :param track_id: of the request, for the message if the job's id is unknown.
    """

    def __init__(
        self,
        call: ApiRequest,
        policy: SubmitPolicy,
        *,
        track_id: str | None = None,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._call = call
        self._policy = policy
        self._track_id = track_id
        self._clock = clock
        self._uniform = uniform
        self._began = clock()
        self._tries = 0

    def after(self, outcome: Outcome) -> Finished | Processing | Repeat:
        """The job, or when to send the request again.

        :raises SubmissionUnknownError: when the job may be running although no usable answer came.
        :raises RateLimitError: when all attempts that the policy allows were refused.
        :raises EndpointUnreachableError: when none of the attempts that the policy allows arrived.
        :raises EndpointSettingsError: when the base URL is wrong, or no connection can be made with these settings.
        :raises ModelsLabError: the subclass for the response.
        """
        self._tries += 1
        if isinstance(outcome, NoResponse):
            if outcome.sent:
                raise self._unknown(outcome.text)
            error = EndpointUnreachableError(
                clean(f"The submit did not reach {self._call.host}: {outcome.text}", self._call)
            )
            if outcome.permanent:
                raise EndpointSettingsError(f"{error.message}. Check the base URL, the CA file and the proxy settings")
            return self._repeat(error)
        answer = read(outcome, self._call)
        if outcome.status >= 500 or outcome.status == 408:
            if refused := refused_by_gateway(outcome):
                text = (
                    f"The submit did not reach the server behind {self._call.host} (HTTP {outcome.status}: {refused})"
                )
                return self._repeat(EndpointUnreachableError(clean(text, self._call), http_status=outcome.status))
            # A gateway may answer like this while the server behind it is still working on the request.
            text = answer.message if isinstance(answer, Failed) else ""
            raise self._unknown(f"HTTP {outcome.status}: {text}", outcome.status, answer.job_id)
        if isinstance(answer, Failed):
            return self._failed(answer, outcome.status)
        if isinstance(answer, Processing) and not answer.job_id and not answer.future_links:
            raise self._unknown("the response has neither an id nor a usable link", outcome.status)
        return answer

    def _failed(self, answer: Failed, status: int) -> Repeat:
        error = answer.to_error()
        if isinstance(error, RateLimitError):
            return self._repeat(error)
        if isinstance(error, TransportError) and (status < 400 or error.job_id):
            raise self._unknown(error.message, status, error.job_id)
        if isinstance(error, TransportError):
            raise EndpointSettingsError(f"{error.message}. Check the base URL: {self._call.url}", http_status=status)
        raise error

    def _repeat(self, error: ModelsLabError) -> Repeat:
        retry_after = error.retry_after or 0.0 if isinstance(error, RateLimitError) else 0.0
        base = self._policy.base_wait
        pause = max(retry_after, base * 2 ** (self._tries - 1)) + self._uniform(0, base)
        spent = self._clock() - self._began
        if self._tries >= self._policy.attempts or spent + pause > self._policy.max_wait:
            message = (
                f"{error.message.rstrip('. ')}. Tried {self._tries} time(s) in {spent:.0f} s. No job was started, so "
                "it is safe to submit again later"
            )
            if isinstance(error, RateLimitError):
                raise RateLimitError(
                    f"{message}. To avoid this, submit fewer jobs at a time, for example with an Airflow pool",
                    retry_after=error.retry_after,
                    http_status=error.http_status,
                )
            raise EndpointUnreachableError(message, http_status=error.http_status)
        return Repeat(pause, f"submit attempt {self._tries} was not accepted ({error.code}): {error.message}")

    def _unknown(self, what: str, http_status: int | None = None, job_id: str | None = None) -> SubmissionUnknownError:
        mark = f"track_id {self._track_id}" if self._track_id else "this prompt"
        seen = what[:500].rstrip(". ")
        known = "The response has its id" if job_id else "Its id is unknown"
        return SubmissionUnknownError(
            clean(
                f"The job was sent to {self._call.host}, but there was no usable response ({seen}). It may be running "
                f"and billed, so it was not sent again. {known}. Search the ModelsLab dashboard for a job with {mark}. "
                "Submit again, which pays for a new job, only if there is none",
                self._call,
            ),
            job_id=job_id,
            http_status=http_status,
        )
