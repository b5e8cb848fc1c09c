"""Notifies Airflow of a job that the endpoint confirms as done: adds an asset event and wakes the waiting task."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.compat import in_transaction
from airflow_provider_modelslab.plugins.webhook.asset_events import asset_uri, record_finished
from airflow_provider_modelslab.plugins.webhook.trigger_wakeup import run_id_of, wake

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.response import Answer
    from airflow_provider_modelslab.plugins.webhook.payload import Claim

__all__ = ["report", "wake_waiting"]

log = logging.getLogger(__name__)

_cannot_wake: list[str] = []
"""Why tasks of this Airflow version cannot be woken. Each reason is logged once; the triggers go on polling."""


def report(conn_id: str, claim: Claim, answer: Answer) -> None:
    """Add the asset event for a finished video; blocks."""
    if not isinstance(answer, Finished):
        return
    extra = {
        "job_id": claim.job_id,
        "conn_id": conn_id,
        "status": "finished",
        "links": len(answer.links),
        # Unverified: only the caller sends it, the endpoint's answer to a fetch does not contain it.
        "claimed_track_id": claim.track_id,
        "from_webhook": True,
    }
    uri = asset_uri(conn_id)
    if in_transaction(lambda session: record_finished(uri, extra, session)):
        log.info("Job %s of %s is done: an event for the asset %s", claim.job_id, conn_id, uri)


def wake_waiting(conn_id: str, claim: Claim, answer: Answer, *, everywhere: bool) -> bool:
    """Wake the tasks that wait for the job; blocks.

    :param everywhere: search all waiting tasks, not only those of the run that the claim names.
    :return: whether no further try is needed. ``True`` also where this Airflow version cannot wake tasks.
    """
    run_id = None if everywhere else run_id_of(claim.track_id)
    try:
        return in_transaction(lambda session: wake(conn_id, claim.job_id, answer, session, run_id=run_id))
    except (ImportError, AttributeError, TypeError) as error:
        # Airflow has no public interface to wake a task, so another version may do it differently.
        problem = f"{type(error).__name__}: {error}"
        if problem not in _cannot_wake:
            _cannot_wake.append(problem)
            log.warning("Webhooks cannot wake tasks in this version of Airflow. The tasks still poll: %s", problem)
        return True
