"""One exception per kind of failure. Each class says once what the rest of the package needs to know about it.

====================  ==========  =========  ======================================================================
code                  scope       retryable  meaning
====================  ==========  =========  ======================================================================
authentication        connection  no         the API key is missing or was refused
payment               connection  no         the account has no credits left
permission            clip        no         the plan or the server does not allow the call
rate_limit            connection  yes        too many requests; wait and send again
validation            clip        no         an attribute of the request is not allowed
changed_request       clip        no         another request was paid for at the same destination
job_failed            clip        yes        the endpoint accepted the job, and the job failed
clip_unreadable       clip        no         the clip cannot be decoded; the same request is not submitted again
job_lost              clip        yes        the endpoint does not know the job
not_finished          clip        yes        the job is still running
submission_unknown    clip        no         the job may be running and billed, but its id is unknown
result_expired        clip        no         the job was done, but its links have expired
timeout               clip        yes        the deadline passed while the job was running
transport             clip        yes        no usable response from the endpoint, or from the host of one clip
endpoint_unreachable  connection  yes        no connection to the endpoint, so nothing was sent
endpoint_settings     connection  no         the base URL, the proxy or the certificates are wrong
landing               clip        yes        the result exists, but could not be copied to S3
storage               batch       no         a bucket, key or S3 setting cannot work
storage_unavailable   clip        yes        S3 could not be reached, or returned a server error
input_refused         clip        no         S3 denies read access to this input object
budget                batch       no         another job would exceed a limit on jobs or cost
batch_failed          batch       yes        more clips failed than allowed, or the batch was aborted
batch_superseded      batch       yes        a later attempt has written the results of this batch
====================  ==========  =========  ======================================================================

*Scope* is what the failure affects: only this clip or job, every clip with the same destination, or everything that
uses the same Airflow connection. *Retryable* means: the same call may succeed later, and nobody has to change a setting
or make a decision. It does not mean free of charge: the retry of a failed job is a new job, and is paid for.

A trigger cannot raise across the process border (Airflow loses the type), so it sends the failure's
:meth:`ModelsLabError.to_event`, and the worker rebuilds the same exception with :func:`error_from_event`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, ClassVar

__all__ = [
    "STORAGE_ERRORS",
    "AuthenticationError",
    "BatchFailedError",
    "BatchSupersededError",
    "BudgetExhaustedError",
    "ChangedRequestError",
    "ClipUnreadableError",
    "EndpointSettingsError",
    "EndpointUnreachableError",
    "ErrorCode",
    "InputRefusedError",
    "InvalidRequestError",
    "JobFailedError",
    "JobLostError",
    "JobNotFinishedError",
    "JobTimeoutError",
    "LandingError",
    "ModelsLabError",
    "PaymentRequiredError",
    "PermissionDeniedError",
    "RateLimitError",
    "ResultExpiredError",
    "Scope",
    "StorageConfigurationError",
    "StorageUnavailableError",
    "SubmissionUnknownError",
    "TransportError",
    "error_class",
    "error_from_code",
    "error_from_event",
]


class ErrorCode(StrEnum):
    """The stable name of an exception class, as it is stored in trigger events, ledgers and reports."""

    AUTHENTICATION = "authentication"
    PAYMENT = "payment"
    PERMISSION = "permission"
    RATE_LIMIT = "rate_limit"
    VALIDATION = "validation"
    CHANGED_REQUEST = "changed_request"
    JOB_FAILED = "job_failed"
    CLIP_UNREADABLE = "clip_unreadable"
    JOB_LOST = "job_lost"
    NOT_FINISHED = "not_finished"
    SUBMISSION_UNKNOWN = "submission_unknown"
    RESULT_EXPIRED = "result_expired"
    TIMEOUT = "timeout"
    TRANSPORT = "transport"
    ENDPOINT_UNREACHABLE = "endpoint_unreachable"
    ENDPOINT_SETTINGS = "endpoint_settings"
    LANDING = "landing"
    STORAGE = "storage"
    STORAGE_UNAVAILABLE = "storage_unavailable"
    INPUT_REFUSED = "input_refused"
    BUDGET = "budget"
    BATCH_FAILED = "batch_failed"
    BATCH_SUPERSEDED = "batch_superseded"


class Scope(StrEnum):
    """What a failure affects."""

    CLIP = "clip"
    BATCH = "batch"
    CONNECTION = "connection"


class ModelsLabError(Exception):
    """Base class of all failures of this package.

    :param message: what happened and what to do next; never contains the API key.
    :param job_id: the endpoint's id of the job, if there is one. With it, the paid job can be picked up again.
    :param http_status: the HTTP status of the response that reported the failure, if there was one.
    """

    code: ClassVar[ErrorCode]
    """The class's own code."""
    scope: ClassVar[Scope]
    """What the failure affects."""
    retryable: ClassVar[bool]
    """Whether the same call may succeed later although nobody changes a setting or makes a decision."""
    ends_wait: ClassVar[bool] = False
    """Whether the wait is over: to poll the paid job again, or to land its result again, would not help."""
    after_submit: ClassVar[bool] = False
    """Whether it can only happen once a job was begun."""
    batch_limit: ClassVar[float] = math.inf
    """For the scope ``clip``: after how many of them in a row a batch is aborted all the same."""
    details: ClassVar[tuple[str, ...]] = ("job_id", "http_status")
    """The keyword arguments that :meth:`to_event` keeps beside the message."""

    sent: bool = False
    """Whether a submit raised it; ``False`` if a check before the submit did."""
    chain: Mapping[str, Any] | None = None
    """Of a job with other places to fall back to: ``made_by``, the place that failed last, and ``fallback_from``, the
    places before it, as in a result's manifest."""

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
        details = {name: getattr(self, name) for name in self.details}
        return {"status": "error", "code": self.code.value, "message": self.message, **details}


