"""How often a job is polled. Dags load this module and not ``api.polling``, which takes 5 ms of CPU time to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["PollPolicy"]


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How often to poll. Times are seconds.

    :param min_interval: the shortest pause, and the first one when the endpoint gives no eta.
    :param max_interval: the longest pause; an eta longer than this is approached in pauses of this length.
    :param backoff: each pause is this many times the one before.
    :param jitter: share of a pause by which it is randomly shortened, 0 to 1, so that many jobs do not poll in step.
    :param not_found_grace: how long after the submission "Request not found" counts as "not there yet".
    :param lost_after: how many polls in a row, later than that, have to be answered "Request not found" before the job
        counts as lost.
    :param failed_after: seconds for which every poll has to be answered with an error in unknown words, or with a job
        that is done and names no result, before the job counts as failed; at most half of the time that there is.
    :param warn_after: consecutive failed polls after which the log line becomes a warning.
    """

    min_interval: float = 2.0
    max_interval: float = 30.0
    backoff: float = 1.5
    jitter: float = 0.2
    not_found_grace: float = 60.0
    lost_after: int = 1
    failed_after: float = 300.0
    warn_after: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.min_interval <= self.max_interval:
            raise ValueError(
                f"Poll intervals must be 0 < min <= max; got min {self.min_interval} s, max {self.max_interval} s"
            )
        if self.backoff < 1 or not 0 <= self.jitter < 1:
            raise ValueError(
                f"backoff must be >= 1 and jitter 0 <= jitter < 1; got backoff {self.backoff}, jitter {self.jitter}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, for trigger arguments."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> PollPolicy:
        """The inverse; keys of other versions are ignored, so a rolling upgrade keeps waiting."""
        known = cls.__dataclass_fields__
        return cls(**{name: value for name, value in (data or {}).items() if name in known})
