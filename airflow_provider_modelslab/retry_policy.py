"""A retry policy for Airflow 3.3 and later that knows this provider's failures."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy

from airflow_provider_modelslab.api.errors import BatchFailedError, ModelsLabError, RateLimitError, error_class

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["ModelsLabRetryPolicy"]


class ModelsLabRetryPolicy(RetryPolicy):
    """``retry_policy=ModelsLabRetryPolicy()``: fail at once what no retry cures, wait as long as a rate limit asks.

    Everything else, such as trouble of the network, is retried as the task says. The number of tries is the task's
    ``retries`` in any case.

    :param rate_limit_delay: the pause after a rate limit that names none.
    """

    def __init__(self, rate_limit_delay: timedelta = timedelta(seconds=60)) -> None:
        self.rate_limit_delay = rate_limit_delay

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
            return RetryDecision.retry(asked, "rate limit")
        kind = type(exception)
        if isinstance(exception, BatchFailedError) and exception.cause is not None:
            kind = error_class(exception.cause)
        return RetryDecision.default() if kind.retryable else RetryDecision.fail(f"no retry helps: {kind.code}")

    def serialize(self) -> dict[str, Any]:
        """For the serialized Dag."""
        return {"rate_limit_delay": self.rate_limit_delay.total_seconds()}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Self:
        """The inverse."""
        return cls(timedelta(seconds=float(data["rate_limit_delay"])))