class AuthenticationError(ModelsLabError):
    """The API key is missing or was refused (HTTP 401)."""

    code = ErrorCode.AUTHENTICATION
    scope = Scope.CONNECTION
    retryable = False
    ends_wait = True


class PaymentRequiredError(ModelsLabError):
    """The account has no credits left (HTTP 402)."""

    code = ErrorCode.PAYMENT
    scope = Scope.CONNECTION
    retryable = False
    ends_wait = True


class PermissionDeniedError(ModelsLabError):
    """The plan or the server does not allow the call (HTTP 403)."""

    code = ErrorCode.PERMISSION
    scope = Scope.CLIP  # perhaps only this clip's model is refused
    retryable = False
    ends_wait = True
    batch_limit = 20  # a refused submit costs nothing


class RateLimitError(ModelsLabError):
    """Too many queued requests, or the same request twice within 30 s (HTTP 429, or HTTP 200 with such a message).

    :param retry_after: seconds to wait before the next call, if the endpoint gave them.
    """

    code = ErrorCode.RATE_LIMIT
    scope = Scope.CONNECTION
    retryable = True
    details = (*ModelsLabError.details, "retry_after")

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


class InvalidRequestError(ModelsLabError, ValueError):
    """An attribute of the request is not allowed. The provider finds this before the submit, or the endpoint does.

    :param fields: for each invalid attribute: what was given and what is allowed.
    """

    code = ErrorCode.VALIDATION
    scope = Scope.CLIP
    retryable = False
    ends_wait = True
    details = (*ModelsLabError.details, "fields")

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
    def of(cls, field: str, problem: str) -> InvalidRequestError:
        """The common case: one attribute, one problem."""
        return cls.of_fields({field: [problem]})

    @classmethod
    def of_fields(cls, fields: Mapping[str, Iterable[str]]) -> InvalidRequestError:
        """Build the message from the problems, one line an attribute."""
        lines = [f"{name}: {'; '.join(texts)}" for name, texts in fields.items()]
        head = "The request was not sent, because it is not valid"
        return cls(f"{head}: {lines[0]}" if len(lines) == 1 else "\n  ".join([head + ":", *lines]), fields=fields)


