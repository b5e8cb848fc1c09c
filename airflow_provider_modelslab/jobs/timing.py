"""Poll intervals and deadlines of jobs at the endpoint. Operators import this while a Dag is parsed."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import JobLostError, ModelsLabError
from airflow_provider_modelslab.api.poll_policy import PollPolicy

if TYPE_CHECKING:
    from airflow_provider_modelslab.storage.result_manifest import Job

__all__ = ["deadline_of", "deferral_timeout", "has_outlived_its_result", "poll_policy"]


def poll_policy(min_interval: float, max_interval: float) -> PollPolicy:
    """How often a job is polled.

    :param min_interval: seconds of the shortest pause; ``max_interval`` of the longest.
    :raises InvalidRequestError: for intervals that make no sense.
    """
    # A lost job is paid for anew, and a single "not found", of a server that has just restarted, is no proof.
    return PollPolicy(min_interval=min_interval, max_interval=max_interval, lost_after=3)


def deadline_of(job: Job, timeout: float) -> float:
    """When waiting for a job ends, in seconds since the epoch: so many seconds after its submission.

    In a later try that moment may have passed; somebody decided to wait once more, so it gets as long from now.
    """
    now = time.time()
    deadline = (job.submitted_at or now) + timeout
    return deadline if deadline > now else now + timeout


def has_outlived_its_result(job: Job, error: ModelsLabError) -> bool:
    """Whether a job is lost because its result was left for longer than the vendor keeps it."""
    from airflow_provider_modelslab.storage.result_manifest import LINK_LIFETIME

    return isinstance(error, JobLostError) and time.time() - (job.submitted_at or 0) > LINK_LIFETIME.total_seconds()


def deferral_timeout(seconds: float, execution_timeout: timedelta | None) -> timedelta:
    """Airflow's time-out for a deferred task.

    :param seconds: later than the trigger's own deadline, whose event says more than Airflow's time-out.
    """
    left = timedelta(seconds=seconds)
    return min(execution_timeout, left) if execution_timeout else left
