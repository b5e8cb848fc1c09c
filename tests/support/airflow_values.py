"""Values as Airflow's processes hand them on: the very messages, encoders and columns that they go through."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import msgspec
from airflow.jobs import triggerer_job_runner
from airflow.sdk.execution_time.comms import DeferTask, SetXCom, _RequestFrame
from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import TypeAdapter

from airflow_provider_modelslab.compat import decode_trigger_kwargs, deserialize_value, serialize_value
from tests.support.odd_answers import is_written_well

__all__ = ["through_deferral", "through_trigger_event", "through_xcom"]


def through_trigger_event(event: TriggerEvent) -> Any:
    """The payload of a trigger's event, as a task gets it.

    From the triggerer's child process to its parent (msgpack), into the task's arguments (serde) and the database.
    """
    entry = getattr(triggerer_job_runner, "TriggerEventEntry", None)
    fields = (1, event) if entry is None else (1, event, *[None] * (len(entry._fields) - 2))
    message = triggerer_job_runner.messages.TriggerStateChanges(events=[fields])
    received = _supervisor().validate_python(_through_frame(message.model_dump()))
    (got,) = received.events
    return _through_column({"event": got[1].payload})["event"]


def through_xcom(value: Any) -> Any:
    """What a task returns, as another task pulls it."""
    message = SetXCom(key="return_value", value=serialize_value(value), dag_id="d", run_id="r", task_id="t")
    return deserialize_value(_stored(_through_frame(message.model_dump())["value"]))


def through_deferral(trigger: BaseTrigger, kwargs: dict[str, Any]) -> tuple[BaseTrigger, dict[str, Any]]:
    """A trigger as the triggerer makes it, and the arguments that the task gets when it is resumed."""
    path, arguments = trigger.serialize()
    message = DeferTask(
        classpath=path,
        trigger_kwargs=serialize_value(arguments),
        next_method="execute_complete",
        next_kwargs=serialize_value(kwargs),
    )
    sent = _through_frame(message.model_dump())
    received: Any = deserialize_value(_stored(sent["trigger_kwargs"]))
    resumed: Any = deserialize_value(_stored(sent["next_kwargs"]))
    decoded = {name: decode_trigger_kwargs(value) for name, value in received.items()}
    return type(trigger)(**decoded), resumed


def _through_frame(body: dict[str, Any]) -> dict[str, Any]:
    """A message between a process of Airflow and its supervisor."""
    frame = bytes(_RequestFrame(id=1, body=body).as_bytes())[4:]
    found: dict[str, Any] = msgspec.msgpack.Decoder(_RequestFrame).decode(frame).body or {}
    return found


def _through_column(value: Any) -> Any:
    return deserialize_value(_stored(serialize_value(value)))


def _stored(value: Any) -> Any:
    """As a JSON column has it: PostgreSQL's takes neither NaN nor NUL."""
    assert is_written_well(value)
    return json.loads(json.dumps(value, allow_nan=False))


@cache
def _supervisor() -> TypeAdapter[Any]:
    return TypeAdapter(triggerer_job_runner.ToTriggerSupervisor)
