"""Runs a task as Airflow's task runner and triggerer do, in this process: no scheduler, no database, no executor.

Everything that goes from one of Airflow's processes to another (XComs, a trigger's arguments, its event) goes through
Airflow's serialisation and JSON here too.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_modelslab import compat

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskDeferred
    from airflow.sdk import BaseOperator, Context
    from airflow.triggers.base import BaseTrigger

__all__ = ["TaskInstance", "execute", "first_event", "make_trigger", "resume", "through_serialization"]


@dataclass
class TaskInstance:
    """As much of the runtime task instance as operators and sensors use.

    :param map_index: -1 where the task is not mapped.
    :param try_number: 1 for the first try.
    :param max_tries: how many retries the task has.
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    first_reschedule: datetime | None = None
    dag_run: Any = field(default_factory=lambda: SimpleNamespace(conf={}))
    xcoms: dict[str, Any] = field(default_factory=dict)

    def xcom_push(self, key: str, value: Any) -> None:
        """Store an XCom of this task instance.

        :raises TypeError: for a value that Airflow cannot store.
        """
        self.xcoms[key] = through_serialization(value)

    def get_first_reschedule_date(self, context: object) -> datetime | None:
        """When a sensor was first rescheduled in this try."""
        return self.first_reschedule


def _leave(task: BaseOperator) -> None:
    """Change nothing."""


def execute(task: BaseOperator, context: Context, *, adjust: Callable[[BaseOperator], None] = _leave) -> Any:
    """The worker's part of a task: templates, then ``execute``.

    :param adjust: called with the rendered operator, before it runs.
    :raises TaskDeferred: when the task defers itself.
    """
    ready = _rendered(task, context)
    adjust(ready)
    return _as_the_task_runner(ready, ready.execute, context=context)


def resume(
    task: BaseOperator,
    deferred: TaskDeferred,
    event: Any,
    context: Context,
    *,
    adjust: Callable[[BaseOperator], None] = _leave,
) -> Any:
    """The worker's part after the trigger's event.

    :param task: another copy of the operator, as it is another process that resumes it.
    :param event: the payload.
    :param adjust: see :func:`execute`.
    :raises TaskDeferred: when the task defers itself again.
    """
    ready = _rendered(task, context)
    adjust(ready)
    kwargs = through_serialization({**(deferred.kwargs or {}), "event": event})
    return _as_the_task_runner(
        ready, ready.resume_execution, next_method=deferred.method_name, next_kwargs=kwargs, context=context
    )


def make_trigger(deferred: TaskDeferred) -> BaseTrigger:
    """The trigger that the triggerer makes of what the worker sent."""
    path, kwargs = deferred.trigger.serialize()
    decoded = {name: compat.decode_trigger_kwargs(value) for name, value in through_serialization(kwargs).items()}
    module, _, name = path.rpartition(".")
    trigger: BaseTrigger = getattr(importlib.import_module(module), name)(**decoded)
    return trigger


def first_event(trigger: BaseTrigger) -> Any:
    """Run a trigger until its first event, which resumes the task; the event's payload.

    :raises RuntimeError: when the trigger ends without one, for which Airflow fails the task.
    """
    return asyncio.run(_first_event(trigger))


async def _first_event(trigger: BaseTrigger) -> Any:
    events = trigger.run()
    try:
        async for event in events:
            return event.payload  # serialised with the task's arguments, by :func:`resume`
    finally:
        await events.aclose()  # type: ignore[attr-defined]  # a generator, as in Airflow's documentation
    raise RuntimeError(f"{type(trigger).__name__} ended without an event")


def through_serialization(value: Any) -> Any:
    """A value as it comes out at the other end of an XCom, a deferral or a trigger's arguments."""
    return compat.deserialize_value(json.loads(json.dumps(compat.serialize_value(value), allow_nan=False)))


def _rendered(task: BaseOperator, context: Context) -> BaseOperator:
    context["task"] = task
    task.render_template_fields(context)
    return cast("BaseOperator", context["task"])  # of a mapped task, Airflow puts the one of this index there


def _as_the_task_runner(task: BaseOperator, call: Callable[..., Any], **kwargs: Any) -> Any:
    """Calls of ``execute`` from elsewhere are refused by a safeguard, which the task runner tells of its task."""
    from airflow.sdk.bases.operator import ExecutorSafeguard

    scope = contextvars.copy_context()
    scope.run(ExecutorSafeguard.tracker.set, task)
    return scope.run(call, **kwargs)
