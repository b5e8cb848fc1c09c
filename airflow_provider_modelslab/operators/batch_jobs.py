"""The jobs of a batch operator's clips: one for each clip, or one for each segment of whole clips."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from airflow_provider_modelslab.jobs.batch_jobs import BatchJobs
from airflow_provider_modelslab.jobs.stretch import for_each_clip
from airflow_provider_modelslab.jobs.task_ledger import TaskCaller, attempt_of, policy_in_force
from airflow_provider_modelslab.jobs.whole_clip.batch import WholeClipBatch
from airflow_provider_modelslab.jobs.whole_clip.clip import WholeClip

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.batch.planning.plan import ClipPlan
    from airflow_provider_modelslab.batch.results.tracker import BatchTracker
    from airflow_provider_modelslab.budget.spending import Spending
    from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings
    from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator

__all__ = ["jobs_of_clips", "jobs_of_whole_clips"]


def jobs_of_clips(
    task: ModelsLabVideo2VideoBatchOperator,
    context: Context,
    tracker: BatchTracker,
    spending: Spending,
    todo: Sequence[ClipPlan],
) -> BatchJobs:
    """One job for each clip.

    :param todo: the clips, in the order in which they are likely to be submitted.
    """
    return BatchJobs(
        task.hook,
        tracker,
        policy_in_force(task.ledger_policy, context),
        attempt_of(context, retries=task.retries),
        TaskCaller(context, task, in_batch=True),
        task.timeout,
        task.check_input,
        for_each_clip(task.on_stretch),
        spending,
        todo,
        task.fallback,
        task.places.hooks,
        task.places.run_here,
    )


def jobs_of_whole_clips(
    task: ModelsLabVideo2VideoBatchOperator,
    context: Context,
    tracker: BatchTracker,
    spending: Spending,
    settings: WholeClipSettings,
    again: Mapping[str, Iterable[int]],
    in_flight: Iterable[ClipPlan],
) -> WholeClipBatch:
    """One job for each segment.

    :param again: see :class:`WholeClipBatch`, as the next one.
    :param in_flight: segments whose jobs run.
    """
    policy = policy_in_force(task.ledger_policy, context)
    attempt, caller = attempt_of(context, retries=task.retries), TaskCaller(context, task, in_batch=True)

    def prepare(clip: ClipPlan) -> WholeClip:
        return WholeClip(
            request=tracker.plan.request(clip),
            settings=settings,
            hook=task.hook,
            ledger=tracker.ledger(clip),
            ledgers=tracker.ledgers,
            destination=clip.destination,
            policy=policy,
            attempt=attempt,
            caller=caller,
            spending=spending,
            timeout=task.timeout,
            on_stretch=for_each_clip(task.on_stretch),
            known_source=clip.fingerprint.source,
            check_destination=False,  # done for all of them
        )

    return WholeClipBatch(tracker, prepare, again, in_flight)
