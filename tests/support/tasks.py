"""Running a task in a test, with the defaults of this suite; see :mod:`airflow_provider_modelslab.testing.tasks`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_provider_modelslab.testing import tasks
from airflow_provider_modelslab.testing.tasks import make_trigger as in_the_triggerer
from airflow_provider_modelslab.testing.tasks import through_serialization as through_serde

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.triggers.base import BaseTrigger

__all__ = [
    "RUN_ID",
    "TaskInstance",
    "aevent_of",
    "context_of",
    "deferral_of",
    "event_of",
    "execute",
    "in_the_triggerer",
    "resume",
    "run",
    "through_serde",
    "to_the_end",
]

RUN_ID = "manual__2026-11-23T04:00:00+00:00"


@dataclass
class TaskInstance(tasks.TaskInstance):
    """The task instance of most tests; it reads XComs of its own only."""

    dag_id: str = "restyling"
    task_id: str = "restyle"
    run_id: str = RUN_ID

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index), "tasks here read XComs of their own"
        return self.xcoms.get(key)


def context_of(ti: TaskInstance | None = None, **params: Any) -> Context:
    """The context of a task instance; ``params`` are for templates."""
    ti = ti or TaskInstance()
    return cast("Context", {"ti": ti, "params": params, "dag_run": ti.dag_run, "run_id": ti.run_id})


def execute(task: BaseOperator, context: Context | None = None) -> Any:
    """The worker's part of a task: templates, then ``execute``."""
    return tasks.execute(task, context if context is not None else context_of())


def resume(task: BaseOperator, deferred: TaskDeferred, event: Mapping[str, Any], context: Context | None = None) -> Any:
    """The worker's part after the trigger; ``task`` is a new operator, as it is in a new process."""
    return tasks.resume(task, deferred, event, context if context is not None else context_of())


def deferral_of(task: BaseOperator, context: Context | None = None) -> TaskDeferred:
    """Execute a task that is expected to defer itself."""
    try:
        result = execute(task, context)
    except TaskDeferred as deferred:
        return deferred
    raise AssertionError(f"the task did not defer itself; it returned {result!r}")


def run(make: Callable[[], BaseOperator], context: Context | None = None) -> Any:
    """A task from its start to its end, trigger included; ``make`` makes the operator as each parse of the Dag does."""
    try:
        return execute(make(), context)
    except TaskDeferred as deferred:
        return resume(make(), deferred, event_of(in_the_triggerer(deferred)), context)


def to_the_end(make: Callable[[], BaseOperator], deferred: TaskDeferred, context: Context | None = None) -> Any:
    """The rest of a task that defers itself any number of times, as batches do; pytest's timeout is the limit."""
    while True:
        try:
            return resume(make(), deferred, event_of(in_the_triggerer(deferred)), context)
        except TaskDeferred as again:
            deferred = again


def event_of(trigger: BaseTrigger) -> dict[str, Any]:
    """Run a trigger to its end; its one event, as the triggerer sends it on."""
    return asyncio.run(aevent_of(trigger))


async def aevent_of(trigger: BaseTrigger) -> dict[str, Any]:
    """:func:`event_of` within a loop that runs already."""
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    payload: dict[str, Any] = json.loads(json.dumps(events[0], allow_nan=False))
    return payload
