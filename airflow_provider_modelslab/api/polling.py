"""What to do after each look at a job: one decision object for the blocking wait, the trigger and the sensor.

It does no I/O and never sleeps. Times are wall-clock seconds since the epoch, so a deadline means the same in whichever
process goes on waiting after a restart.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from airflow_provider_modelslab.api.errors import JobTimeoutError, ModelsLabError, RateLimitError, Reason
from airflow_provider_modelslab.api.response import Answer, Failed, Finished

__all__ = ["Decision", "Done", "GiveUp", "JobPoller", "PollPolicy", "Wait"]


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """How often to look. All figures are seconds.

    :param min_interval: the shortest pause, and the first one when the endpoint gives no eta.
    :param max_interval: the longest pause; an eta longer than this is approached in pauses of this length.
    :param backoff: each pause is this many times the one before.
    :param jitter: share of a pause by which it is randomly shortened, 0 to 1, so that many jobs do not ask in step.
    :param not_found_grace: how long after the submission "Request not found" counts as "not there yet".
    :param lost_after: how many looks in a row have to say "Request not found", later than that, before the job counts
        as lost.
    :param warn_after: consecutive failed looks after which the log line becomes a warning.
    """

    min_interval: float = 2.0
    max_interval: float = 30.0
    backoff: float = 1.5
    jitter: float = 0.2
    not_found_grace: float = 60.0
    lost_after: int = 1
    warn_after: int = 5

    def __post_init__(self) -> None:
        if not 0 < self.min_interval <= self.max_interval:
            raise ValueError(
                f"Poll intervals need 0 < min <= max; got min {self.min_interval} s, max {self.max_interval} s"
            )
        if self.backoff < 1 or not 0 <= self.jitter < 1:
            raise ValueError(f"Need backoff >= 1 and 0 <= jitter < 1; got backoff {self.backoff}, jitter {self.jitter}")

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, for trigger arguments."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any] | None) -> PollPolicy:
        """The inverse; keys of other versions are ignored, so a rolling upgrade keeps waiting."""
        known = cls.__dataclass_fields__
        return cls(**{name: value for name, value in (data or {}).items() if name in known})


@dataclass(frozen=True, slots=True)
class Wait:
    """Look again after ``seconds``.

    :param note: what to write in the log, when there is something to say.
    :param warn: whether the note is a warning.
    """

    seconds: float
    note: str = ""
    warn: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """The job is done."""

    answer: Finished


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Waiting on is of no use; raise ``error``."""

    error: ModelsLabError


Decision = Wait | Done | GiveUp

_FINAL = {Reason.AUTHENTICATION, Reason.PAYMENT, Reason.PERMISSION, Reason.JOB_FAILED, Reason.VALIDATION}


class JobPoller:
    """Decides after each answer or error; a failing look never ends the wait for a paid job before its deadline.

    :param job_id: the job, for messages.
    :param submitted_at: when it was submitted (seconds since the epoch); the grace for "not found" counts from here.
    :param deadline: when to give up (seconds since the epoch).
    :param eta: the endpoint's own estimate at submission, in seconds.
    """

    def __init__(
        self,
        job_id: str,
        *,
        submitted_at: float,
        deadline: float,
        eta: float | None = None,
        policy: PollPolicy | None = None,
        clock: Callable[[], float] = time.time,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.job_id = job_id
        self.submitted_at = submitted_at
        self.deadline = deadline
        self.policy = policy or PollPolicy()
        self._eta_at = submitted_at + eta if eta and eta > 0 else None
        self._interval = self.policy.min_interval
        self._failures = 0
        self._not_found = 0
        self._clock = clock
        self._uniform = uniform

    def first_delay(self) -> float:
        """Seconds before the first look: until the eta, within the policy's bounds and the deadline."""
        return self._pause(grow=False)

    def on_answer(self, answer: Answer) -> Decision:
        """What to do after an answer to a fetch."""
        if isinstance(answer, Finished):
            return Done(answer)
        if isinstance(answer, Failed):
            return self.on_error(answer.to_error(self.job_id))
        self._failures = self._not_found = 0
        if answer.eta is not None and answer.eta > 0:
            self._eta_at = self._clock() + answer.eta
        note = "" if answer.status in {"processing", "queued", "pending"} else f"status {answer.status!r}, asking again"
        return self._wait(self._pause(), note)

    def on_error(self, error: ModelsLabError) -> Decision:
        """What to do after a look that failed."""
        error.job_id = error.job_id or self.job_id
        if error.reason in _FINAL:
            return GiveUp(error)
        if error.reason is Reason.JOB_LOST and self._clock() - self.submitted_at > self.policy.not_found_grace:
            self._not_found += 1
            if self._not_found >= self.policy.lost_after:
                return GiveUp(error)
        self._failures += 1
        pause = self._pause()
        if isinstance(error, RateLimitError) and error.retry_after is not None:
            pause = max(pause, error.retry_after + self._uniform(0, self.policy.min_interval))
        return self._wait(
            pause,
            f"look number {self._failures} in a row failed ({error.reason}): {error.message}",
            warn=self._failures >= self.policy.warn_after,
        )

    def _wait(self, pause: float, note: str, *, warn: bool = False) -> Decision:
        left = self.deadline - self._clock()
        if left <= 0:
            return GiveUp(self._timed_out(note))
        return Wait(min(pause, left), note, warn)

    def _timed_out(self, note: str) -> JobTimeoutError:
        waited = self.deadline - self.submitted_at
        return JobTimeoutError(
            f"The job was not done {waited:.0f} s after its submission{f' ({note})' if note else ''}. It may still be "
            "running and billed at ModelsLab, which has no cancel; when it ends, its result can be fetched by this id "
            "for 24 hours",
            job_id=self.job_id,
        )

    def _pause(self, *, grow: bool = True) -> float:
        """The next pause: towards the eta while it lies ahead, then growing from the shortest to the longest."""
        until_eta = self._eta_at - self._clock() if self._eta_at is not None else 0.0
        if until_eta > self.policy.min_interval:
            pause = min(until_eta, self.policy.max_interval)
        else:
            pause = self._interval
            if grow:
                self._interval = min(self._interval * self.policy.backoff, self.policy.max_interval)
        jittered = pause * (1 - self._uniform(0, self.policy.jitter))
        return max(0.0, min(jittered, self.deadline - self._clock()))
