"""A retry policy for Airflow 3.3 and later that handles this provider's errors."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from airflow_provider_modelslab.api.errors import BatchFailedError, ModelsLabError, RateLimitError, error_class
from airflow_provider_modelslab.compat import run_later

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["ModelsLabRetryPolicy"]


class ModelsLabRetryPolicy(RetryPolicy):
    """``retry_policy=ModelsLabRetryPolicy()``: fail at once if no retry can help, wait for a rate limit to pass.

    Other errors, such as network errors, are retried with the task's own settings. The number of tries is always the
    task's ``retries``. On Airflow 3.4 and later a rate limit does not count as a retry for ``rate_limit_timeout``: the
    submit was refused, so nothing was paid for.

    To handle other exceptions as well, put it first into Airflow's ``ChainRetryPolicy``: exceptions that this policy
    leaves to the task go to the next policy.

    :param rate_limit_delay: the pause after a rate limit without ``Retry-After``.
    :param rate_limit_timeout: how long, from the first rate limit of a try on, rate limits do not count as retries;
        above 0.
    """

    def __init__(
        self,
        rate_limit_delay: timedelta = timedelta(seconds=60),
        rate_limit_timeout: timedelta = timedelta(hours=1),
    ) -> None:
        self.rate_limit_delay = rate_limit_delay
        self.rate_limit_timeout = rate_limit_timeout

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Decide by the exception's class; for an aborted batch, by the error that aborted it.

        Exceptions of other packages are left to the task's own settings.
        """
        if not isinstance(exception, ModelsLabError):
            return RetryDecision.default()
        if isinstance(exception, RateLimitError):
            delay = timedelta(seconds=exception.retry_after) if exception.retry_after else self.rate_limit_delay
            return run_later(delay, self.rate_limit_timeout, "rate limit")
        kind = type(exception)
        if isinstance(exception, BatchFailedError) and exception.cause is not None:
            kind = error_class(exception.cause)
        return RetryDecision.default() if kind.retryable else RetryDecision.fail(f"no retry helps: {kind.code}")

    def serialize(self) -> dict[str, Any]:
        """For the serialized Dag."""
        return {
            "rate_limit_delay": self.rate_limit_delay.total_seconds(),
            "rate_limit_timeout": self.rate_limit_timeout.total_seconds(),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Self:
        """The inverse."""
        return cls(**{name: timedelta(seconds=float(seconds)) for name, seconds in data.items()})