class ChangedRequestError(ModelsLabError, ValueError):
    """Another request was paid for at the same destination.

    There are two cases. The other request is older, and ``on_changed_request="fail"`` allows no second payment. Or a
    later try or another task has paid for the other request since. Then this task pays for nothing and lands nothing.
    """

    code = ErrorCode.CHANGED_REQUEST
    scope = Scope.CLIP
    retryable = False
    ends_wait = True


class JobFailedError(ModelsLabError):
    """The endpoint accepted the job, but the job failed. A retry pays for a new job."""

    code = ErrorCode.JOB_FAILED
    scope = Scope.CLIP
    retryable = True
    ends_wait = True
    after_submit = True


class ClipUnreadableError(JobFailedError):
    """The clip cannot be decoded: it is damaged, its kind is not supported, or it exceeds a limit.

    It is raised if a job failed for this reason, or if a clip is read on your own machine. For a job, the ledger stores
    the error. The same request for the same clip then raises it again without a submit, unless ``reuse`` is ``never``.
    """

    code = ErrorCode.CLIP_UNREADABLE
    scope = Scope.CLIP
    retryable = False
    after_submit = False  # a later attempt learns it from the ledger, which costs nothing


class JobLostError(ModelsLabError):
    """The endpoint does not know the job: its queue was cleared, or the job is too old. A retry pays for a new job."""

    code = ErrorCode.JOB_LOST
    scope = Scope.CLIP
    retryable = True
    ends_wait = True
    after_submit = True


class JobNotFinishedError(ModelsLabError):
    """A finished job is needed, but the job is still running. Wait for it first."""

    code = ErrorCode.NOT_FINISHED
    scope = Scope.CLIP
    retryable = True
    after_submit = True


