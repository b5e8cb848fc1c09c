"""What it means for the others that one clip was refused: nothing, or that the batch is given up."""

from __future__ import annotations

from airflow_provider_modelslab.api.errors import ErrorCode, ModelsLabError, Scope, error_class

__all__ = ["CircuitBreaker", "cause_of", "describe_error"]


class CircuitBreaker:
    """Tells one clip's own trouble from everybody's."""

    def __init__(self) -> None:
        self._code: ErrorCode | None = None
        self._count = 0

    def accepted(self) -> None:
        """A clip was submitted."""
        self._code, self._count = None, 0

    def stopping(self, error: Exception) -> str | None:
        """Why the batch is given up for an error; ``None`` where it is the clip's own."""
        known = error if isinstance(error, ModelsLabError) else None
        code = known.code if known else None
        self._count = self._count + 1 if code is self._code else 1
        self._code = code
        if known is None:
            return None
        if known.scope is Scope.CLIP or _came_for_one_clip(known):
            return f"{describe_error(known)} ({self._count} in a row)" if self._count >= known.batch_limit else None
        return describe_error(known)


def _came_for_one_clip(error: ModelsLabError) -> bool:
    """Whether a connection is of no use, to which the batch came only because of one clip's failure elsewhere.

    The others have the place before it.
    """
    earlier = (error.chain or {}).get("fallback_from", ())
    return error.scope is Scope.CONNECTION and any(error_class(one["code"]).scope is Scope.CLIP for one in earlier)


def describe_error(error: ModelsLabError) -> str:
    """An error as the text for which a batch is given up; it goes through deferrals."""
    return f"{error.code}: {error}"


def cause_of(stopped: str | None) -> ErrorCode | None:
    """The code in such a text; ``None`` where it was no error that ended the batch."""
    try:
        return ErrorCode((stopped or "").partition(":")[0])
    except ValueError:
        return None
