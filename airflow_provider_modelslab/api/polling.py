"""What to do after each poll of a job: one decision object for the blocking wait, the triggers, the sensor and the CLI.

It does no I/O and never sleeps. Times are wall-clock seconds since the epoch, so a deadline means the same in whichever
process goes on waiting after a restart.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_modelslab.api.errors import (
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    ModelsLabError,
    RateLimitError,
)
from airflow_provider_modelslab.api.poll_policy import PollPolicy
from airflow_provider_modelslab.api.response import Answer, Failed, Finished, Processing

__all__ = ["Decision", "Done", "GiveUp", "JobPoller", "PollPolicy", "Wait"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Poll again after ``seconds``.

    :param note: a line for the log; empty where nothing is out of the ordinary.
    :param warn: whether the note is a warning.
    :param answer: the answer of the poll; ``None`` before the first one and after one that failed.
    """

    seconds: float
    note: str = ""
    warn: bool = False
    answer: Processing | None = None


@dataclass(frozen=True, slots=True)
class Done:
    """The job is done."""

    answer: Finished


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Stop polling and raise ``error``."""

    error: ModelsLabError


Decision = Wait | Done | GiveUp

_LEAST_UNCLEAR = 5  # polls, before unclear answers count as a failed job
_EARLIEST = 0.25  # share of the shortest pause after which a job with an eta is polled at the earliest


class JobPoller:
    """Decides after each answer or error; a failed poll never ends the wait for a paid job before its deadline.

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
        self._unclear = 0
        self._unclear_since: float | None = None
        self._began = clock()
        self._clock = clock
        self._uniform = uniform

    def first_delay(self) -> float:
        """Seconds before the first poll: until the eta, within the policy's bounds and the deadline.

        An eta may shorten it to a quarter of the shortest pause: a job that is done keeps its place in the window of a
        batch until it is polled.
        """
        if self._eta_at is None:
            return self._pause(self.policy.min_interval)
        return self._pause(max(self._eta_at - self._clock(), self.policy.min_interval * _EARLIEST))

    def on_answer(self, answer: Answer) -> Decision:
        """What to do after an answer to a fetch."""
        if isinstance(answer, Finished):
            return Done(answer)
        if isinstance(answer, Failed):
            return self._on_unclear(answer) if answer.is_unclear else self.on_error(answer.to_error(self.job_id))
        self._failures = self._not_found = self._unclear = 0
        self._unclear_since = None
        if answer.eta is not None and answer.eta > 0:
            self._eta_at = self._clock() + answer.eta
        note = "" if answer.status in {"processing", "queued", "pending"} else f"unknown status {answer.status!r}"
        return self._wait(self._next_pause(), note, answer=answer)

    def on_error(self, error: ModelsLabError) -> Decision:
        """What to do after a poll that failed."""
        error.job_id = error.job_id or self.job_id
        if isinstance(error, JobLostError):
            if self._is_lost():
                return GiveUp(error)
        elif error.ends_wait:
            return GiveUp(error)
        self._failures += 1
        pause = self._next_pause()
        if isinstance(error, RateLimitError) and error.retry_after is not None:
            pause = max(pause, error.retry_after + self._uniform(0, self.policy.min_interval))
        return self._wait(
            pause,
            f"{self._failures} failed poll(s) in a row ({error.code}): {error.message}",
            warn=self._failures >= self.policy.warn_after or isinstance(error, JobLostError),
        )

    def _on_unclear(self, answer: Failed) -> Decision:
        """An answer that does not tell what became of the job ends the wait only when it is all there is for long."""
        now = self._clock()
        self._unclear_since = now if self._unclear_since is None else self._unclear_since
        self._failures += 1
        self._unclear += 1
        lasted = now - self._unclear_since
        enough = min(self.policy.failed_after, max(self.deadline - self._began, 0.0) / 2)
        if self._unclear >= _LEAST_UNCLEAR and lasted >= enough:
            return GiveUp(
                JobFailedError(
                    f"For {lasted:.0f} s, each of the last {self._unclear} polls returned: "
                    f"{answer.message}. The job is now treated as failed: a retry pays for a new job",
                    job_id=self.job_id,
                    http_status=answer.http_status,
                )
            )
        note = f"{self._unclear} unclear response(s): {answer.message}"
        return self._wait(self._next_pause(), note, warn=self._failures >= self.policy.warn_after)

    def _is_lost(self) -> bool:
        """Whether "Request not found" is believed: not right after the submission, and not the first time."""
        if self._clock() - self.submitted_at > self.policy.not_found_grace:
            self._not_found += 1
        return self._not_found >= self.policy.lost_after

    def _wait(self, pause: float, note: str, *, warn: bool = False, answer: Processing | None = None) -> Decision:
        left = self.deadline - self._clock()
        if left <= 0:
            return GiveUp(self._timed_out(note))
        return Wait(min(pause, left), note, warn, answer)

    def _timed_out(self, note: str) -> JobTimeoutError:
        waited = self.deadline - self.submitted_at
        return JobTimeoutError(
            f"The job was not done {waited:.0f} s after its submission{f' ({note})' if note else ''}. It may still be "
            "running at ModelsLab, and is billed; it cannot be cancelled. A retry waits for it again and pays nothing. "
            "After the job ends, its result can be landed for 24 hours",
            job_id=self.job_id,
        )

    def _next_pause(self) -> float:
        """The next pause: towards the eta while it lies ahead, then growing from the shortest to the longest."""
        until_eta = self._eta_at - self._clock() if self._eta_at is not None else 0.0
        if until_eta > self.policy.min_interval:
            return self._pause(until_eta)
        pause = self._interval
        self._interval = min(self._interval * self.policy.backoff, self.policy.max_interval)
        return self._pause(pause)

    def _pause(self, seconds: float) -> float:
        """A pause, at most the longest, shortened at random, and not beyond the deadline."""
        jittered = min(seconds, self.policy.max_interval) * (1 - self._uniform(0, self.policy.jitter))
        return max(0.0, min(jittered, self.deadline - self._clock()))
