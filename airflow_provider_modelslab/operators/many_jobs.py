"""What tasks with many jobs do while these run: wait for them in the triggerer, and leave them when killed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from airflow_provider_modelslab.jobs.timing import deferral_timeout

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.poll_policy import PollPolicy
    from airflow_provider_modelslab.batch.running.protocols import InFlight
    from airflow_provider_modelslab.batch.running.runner import BatchRunner
    from airflow_provider_modelslab.batch.running.window import Window

__all__ = ["defer_for_jobs", "leave_jobs"]

Clip = TypeVar("Clip")

_DEFER_AFTER_FIRST = 30.0
"""Seconds that the triggerer goes on collecting once a job has ended: a resumed task costs a process of its own."""

_LONGEST_WAIT = 4 * 3600.0
"""Seconds after which what has ended is landed in any case: results live for 24 hours."""


def defer_for_jobs(
    task: Any,
    left: Sequence[InFlight[Any]],
    deadlines: Mapping[tuple[str, str], float],
    *,
    more: bool,
    resume_threshold: float,
    window: Window,
    policy: PollPolicy,
    progress: str,
    method_name: str,
    kwargs: dict[str, Any],
) -> NoReturn:
    """Defer until enough jobs have ended, or until the endpoint may accept jobs again.

    :param task: the operator.
    :param left: the jobs that run; perhaps none, where all submits are refused.
    :param deadlines: of these, by key, in seconds since the epoch.
    :param more: whether jobs are to be submitted once there is room for them.
    :param resume_threshold: share of the jobs that have to end then.
    :param window: how long its next submit is to be put off.
    :param progress: what the log says first.
    :param method_name: the method that Airflow resumes the task with, and ``kwargs`` its arguments.
    """
    from airflow_provider_modelslab.triggers.batch import ModelsLabBatchTrigger

    jobs: list[dict[str, Any]] = [
        {
            "job_id": job.job_id,
            "submitted_at": job.submitted_at or time.time(),
            "deadline": deadlines[job.key],
            "eta": job.eta,
            **({} if job.conn_id == task.modelslab_conn_id else {"conn_id": job.conn_id}),
        }
        for job in (item.submission.job for item in left)
    ]
    wake_at = max(1, math.ceil(len(left) * resume_threshold)) if more else max(1, len(left))
    if jobs:
        longest = max(0.0, max(job["deadline"] for job in jobs) - time.time()) + task.max_poll_interval
        task.log.info("%s. Waiting in the triggerer until %d of %d jobs end", progress, wake_at, len(left))
    else:
        longest = window.pause()
        task.log.info("%s. The endpoint accepts no jobs now; the next submit is in %.0f s", progress, longest)
    longest = min(_LONGEST_WAIT, longest)
    task.defer(
        trigger=ModelsLabBatchTrigger(
            jobs,
            modelslab_conn_id=task.modelslab_conn_id,
            wake_at=wake_at,
            defer_after=_DEFER_AFTER_FIRST if more else _LONGEST_WAIT,
            max_wait=longest,
            poll_policy=policy.to_dict(),
        ),
        method_name=method_name,
        kwargs=kwargs,
        timeout=deferral_timeout(longest + 120, task.execution_timeout),
    )
    raise AssertionError("defer() raises")


def leave_jobs(task: Any, runner: BatchRunner[Clip], abandon: Callable[[InFlight[Clip]], object]) -> None:
    """What ``on_kill`` does: submit nothing more, and record that the jobs are left. They go on, and are billed.

    :param task: the operator.
    :param abandon: records that a job was left; called in threads.
    """
    runner.interrupt(InterruptedError("The task was killed. A retry continues with the jobs that are paid for"))
    in_flight = list(runner.waiting.values())
    task.log.warning(
        "The task was killed while %d jobs run. They keep running at ModelsLab and are billed. Clear the task to "
        "continue with them",
        len(in_flight),
    )
    with ThreadPoolExecutor(16) as pool:
        for item in in_flight:
            pool.submit(abandon, item)
