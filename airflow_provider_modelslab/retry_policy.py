"""A retry policy for Airflow 3.3 and later that knows this provider's failures."""

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
    """``retry_policy=ModelsLabRetryPolicy()``: fail at once what no retry cures, wait as long as a rate limit asks.

    Everything else, such as trouble of the network, is retried as the task says. The number of tries is the task's
    ``retries`` in any case. On Airflow 3.4 and later a rate limit spends none of them, for as long as
    ``rate_limit_timeout`` says: the submit was refused, so nothing was paid for.

    To decide about other exceptions too, put it first into Airflow's ``ChainRetryPolicy``: the next policy is asked
    about what this one leaves to the task.

    :param rate_limit_delay: the pause after a rate limit that names none.
    :param rate_limit_timeout: how long after the first rate limit of a try another one spends a retry; above 0.
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
        """Decide by the exception's kind; a batch's, by what it was given up for.

        Foreign exceptions are left to the task's own settings.
        """
        if not isinstance(exception, ModelsLabError):
            return RetryDecision.default()
        if isinstance(exception, RateLimitError):
            asked = timedelta(seconds=exception.retry_after) if exception.retry_after else self.rate_limit_delay
            return run_later(asked, self.rate_limit_timeout, "rate limit")
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
