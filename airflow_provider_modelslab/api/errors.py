"""One exception per kind of failure, so that a task can catch by kind and a message can say what to do next.

Every failure has a :class:`Reason`. A trigger cannot raise across the process border (Airflow loses the type), so it
sends the failure's :meth:`ModelsLabError.to_event` and the worker rebuilds the exception with :func:`error_from_event`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "AuthenticationError",
    "ChangedRequestError",
    "JobFailedError",
    "JobLostError",
    "JobNotFinishedError",
    "JobTimeoutError",
    "LandingError",
    "ModelsLabError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "Reason",
    "RequestValidationError",
    "ResultExpiredError",
    "StorageConfigurationError",
    "SubmissionUnknownError",
    "TransportError",
    "error_from_event",
    "error_from_reason",
]


class Reason(StrEnum):
    """Why something failed. The values travel in trigger events and sidecars, so they never change."""

    AUTHENTICATION = "authentication"
    PAYMENT = "payment"
    PERMISSION = "permission"
    RATE_LIMIT = "rate_limit"
    VALIDATION = "validation"
    JOB_FAILED = "job_failed"
    JOB_LOST = "job_lost"
    NOT_FINISHED = "not_finished"
    SUBMISSION_UNKNOWN = "submission_unknown"
    RESULT_EXPIRED = "result_expired"
    TIMEOUT = "timeout"
    TRANSPORT = "transport"
    LANDING = "landing"
    STORAGE = "storage"


class ModelsLabError(Exception):
    """Base of all failures of this package.

    :param message: what happened and what to do next; never holds the API key.
    :param job_id: the endpoint's id of the job, when there is one: a paid job can be picked up again by it.
    :param http_status: the HTTP status of the answer that told of the failure, when there was one.
    """

    reason: ClassVar[Reason]
    sent: bool = False
    """Whether it came of a submit that was begun, rather than of what is looked at before one."""

    def __init__(self, message: str, *, job_id: str | None = None, http_status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.job_id = job_id
        self.http_status = http_status

    def __str__(self) -> str:
        return f"{self.message} (job {self.job_id})" if self.job_id else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception pickles its positional arguments alone; the keyword ones travel in the state.
        return (type(self), (self.message,), self.__dict__)

    def to_event(self) -> dict[str, Any]:
        """The failure as plain JSON; :func:`error_from_event` turns it back into the same exception."""
        return {
            "status": "error",
            "reason": self.reason.value,
            "message": self.message,
            "job_id": self.job_id,
            "http_status": self.http_status,
        }


class AuthenticationError(ModelsLabError):
    """The API key is missing or was refused (HTTP 401)."""

    reason = Reason.AUTHENTICATION


class PaymentRequiredError(ModelsLabError):
    """The account has no credits left (HTTP 402)."""

    reason = Reason.PAYMENT


class PermissionDeniedError(ModelsLabError):
    """The plan or the server does not allow the call (HTTP 403)."""

    reason = Reason.PERMISSION


class RateLimitError(ModelsLabError):
    """Too many queued requests, or the same request again within 30 s (HTTP 429, or a 200 that says so).

    :param retry_after: seconds after which the endpoint wants to be asked again, when it said so.
    """

    reason = Reason.RATE_LIMIT

    def __init__(
        self,
        message: str,
        *,
        retry_after: float | None = None,
        job_id: str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, http_status=http_status)
        self.retry_after = retry_after

    def to_event(self) -> dict[str, Any]:
        """With ``retry_after``."""
        return {**super().to_event(), "retry_after": self.retry_after}


class RequestValidationError(ModelsLabError, ValueError):
    """An attribute of the request is not allowed: found here before anything was sent, or by the endpoint.

    :param fields: for each attribute at fault, what is wrong with it: what was given and what is allowed.
    """

    reason = Reason.VALIDATION

    def __init__(
        self,
        message: str,
        *,
        fields: Mapping[str, Iterable[str]] | None = None,
        job_id: str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, http_status=http_status)
        self.fields: dict[str, list[str]] = {name: list(texts) for name, texts in (fields or {}).items()}

    @classmethod
    def of(cls, field: str, problem: str) -> RequestValidationError:
        """The common case: one attribute, one problem."""
        return cls.of_fields({field: [problem]})

    @classmethod
    def of_fields(cls, fields: Mapping[str, Iterable[str]]) -> RequestValidationError:
        """Build the message from the problems, one line an attribute."""
        lines = [f"{name}: {'; '.join(texts)}" for name, texts in fields.items()]
        head = "The request was not sent, because it is not valid"
        return cls(f"{head}: {lines[0]}" if len(lines) == 1 else "\n  ".join([head + ":", *lines]), fields=fields)

    def to_event(self) -> dict[str, Any]:
        """With ``fields``."""
        return {**super().to_event(), "fields": self.fields}


class ChangedRequestError(ModelsLabError, ValueError):
    """Another request was paid for in the same place.

    Before this one, and the task was told (``on_changed_request="fail"``) not to pay again; or since, by a later try or
    another task, so this one pays for nothing and lands nothing.
    """

    reason = Reason.VALIDATION


class JobFailedError(ModelsLabError):
    """The endpoint accepted the job and could not do it."""

    reason = Reason.JOB_FAILED


class JobLostError(ModelsLabError):
    """The endpoint does not know the job: its queue was cleared, or the id is older than its memory."""

    reason = Reason.JOB_LOST


class JobNotFinishedError(ModelsLabError):
    """The job is still running where a finished one is needed; wait for it first."""

    reason = Reason.NOT_FINISHED


class SubmissionUnknownError(ModelsLabError):
    """The request left and no usable answer came back: the job may be running and billed, under an id nobody has.

    It is never sent again by itself, because the endpoint has no idempotency key.

    :param submission: its number in the result's ledger, where there is one.
    """

    reason = Reason.SUBMISSION_UNKNOWN

    def __init__(
        self, message: str, *, submission: int | None = None, job_id: str | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(message, job_id=job_id, http_status=http_status)
        self.submission = submission


class ResultExpiredError(ModelsLabError):
    """The job was done, but its links are dead: without S3 details they live for 24 hours."""

    reason = Reason.RESULT_EXPIRED


class JobTimeoutError(ModelsLabError, TimeoutError):
    """The deadline passed while the job was running. The job goes on (there is no cancel) and can be picked up."""

    reason = Reason.TIMEOUT


class TransportError(ModelsLabError):
    """The endpoint could not be reached, or answered with something that is not its API."""

    reason = Reason.TRANSPORT


class LandingError(ModelsLabError):
    """The result exists and could not be copied to S3. It is paid for: landing it again costs nothing."""

    reason = Reason.LANDING


class StorageConfigurationError(ModelsLabError, ValueError):
    """A bucket, key or S3 setting that cannot work: found before anything is paid for."""

    reason = Reason.STORAGE


_BY_REASON: dict[Reason, type[ModelsLabError]] = {
    cls.reason: cls
    for cls in (
        AuthenticationError,
        PaymentRequiredError,
        PermissionDeniedError,
        RateLimitError,
        RequestValidationError,
        JobFailedError,
        JobLostError,
        JobNotFinishedError,
        SubmissionUnknownError,
        ResultExpiredError,
        JobTimeoutError,
        TransportError,
        LandingError,
        StorageConfigurationError,
    )
}


def error_from_reason(
    reason: Reason | str,
    message: str,
    *,
    job_id: str | None = None,
    http_status: int | None = None,
    retry_after: float | None = None,
    fields: Mapping[str, Iterable[str]] | None = None,
) -> ModelsLabError:
    """The exception for a reason; ``retry_after`` (seconds) and ``fields`` are kept where the kind has them.

    :raises ValueError: for a reason that this version does not know.
    """
    cls = _BY_REASON[Reason(reason)]
    if issubclass(cls, RateLimitError):
        return cls(message, retry_after=retry_after, job_id=job_id, http_status=http_status)
    if issubclass(cls, RequestValidationError):
        return cls(message, fields=fields, job_id=job_id, http_status=http_status)
    return cls(message, job_id=job_id, http_status=http_status)


def error_from_event(event: Mapping[str, Any]) -> ModelsLabError:
    """Rebuild what :meth:`ModelsLabError.to_event` wrote.

    A reason from a newer version becomes a :class:`TransportError` with the same text rather than a second failure.
    """
    known = event.get("reason") in {reason.value for reason in Reason}
    return error_from_reason(
        event["reason"] if known else Reason.TRANSPORT,
        str(event.get("message") or "The trigger reported a failure without a message."),
        job_id=event.get("job_id"),
        http_status=event.get("http_status"),
        retry_after=event.get("retry_after"),
        fields=event.get("fields"),
    )
