"""Telling Airflow of a job that the endpoint says is done: an asset event, and the task that waits for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.compat import in_transaction
from airflow_provider_modelslab.plugins.webhook.asset_events import asset_uri, note_finished
from airflow_provider_modelslab.plugins.webhook.trigger_wakeup import run_id_of, wake

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.response import Answer
    from airflow_provider_modelslab.plugins.webhook.payload import Claim

__all__ = ["tell", "wake_waiting"]

log = logging.getLogger(__name__)

_cannot_wake: list[str] = []
"""Why this Airflow's tasks cannot be woken, said once; they go on polling."""


def tell(conn_id: str, claim: Claim, answer: Answer) -> None:
    """Add the asset's event for a video that is ready; blocks."""
    if not isinstance(answer, Finished):
        return
    extra = {
        "job_id": claim.job_id,
        "conn_id": conn_id,
        "status": "finished",
        "links": len(answer.links),
        # Said by the caller, and by nobody else: the endpoint's answer to a fetch does not repeat it.
        "claimed_track_id": claim.track_id,
        "from_webhook": True,
    }
    uri = asset_uri(conn_id)
    if in_transaction(lambda session: note_finished(uri, extra, session)):
        log.info("Job %s of %s is done: an event for the asset %s", claim.job_id, conn_id, uri)


def wake_waiting(conn_id: str, claim: Claim, answer: Answer, *, everywhere: bool) -> bool:
    """Wake who waits for the job; blocks.

    :param everywhere: look at all waiting tasks, not only at those of the run that the claim names.
    :return: whether that is settled. Where this Airflow cannot do it, it is: its tasks go on polling.
    """
    run_id = None if everywhere else run_id_of(claim.track_id)
    try:
        return in_transaction(lambda session: wake(conn_id, claim.job_id, answer, session, run_id=run_id))
    except (ImportError, AttributeError, TypeError) as error:
        # What wakes a task is no public interface of Airflow, so a version may do it in another way.
        problem = f"{type(error).__name__}: {error}"
        if problem not in _cannot_wake:
            _cannot_wake.append(problem)
            log.warning("Tasks of this version of Airflow cannot be woken early, they go on polling: %s", problem)
        return True
