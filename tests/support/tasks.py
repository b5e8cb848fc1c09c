"""Running a task as Airflow's task runner, API server and triggerer do it, in one process and without a database."""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.bases.operator import ExecutorSafeguard

from tests.support.airflow_versions import decode_trigger_kwargs, deserialize, serialize

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.triggers.base import BaseTrigger

RUN_ID = "manual__2026-11-23T04:00:00+00:00"


@dataclass
class TaskInstance:
    """As much of the runtime task instance as operators and sensors look at."""

    dag_id: str = "restyling"
    task_id: str = "restyle"
    run_id: str = RUN_ID
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    first_reschedule: datetime | None = None
    dag_run: Any = field(default_factory=lambda: SimpleNamespace(conf={}))
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = through_serde(value)

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (task_ids, map_indexes) == (self.task_id, self.map_index), "tasks here read XComs of their own"
        return self.xcoms.get(key)

    def get_first_reschedule_date(self, context: object) -> datetime | None:
        return self.first_reschedule


def context_of(ti: TaskInstance | None = None, **params: Any) -> Context:
    """The context of a task instance; ``params`` are for templates."""
    ti = ti or TaskInstance()
    return cast("Context", {"ti": ti, "params": params, "dag_run": ti.dag_run, "run_id": ti.run_id})


def execute(task: BaseOperator, context: Context | None = None) -> Any:
    """The worker's part of a task: templates, then ``execute``."""
    context = context if context is not None else context_of()
    task.render_template_fields(context)
    return _as_the_task_runner(task, task.execute, context=context)


def resume(task: BaseOperator, deferred: TaskDeferred, event: Mapping[str, Any], context: Context | None = None) -> Any:
    """The worker's part after the trigger; ``task`` is a new operator, as it is in a new process."""
    context = context if context is not None else context_of()
    task.render_template_fields(context)
    kwargs = through_serde({**(deferred.kwargs or {}), "event": dict(event)})
    return _as_the_task_runner(
        task, task.resume_execution, next_method=deferred.method_name, next_kwargs=kwargs, context=context
    )


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


def in_the_triggerer(deferred: TaskDeferred) -> BaseTrigger:
    """The trigger that the triggerer makes of what the worker sent."""
    path, kwargs = deferred.trigger.serialize()
    decoded = {name: decode_trigger_kwargs(value) for name, value in through_serde(kwargs).items()}
    module, _, name = path.rpartition(".")
    trigger: BaseTrigger = getattr(importlib.import_module(module), name)(**decoded)
    return trigger


def event_of(trigger: BaseTrigger) -> dict[str, Any]:
    """Run a trigger to its end; its one event, as the triggerer sends it on."""
    return asyncio.run(aevent_of(trigger))


async def aevent_of(trigger: BaseTrigger) -> dict[str, Any]:
    """:func:`event_of` within a loop that runs already."""
    events = [event.payload async for event in trigger.run()]
    assert len(events) == 1
    payload: dict[str, Any] = json.loads(json.dumps(events[0], allow_nan=False))
    return payload


def through_serde(value: Any) -> Any:
    """A value as it comes out at the other end of an XCom, a deferral or a trigger's arguments."""
    return deserialize(json.loads(json.dumps(serialize(value), allow_nan=False)))


def _as_the_task_runner(task: BaseOperator, call: Callable[..., Any], **kwargs: Any) -> Any:
    """Calls of ``execute`` from elsewhere are refused by a safeguard, which the task runner tells of its task."""
    scope = contextvars.copy_context()
    scope.run(ExecutorSafeguard.tracker.set, task)
    return scope.run(call, **kwargs)
