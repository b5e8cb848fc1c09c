"""What it means for the others that one clip was refused: nothing, or that the batch is given up."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    ModelsLabError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    Reason,
    StorageConfigurationError,
    SubmissionUnknownError,
)
from airflow_provider_modelslab.api.narrow_errors import (
    EndpointSettingsError,
    EndpointUnreachableError,
    InputRefusedError,
)

__all__ = ["Refusals", "cause_of", "one_job_for_two", "told"]

_IN_A_ROW: Mapping[type[ModelsLabError], int] = {
    InputRefusedError: 100,  # to look at one costs a read
    PermissionDeniedError: 20,  # a model of the clip's own, or the plan; a submit that is refused costs nothing
}
"""What may be one clip's own, and how many in a row are not."""

_AT_ONCE = (AuthenticationError, PaymentRequiredError, StorageConfigurationError, EndpointSettingsError)
"""What the next clip would meet as well: the key, the credits, the ledger's and the results' place, the settings."""


class Refusals:
    """Tells one clip's own trouble from everybody's."""

    def __init__(self) -> None:
        self._kind: type[ModelsLabError] | None = None
        self._count = 0

    def accepted(self) -> None:
        """A clip was submitted."""
        self._kind, self._count = None, 0

    def stopping(self, error: Exception) -> str | None:
        """Why the batch is given up for an error; ``None`` where it is the clip's own."""
        kind = next((kind for kind in _IN_A_ROW if isinstance(error, kind)), None)
        self._count = self._count + 1 if kind is self._kind else 1
        self._kind = kind
        if kind is not None:
            return f"{told(error)} ({self._count} in a row)" if self._count >= _IN_A_ROW[kind] else None
        return told(error) if isinstance(error, _AT_ONCE) else None


def told(error: Exception) -> str:
    """An error as the text for which a batch is given up; it goes through deferrals."""
    return f"{type(error).__name__}: {error}"


def one_job_for_two(job_id: str, first: object, second: object) -> SubmissionUnknownError:
    """What to do about a job that the ledgers of two clips name."""
    return SubmissionUnknownError(
        f"Job {job_id} is noted for two clips, {first} and {second}, and makes the result of one. Its id was given to "
        "the wrong one by hand: look up in the ModelsLab dashboard which clip it is of, and give the other one another "
        "destination",
        job_id=job_id,
    )


def cause_of(stopped: str | None) -> Reason | None:
    """The reason in such a text; ``None`` where it was no error that ended the batch."""
    return _REASONS.get((stopped or "").partition(":")[0])


_NAMED: tuple[type[ModelsLabError], ...] = (*_AT_ONCE, *_IN_A_ROW, RateLimitError, EndpointUnreachableError)
_REASONS: Mapping[str, Reason] = {kind.__name__: kind.reason for kind in _NAMED}
