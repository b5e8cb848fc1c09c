"""What holds for every job at the endpoint, whether a task has one of them or a thousand."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import JobLostError, ModelsLabError
from airflow_provider_modelslab.api.poll_policy import PollPolicy
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.inputs import PreparedInput
    from airflow_provider_modelslab.storage.manifest import Job

__all__ = ["deadline_of", "deferral_timeout", "has_outlived_its_result", "poll_policy", "readable_input", "submit"]


def readable_input(
    request: Video2VideoRequest, hook: ModelsLabHook, output: S3Uri | None, *, timeout: float, check_links: bool
) -> PreparedInput:
    """Check the clip, and turn it into a link that the endpoint can read for long enough.

    :param output: where results go; local files are staged in its bucket where the connection names none.
    :param timeout: seconds that the job may take.
    :param check_links: whether http(s) links are looked at from here.
    :raises ModelsLabError: see :func:`~airflow_provider_modelslab.storage.inputs.prepare_input`.
    """
    from airflow_provider_modelslab.storage.inputs import prepare_input

    profile = hook.s3_profile
    return prepare_input(
        request.init_video,
        hook.get_s3_client,
        staging=profile.uri("inputs") if profile.bucket else output and S3Uri(output.bucket, "inputs"),
        # The endpoint reads the clip when the job leaves the queue, which may be as late as the deadline.
        expires_in=int(timeout) + 3600,
        check_links=check_links,
    )


def submit(
    hook: ModelsLabHook, request: Video2VideoRequest, clip: PreparedInput, track_id: str
) -> tuple[Job, Finished | None]:
    """Submit a job once: the job, and the result's links where the answer had them already."""
    from airflow_provider_modelslab.api.response import Finished

    # Nothing is logged here: in a process that lost its supervisor Airflow's logger raises, and the id would be lost
    # before the ledger has it.
    sent = request.model_copy(update={"init_video": clip.url, "track_id": track_id})
    job, answer = hook.submit(sent, source=clip.source)
    return job, answer if isinstance(answer, Finished) else None


def poll_policy(min_interval: float, max_interval: float) -> PollPolicy:
    """How often a job is looked at.

    :param min_interval: seconds of the shortest pause; ``max_interval`` of the longest.
    :raises RequestValidationError: for intervals that make no sense.
    """
    # A lost job is paid for anew, and a single "not found", of a server that has just restarted, is no proof.
    return PollPolicy(min_interval=min_interval, max_interval=max_interval, lost_after=3)


def deadline_of(job: Job, timeout: float) -> float:
    """When a job is given up, in seconds since the epoch: so many seconds after its submission.

    In a later try that moment may have passed; somebody decided to wait once more, so it gets as long from now.
    """
    now = time.time()
    deadline = (job.submitted_at or now) + timeout
    return deadline if deadline > now else now + timeout


def has_outlived_its_result(job: Job, error: ModelsLabError) -> bool:
    """Whether a job is lost because its result was left for longer than the vendor keeps it."""
    from airflow_provider_modelslab.storage.manifest import LINK_LIFETIME

    return isinstance(error, JobLostError) and time.time() - (job.submitted_at or 0) > LINK_LIFETIME.total_seconds()


def deferral_timeout(seconds: float, execution_timeout: timedelta | None) -> timedelta:
    """Airflow's time-out for a deferred task.

    :param seconds: later than the trigger's own deadline, whose event says more than Airflow's time-out.
    """
    left = timedelta(seconds=seconds)
    return min(execution_timeout, left) if execution_timeout else left
