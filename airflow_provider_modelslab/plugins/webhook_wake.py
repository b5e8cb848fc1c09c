"""Waking the task that waits for a job: it gets the very event that its trigger would send, only earlier.

This uses what Airflow's triggerer uses itself (``Trigger.submit_event``). It touches deferred task instances alone, so
whoever comes second, the triggerer or the webhook, changes nothing. The triggerer stops the trigger by itself within a
second or so, since no task needs it any more.

A task is left alone for ``[modelslab] min_deferral`` after it has deferred; ``triggers.settling`` says why.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.triggers.settling import min_deferral

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_modelslab.api.response import Answer

__all__ = ["run_id_of", "wake"]

log = logging.getLogger(__name__)

_TRIGGER = "airflow_provider_modelslab.triggers.video2video.ModelsLabVideo2VideoTrigger"

_MOST_LOOKED_AT = 500
"""Waiting tasks whose triggers are read when the run is unknown; each is decrypted, at some 0.1 ms."""


def run_id_of(track_id: str | None) -> str | None:
    """The run in a ``track_id`` of ours (``dag.task/run/submission1``); ``None`` for one that a Dag chose itself."""
    parts = (track_id or "").split("/")
    return parts[1] if len(parts) >= 3 and parts[-1].startswith("submission") else None


def wake(conn_id: str, job_id: str, answer: Answer, session: Session, *, run_id: str | None) -> bool:
    """Resume the deferred tasks that wait for exactly this job with this connection.

    :param answer: what the endpoint says of the job.
    :param run_id: the only run to look at; ``None`` for all.
    :return: whether that is all: ``False`` when nobody waits yet, or somebody has only just begun to.
    """
    before = datetime.now(UTC) - timedelta(seconds=min_deferral())
    waiting = _waiting(conn_id, job_id, session, run_id)
    settled = [(trigger_id, kwargs) for trigger_id, since, kwargs in waiting if since <= before]
    for trigger_id, kwargs in settled:
        _wake_one(trigger_id, kwargs, answer, session)
    return bool(waiting) and len(settled) == len(waiting)


def _waiting(
    conn_id: str, job_id: str, session: Session, run_id: str | None
) -> list[tuple[int, datetime, dict[str, Any]]]:
    """The triggers of deferred tasks that wait for the job: id, since when, and their arguments."""
    import sqlalchemy as sa
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.utils.state import TaskInstanceState
    from sqlalchemy.orm import lazyload

    query = (
        sa.select(Trigger)
        .join(TaskInstance, TaskInstance.trigger_id == Trigger.id)
        .where(Trigger.classpath == _TRIGGER, TaskInstance.state == TaskInstanceState.DEFERRED)
        .options(lazyload(Trigger.task_instance))
        .order_by(Trigger.id.desc())
        .limit(_MOST_LOOKED_AT)
    )
    if run_id is not None:
        query = query.where(TaskInstance.run_id == run_id)
    known = ((trigger.id, trigger.created_date, trigger.kwargs) for trigger in session.scalars(query))
    return [
        (trigger_id, since, kwargs)
        for trigger_id, since, kwargs in known
        if kwargs.get("job_id") == job_id and kwargs.get("modelslab_conn_id") == conn_id
    ]


def _wake_one(trigger_id: int, kwargs: dict[str, Any], answer: Answer, session: Session) -> None:
    import sqlalchemy as sa
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.triggers.base import TriggerEvent
    from airflow.utils.state import TaskInstanceState

    from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger

    payload = ModelsLabVideo2VideoTrigger(**kwargs).event_for(answer)
    if payload is None:
        return
    # Locked first, so that no other process changes it between our look and our write. SQLite locks as a whole.
    still = (
        sa.select(TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.run_id)
        .where(TaskInstance.trigger_id == trigger_id, TaskInstance.state == TaskInstanceState.DEFERRED)
        .with_for_update()
    )
    waiting = session.execute(still).all()
    if not waiting:
        return
    Trigger.submit_event(trigger_id, TriggerEvent(payload), session=session)
    for dag_id, task_id, run in waiting:
        log.info("Job %s: woken by webhook: %s of %s in %s", kwargs["job_id"], task_id, dag_id, run)