class SubmissionUnknownError(ModelsLabError):
    """The request was sent, but there is no usable response. The job may run and be billed, but its id is unknown.

    The request is not sent again automatically, because the endpoint has no idempotency key.

    :param submission: its number in the result's ledger, if there is a ledger.
    """

    code = ErrorCode.SUBMISSION_UNKNOWN
    scope = Scope.CLIP
    retryable = False
    ends_wait = True
    details = (*ModelsLabError.details, "submission")

    def __init__(
        self, message: str, *, submission: int | None = None, job_id: str | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(message, job_id=job_id, http_status=http_status)
        self.submission = submission


class ResultExpiredError(ModelsLabError):
    """The job was done, but its links have expired (24 hours without ``update_s3``). Only a new, paid job helps."""

    code = ErrorCode.RESULT_EXPIRED
    scope = Scope.CLIP
    retryable = False
    ends_wait = True
    after_submit = True


class JobTimeoutError(ModelsLabError, TimeoutError):
    """The deadline passed while the job was running. The job goes on (there is no cancel). A retry waits for it."""

    code = ErrorCode.TIMEOUT
    scope = Scope.CLIP
    retryable = True
    ends_wait = True
    after_submit = True


class TransportError(ModelsLabError):
    """The endpoint could not be reached, or the response is not one of its API."""

    code = ErrorCode.TRANSPORT
    scope = Scope.CLIP
    retryable = True


class EndpointUnreachableError(TransportError):
    """No connection to the endpoint was possible, so nothing was sent. The same submit can be sent later."""

    code = ErrorCode.ENDPOINT_UNREACHABLE
    scope = Scope.CONNECTION
    retryable = True


class EndpointSettingsError(TransportError):
    """The base URL is not that of the API, or cannot be reached with these settings. Correct the connection."""

    code = ErrorCode.ENDPOINT_SETTINGS
    scope = Scope.CONNECTION
    retryable = False


class LandingError(ModelsLabError):
    """The result exists, but could not be copied to S3. It is already paid for: landing it again costs nothing."""

    code = ErrorCode.LANDING
    scope = Scope.CLIP
    retryable = True
    after_submit = True
    batch_limit = 10


class StorageConfigurationError(ModelsLabError, ValueError):
    """A bucket, key or S3 setting is wrong. The settings are checked before anything is paid for."""

    code = ErrorCode.STORAGE
    scope = Scope.BATCH
    retryable = False


class StorageUnavailableError(ModelsLabError):
    """S3 could not be reached, or is overloaded. The same call may succeed later.

    A batch tries the clip again. It is aborted after ten such failures in a row.
    """

    code = ErrorCode.STORAGE_UNAVAILABLE
    scope = Scope.CLIP
    retryable = True
    batch_limit = 10


STORAGE_ERRORS = (StorageConfigurationError, StorageUnavailableError)
"""Errors to catch where the work continues although S3 failed, for any reason."""


class InputRefusedError(StorageConfigurationError):
    """S3 refuses to read this clip, because of its ACL, its KMS key or a policy. Other clips may be readable."""

    code = ErrorCode.INPUT_REFUSED
    scope = Scope.CLIP
    retryable = False
    batch_limit = 100  # a refused check costs one read


class BudgetExhaustedError(ModelsLabError):
    """The cap on jobs or cost allows no further job. Nothing was submitted. Jobs that are paid for are still landed.

    :param budget: the budget, as text for people.
    """

    code = ErrorCode.BUDGET
    scope = Scope.BATCH
    retryable = False
    details = (*ModelsLabError.details, "budget")

    def __init__(
        self, message: str, *, budget: str | None = None, job_id: str | None = None, http_status: int | None = None
    ) -> None:
        super().__init__(message, job_id=job_id, http_status=http_status)
        self.budget = budget


class BatchFailedError(ModelsLabError):
    """More clips of a batch failed than ``max_failed`` allows, or the batch was aborted.

    Landed results stay. A retry makes only the remaining clips. It pays for a new job for each clip whose job failed.

    :param cause: the code of the failure that aborted the batch, unless it concerned only one clip. It decides whether
        a retry may help.
    """

    code = ErrorCode.BATCH_FAILED
    scope = Scope.BATCH
    retryable = True
    details = (*ModelsLabError.details, "cause")

    def __init__(
        self,
        message: str,
        *,
        cause: ErrorCode | str | None = None,
        job_id: str | None = None,
        http_status: int | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, http_status=http_status)
        self.cause = ErrorCode(cause) if cause is not None else None


class BatchSupersededError(ModelsLabError):
    """Airflow had declared this attempt at the batch dead, and a later attempt has written the manifest or checkpoint.

    This attempt ends with an error, because its summary would replace the XCom of the later attempt.
    """

    code = ErrorCode.BATCH_SUPERSEDED
    scope = Scope.BATCH
    retryable = True


def _subclasses(cls: type[ModelsLabError]) -> Iterator[type[ModelsLabError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


_BY_CODE: dict[ErrorCode, type[ModelsLabError]] = {cls.code: cls for cls in _subclasses(ModelsLabError)}


def error_class(code: ErrorCode | str) -> type[ModelsLabError]:
    """The exception class of a code.

    :raises ValueError: for a code that this version does not know.
    """
    return _BY_CODE[ErrorCode(code)]


def error_from_code(code: ErrorCode | str, message: str, **details: Any) -> ModelsLabError:
    """The exception for a code.

    :param details: keyword arguments of any of the classes; those that this class does not have are left out.
    :raises ValueError: for a code that this version does not know.
    """
    cls = error_class(code)
    return cls(message, **{name: value for name, value in details.items() if name in cls.details})


def error_from_event(event: Mapping[str, Any]) -> ModelsLabError:
    """Rebuild what :meth:`ModelsLabError.to_event` wrote.

    A code from a newer version becomes a :class:`TransportError` with the same text rather than a second failure.
    """
    try:
        cls = error_class(event.get("code") or "")
    except ValueError:
        cls = TransportError
    message = str(event.get("message") or "The trigger reported a failure without a message.")
    return cls(message, **{name: event.get(name) for name in cls.details})
