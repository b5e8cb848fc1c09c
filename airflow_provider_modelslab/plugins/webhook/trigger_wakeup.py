"""Wakes the task that waits for a job with the same event that its trigger would send, only earlier.

This uses the function of Airflow's triggerer (``Trigger.submit_event``), which changes deferred task instances only. So
the second of the two, triggerer or webhook, has no effect. The triggerer stops the trigger within about a second, since
no task needs it any more.

A task is not woken within ``[modelslab] min_deferral`` after it has deferred; ``triggers.minimum_wait`` says why.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_provider_modelslab.compat import WaitingTask, find_waiting, send_event
from airflow_provider_modelslab.triggers.minimum_wait import min_deferral

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_modelslab.api.response import Answer

__all__ = ["run_id_of", "wake"]

log = logging.getLogger(__name__)

_TRIGGER = "airflow_provider_modelslab.triggers.video2video.ModelsLabVideo2VideoTrigger"

_MAX_WAITING = 500
"""Waiting tasks, at most, whose triggers are read when the run is unknown; decrypting one takes some 0.1 ms."""


def run_id_of(track_id: str | None) -> str | None:
    """The run in a ``track_id`` of this provider (``dag.task/run/submission1``); ``None`` for one set in the Dag."""
    parts = (track_id or "").split("/")
    return parts[1] if len(parts) >= 3 and parts[-1].startswith("submission") else None


def wake(conn_id: str, job_id: str, answer: Answer, session: Session, *, run_id: str | None) -> bool:
    """Resume the deferred tasks that wait for exactly this job with this connection.

    :param answer: what the endpoint says of the job.
    :param run_id: search this run only; ``None`` for all.
    :return: whether no further try is needed: ``False`` when no task waits yet, or one has begun to wait just now.
    """
    before = datetime.now(UTC) - timedelta(seconds=min_deferral())
    waiting = [
        task
        for task in find_waiting(session, _TRIGGER, run_id=run_id, limit=_MAX_WAITING)
        if task.kwargs.get("job_id") == job_id and task.kwargs.get("modelslab_conn_id") == conn_id
    ]
    ready = [task for task in waiting if task.since <= before]
    for task in ready:
        _wake_one(task, answer, session)
    return bool(waiting) and len(ready) == len(waiting)


def _wake_one(task: WaitingTask, answer: Answer, session: Session) -> None:
    from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger

    payload = ModelsLabVideo2VideoTrigger(**task.kwargs).event_for(answer)
    if payload is None:
        return
    for dag_id, task_id, run in send_event(session, task.trigger_id, payload):
        log.info("Job %s: woken by webhook: %s of %s in %s", task.kwargs["job_id"], task_id, dag_id, run)
