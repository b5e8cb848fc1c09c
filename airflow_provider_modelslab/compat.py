"""Differences between Airflow versions: the only module that uses versions, tables and private attributes.

Airflow is imported inside the functions, since its tables take seconds to import and most processes need none. Tested
with Airflow 3.1, 3.2, 3.3 and 3.4.

Airflow 3.4 has *task loops*: each iteration is a task instance of its own, and all have the same Dag, task, run and map
index. They differ in the index of the iteration, ``loop_index`` here. It stays the same when an iteration is cleared or
retried; the ids of Airflow's rows do not.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from airflow.sdk.definitions.retry_policy import RetryDecision
    from sqlalchemy.orm import Session

__all__ = [
    "RecentXCom",
    "TaskRow",
    "WaitingTask",
    "add_asset_event",
    "awaited_job",
    "clear_drops_task_state",
    "commands_need_connections",
    "create_session",
    "decode_trigger_kwargs",
    "deserialize_value",
    "expanded_arguments",
    "find_task",
    "find_waiting",
    "has_one_connection",
    "in_transaction",
    "loop_index",
    "read_connection",
    "read_rendered_fields",
    "read_xcom",
    "recent_xcoms",
    "reschedule_exception",
    "run_later",
    "runs_triggers_inline",
    "send_event",
    "serialize_value",
    "serialized_tasks",
    "supervised_by",
    "tasks_of_run",
    "team_of",
]


# -- in a task --------------------------------------------------------------------------------------------------------


def loop_index(context: Mapping[str, Any]) -> int | None:
    """The iteration of the task loop that a task is in, from 0; ``None`` outside a loop, and below Airflow 3.4."""
    loop = context.get("loop")
    return None if loop is None else int(loop.index)


def run_later(delay: timedelta, timeout: timedelta, reason: str) -> RetryDecision:
    """The decision of a retry policy to run a task again, on Airflow 3.4 and later without spending a retry.

    :param timeout: how long after the first such decision of a try another one counts as a retry.
    """
    from airflow.sdk.definitions.retry_policy import RetryDecision

    if hasattr(RetryDecision, "reschedule"):
        again: RetryDecision = RetryDecision.reschedule(delay, reschedule_timeout=timeout, reason=reason)
        return again
    return RetryDecision.retry(delay, reason)


def clear_drops_task_state() -> bool:
    """Whether Airflow deletes a task's task state when the task is cleared: since 3.4."""
    from airflow.sdk import __version__
    from packaging.version import Version

    return Version(__version__).release >= (1, 4)


def has_one_connection() -> bool:
    """Whether this is Airflow 3.3's connection test on a worker, which gets one connection and cannot read others.

    It runs like a task, for which Airflow's supervisor reads connections, but there is no supervisor.
    """
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    return os.environ.get("_AIRFLOW_PROCESS_CONTEXT") == "client" and not hasattr(runner, "SUPERVISOR_COMMS")


def runs_triggers_inline() -> bool:
    """Whether this is ``airflow dags test`` or ``dag.test()``, which run a trigger in the task's process.

    Their substitute for Airflow's supervisor has blocking calls only, so an asynchronous read of a connection fails:
    Airflow 3.3.2 and later report that there is no such connection.
    """
    runner = sys.modules.get("airflow.sdk.execution_time.task_runner")
    supervisor = getattr(runner, "SUPERVISOR_COMMS", None)
    return supervisor is not None and not hasattr(supervisor, "asend")


# -- tasks in a test's process, without Airflow's own -----------------------------------------------------------------


def serialize_value(value: Any) -> Any:
    """A value as a deferral carries it from the worker to the triggerer and back, ready for JSON.

    :raises TypeError: for a value that Airflow cannot send.
    """
    if _has_sdk_serde():
        from airflow.sdk.serde import serialize

        return serialize(value)
    from airflow.serialization.serialized_objects import BaseSerialization

    return BaseSerialization.serialize(value)


def deserialize_value(value: Any) -> Any:
    """The inverse of :func:`serialize_value`."""
    if _has_sdk_serde():
        from airflow.sdk.serde import deserialize

        return deserialize(value)
    from airflow.serialization.serialized_objects import BaseSerialization

    return BaseSerialization.deserialize(value)


def decode_trigger_kwargs(value: Any) -> Any:
    """One argument of a trigger as the triggerer decodes it."""
    if _has_sdk_serde():
        from airflow.serialization.decoders import smart_decode_trigger_kwargs

        return smart_decode_trigger_kwargs(value)
    from airflow.serialization import serialized_objects

    return vars(serialized_objects)["smart_decode_trigger_kwargs"](value)


def _has_sdk_serde() -> bool:
    """Since 3.2."""
    from importlib.util import find_spec

    return find_spec("airflow.sdk.serde") is not None


def reschedule_exception() -> type[Exception]:
    """What a sensor in the mode ``reschedule`` raises to be poked again."""
    if _has_sdk_serde():
        from airflow.sdk.exceptions import AirflowRescheduleException
    else:
        from airflow.exceptions import AirflowRescheduleException
    found: type[Exception] = AirflowRescheduleException
    return found


def expanded_arguments(task: Any) -> Any:
    """What a mapped task is expanded over: a mapping of lists for ``expand``, a list for ``expand_kwargs``.

    In the place of a list there may be the output of another task.
    """
    return task._get_specified_expand_input().value


@contextmanager
def supervised_by(supervisor: Any) -> Iterator[None]:
    """Within the block, tasks of this process ask ``supervisor`` what they would ask Airflow's.

    Airflow looks connections up in the environment first, in 3.1 only where there is a supervisor.

    :param supervisor: has ``send`` and ``asend``, which answer Airflow's messages.
    """
    from airflow.sdk.execution_time import task_runner

    names = vars(task_runner)
    before = names.get("SUPERVISOR_COMMS")
    names["SUPERVISOR_COMMS"] = supervisor
    try:
        yield
    finally:
        if before is None:
            del names["SUPERVISOR_COMMS"]
        else:
            names["SUPERVISOR_COMMS"] = before


# -- task instances ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task instance as the database has it.

    :param id: of its row.
    :param map_index: -1 where the task is not mapped.
    :param loop_index: see :func:`loop_index`.
    :param iterations: the indices of all existing iterations of its loop; empty outside a loop.
    :param loop_id: the task group that is its loop; ``None`` outside a loop.
    """

    id: Any
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    loop_index: int | None
    iterations: tuple[int, ...]
    operator: str
    state: str | None
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None
    dag_version_id: Any
    loop_id: str | None = None


def find_task(
    session: Session, dag_id: str, run_id: str, task_id: str, map_index: int = -1, loop_index: int | None = None
) -> TaskRow | None:
    """One task instance; ``None`` when there is none.

    :param loop_index: of a task in a loop; the newest iteration where it is not given.
    """
    from airflow.models.taskinstance import TaskInstance
    from sqlalchemy import select
    from sqlalchemy.orm import lazyload

    query = select(TaskInstance).options(lazyload("*"))
    query = query.where(TaskInstance.dag_id == dag_id, TaskInstance.run_id == run_id, TaskInstance.task_id == task_id)
    positions = _positions(session)
    found = []
    for task in session.scalars(query.where(positions.has_map_index(map_index))):
        position = positions.of(task)
        found.append((-1 if position.loop_index is None else position.loop_index, position.loop_id, task))
    found.sort(key=lambda one: one[0])
    chosen = [one for one in found if loop_index is None or one[0] == loop_index]
    if not chosen:
        return None
    index, loop_id, task = chosen[-1]
    return TaskRow(
        id=task.id,
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        loop_index=None if index < 0 else index,
        iterations=tuple(one for one, *_ in found if one >= 0),
        operator=task.custom_operator_name or task.operator or "",
        state=None if task.state is None else str(task.state),
        try_number=task.try_number or 0,
        started_at=task.start_date,
        ended_at=task.end_date,
        dag_version_id=task.dag_version_id,
        loop_id=loop_id,
    )


def read_xcom(session: Session, task: TaskRow, key: str) -> Any:
    """An XCom of a task instance as it is stored; ``None`` where there is none, and where :func:`_small` gives none."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    query = select(_small(XComModel.value)).where(XComModel.key == key, *_of(XComModel, task))
    return _parsed(session.execute(query).scalar_one_or_none())


def read_rendered_fields(session: Session, task: TaskRow) -> Any:
    """A task instance's template fields, rendered; Airflow keeps those of a task's last runs only."""
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Fields
    from sqlalchemy import select

    found = session.execute(select(_small(Fields.rendered_fields)).where(*_of(Fields, task))).scalar_one_or_none()
    if found is None and hasattr(Fields, "get_for_attempt"):  # 3.4, for those that an earlier version wrote
        try:
            stored = Fields.get_for_attempt(task.id, session=session)
        except (ValueError, RecursionError):
            return None
        return None if stored is None else stored.rendered_fields
    return _parsed(found)


def awaited_job(session: Session, task: TaskRow) -> str | None:
    """The job that a deferred task waits for, from its trigger's arguments; ``None`` if it waits for none."""
    from airflow.models.taskinstance import TaskInstance

    trigger = session.scalars(_awaited_triggers().where(TaskInstance.id == task.id)).first()
    job_id = trigger.kwargs.get("job_id") if trigger else None
    return None if job_id is None else str(job_id)


class RecentXCom(NamedTuple):
    """An XCom of a task instance, with the time when it was written."""

    written_at: datetime
    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    loop_index: int | None
    value: Any


def recent_xcoms(
    session: Session,
    dag_ids: Collection[str],
    *,
    key: str,
    since: datetime | None,
    before: datetime | None,
    until: datetime | None,
    offset: int,
    limit: int,
) -> list[RecentXCom]:
    """The XComs with a key, newest first; long ones without their value.

    It reads by the index of the keys, so the XComs of other tasks do not slow it down.

    :param since: leave out what was written before this time.
    :param before: leave out what was written at this time or later.
    :param until: leave out what was written after this time.
    """
    from airflow.models.taskinstance import TaskInstance as Task
    from airflow.models.xcom import XComModel
    from sqlalchemy import and_, select
    from sqlalchemy.orm import lazyload

    query = (
        select(XComModel.timestamp, Task, _small(XComModel.value, _MAX_LISTED_CHARACTERS))
        .options(lazyload("*"))
        .join(Task, and_(_same(XComModel, Task), XComModel.key == key))
        .where(Task.dag_id.in_(dag_ids))
        .order_by(XComModel.timestamp.desc(), Task.dag_id, Task.run_id, Task.task_id, Task.map_index, Task.id)
    )
    if since is not None:
        query = query.where(XComModel.timestamp >= since)
    if before is not None:
        query = query.where(XComModel.timestamp < before)
    if until is not None:
        query = query.where(XComModel.timestamp <= until)
    positions = _positions(session)
    return [
        RecentXCom(
            written_at,
            task.dag_id,
            task.run_id,
            task.task_id,
            position.map_index,
            position.loop_index,
            _parsed(value),
        )
        for written_at, task, value in session.execute(query.offset(offset).limit(limit))
        for position in [positions.of(task)]
    ]


def tasks_of_run(
    session: Session, dag_id: str, run_id: str, *, operators: Sequence[str], decorated: Sequence[str], limit: int
) -> list[str]:
    """The ids of a run's tasks that have one of the operators.

    :param operators: names of operator classes.
    :param decorated: patterns for ``LIKE`` on the names of decorated tasks.
    """
    from airflow.models.taskinstance import TaskInstance as Task
    from sqlalchemy import select

    query = select(Task.task_id).distinct().order_by(Task.task_id).limit(limit)
    query = query.where(Task.dag_id == dag_id, Task.run_id == run_id, _is_one_of(Task, operators, decorated))
    return list(session.scalars(query))


def serialized_tasks(session: Session, dag_version_id: Any) -> list[Mapping[str, Any]]:
    """The tasks of a version of a Dag, as Airflow serialises them; empty if that version was deleted."""
    from airflow.models.serialized_dag import SerializedDagModel
    from sqlalchemy import select

    query = select(SerializedDagModel).where(SerializedDagModel.dag_version_id == dag_version_id)
    found = session.execute(query).scalar_one_or_none()
    tasks = ((found.data if found else None) or {}).get("dag", {}).get("tasks", [])
    return [task["__var"] for task in tasks]


def _is_one_of(tasks: Any, operators: Sequence[str], decorated: Sequence[str]) -> Any:
    """The condition that a task instance has one of the operators."""
    from sqlalchemy import or_

    return or_(tasks.operator.in_(operators), *(tasks.custom_operator_name.like(name) for name in decorated))


_MAX_CHARACTERS = 1_000_000
_MAX_LISTED_CHARACTERS = 20_000


def _small(column: Any, most: int = _MAX_CHARACTERS) -> Any:
    """A JSON column as text; nothing where it is longer than ``most`` characters.

    The database driver would parse each row of a result, so one invalid row would make the whole query fail.
    """
    from sqlalchemy import Text, case, cast, func

    text = cast(column, Text)
    return case((func.length(text) <= most, text))


def _parsed(text: str | None) -> Any:
    """The value of :func:`_small`; ``None`` where it cannot be parsed, such as for its depth."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None


def _awaited_triggers() -> Any:
    """The query for the triggers that deferred tasks wait for."""
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from sqlalchemy import select
    from sqlalchemy.orm import lazyload

    return (
        select(Trigger)
        .join(TaskInstance, TaskInstance.trigger_id == Trigger.id)
        .where(TaskInstance.state == "deferred")
        .options(lazyload(Trigger.task_instance))
    )


# -- deferred tasks ---------------------------------------------------------------------------------------------------


class WaitingTask(NamedTuple):
    """A deferred task's trigger: its id, since when it waits, and its arguments."""

    trigger_id: int
    since: datetime
    kwargs: dict[str, Any]


def find_waiting(session: Session, classpath: str, *, run_id: str | None, limit: int) -> list[WaitingTask]:
    """The triggers of one class that deferred tasks wait for, newest first.

    :param run_id: search this run only; ``None`` for all.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger

    query = _awaited_triggers().where(Trigger.classpath == classpath).order_by(Trigger.id.desc()).limit(limit)
    if run_id is not None:
        query = query.where(TaskInstance.run_id == run_id)
    return [WaitingTask(trigger.id, trigger.created_date, trigger.kwargs) for trigger in session.scalars(query)]


def send_event(session: Session, trigger_id: int, payload: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Resume the deferred tasks that wait for a trigger, as the triggerer does; returns their Dag, task and run.

    :raises ImportError, AttributeError, TypeError: if this Airflow version does it differently: it is no public
        interface.
    """
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.trigger import Trigger
    from airflow.triggers.base import TriggerEvent
    from sqlalchemy import select

    # Locked first, so that no other process changes it between our read and our write. SQLite locks as a whole.
    still = (
        select(TaskInstance.dag_id, TaskInstance.task_id, TaskInstance.run_id)
        .where(TaskInstance.trigger_id == trigger_id, TaskInstance.state == "deferred")
        .with_for_update()
    )
    waiting = [(row.dag_id, row.task_id, row.run_id) for row in session.execute(still)]
    if waiting:
        Trigger.submit_event(trigger_id, TriggerEvent(payload), session=session)
    return waiting


# -- the rest of the database -----------------------------------------------------------------------------------------


def create_session() -> AbstractContextManager[Session]:
    """A session on Airflow's database, committed at the end of the block."""
    from airflow.utils.session import create_session as create

    return create()


def in_transaction(work: Callable[[Session], bool]) -> bool:
    """Run a function in one transaction, and repeat it once if the database was locked or the connection lost."""
    import structlog
    from airflow.utils.retries import run_with_db_retries

    done = False
    for attempt in run_with_db_retries(logger=structlog.get_logger(__name__)):
        with attempt, create_session() as session:
            done = work(session)
    return done


def add_asset_event(session: Session, uri: str, extra: dict[str, Any], *, same: Sequence[str], since: datetime) -> int:
    """Add an event to the asset, unless there is a recent duplicate; Airflow then starts what is scheduled on it.

    The asset's row is locked until the session's transaction ends, so of two API servers that got the same webhook one
    finds the other's event.

    :param same: the names in ``extra`` that identify a duplicate.
    :param since: earlier events do not count as duplicates.
    :return: how many were added; -1 if no active Dag knows the asset.
    """
    import sqlalchemy as sa
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetEvent, AssetModel

    assets = session.scalars(sa.select(AssetModel).where(AssetModel.uri == uri, AssetModel.active.has())).all()
    added = 0
    for asset in assets:
        # An update that changes nothing locks the row on every database, and on SQLite the file.
        session.execute(
            sa.update(AssetModel)
            .where(AssetModel.id == asset.id)
            .values(uri=AssetModel.uri)
            .execution_options(synchronize_session=False)
        )
        stored = sa.type_coerce(AssetEvent.extra, sa.JSON())
        duplicates = sa.select(AssetEvent.id).where(
            AssetEvent.asset_id == asset.id,
            AssetEvent.timestamp > since,
            *(stored[name].as_string() == extra[name] for name in same),
        )
        if session.scalar(duplicates.limit(1)) is None:
            asset_manager.register_asset_change(asset=asset, extra=extra, source_is_api=True, session=session)
            added += 1
    return added if assets else -1


def read_connection(conn_id: str) -> Any:
    """A connection in a process that has Airflow's database: from a secrets backend, the environment or there.

    :raises AirflowNotFoundException: when there is none.
    """
    from airflow.models.connection import Connection

    return Connection.get_connection_from_secrets(conn_id)


def team_of(dag_id: str) -> str | None:
    """The team that owns a Dag, if Airflow has teams."""
    from airflow.models.dag import DagModel

    found: str | None = DagModel.get_team_name(dag_id)
    return found


def commands_need_connections() -> bool:
    """Make hooks in a command read connections from Airflow's database; whether connections must still be passed.

    They must in Airflow 3.1, where hooks outside a task do not read the database.
    """
    from airflow import __version__
    from packaging.version import Version

    # Airflow's own commands set it too. Without it hooks search the environment and the secrets backends only.
    os.environ["_AIRFLOW_PROCESS_CONTEXT"] = "server"
    return Version(__version__).release < (3, 2)


# -- rows that belong together ----------------------------------------------------------------------------------------


class _Position(NamedTuple):
    """The position of a row among those of its task and run."""

    map_index: int
    loop_index: int | None = None
    loop_id: str | None = None


class _Positions:
    """Below Airflow 3.4 the map index alone identifies a row."""

    def has_map_index(self, map_index: int) -> Any:
        """The condition that a row has this map index."""
        from airflow.models.taskinstance import TaskInstance

        return TaskInstance.map_index == map_index

    def of(self, task: Any) -> _Position:
        """The position of a row."""
        return _Position(task.map_index)


class _PositionsInRegions(_Positions):
    """Airflow 3.4 stores a *region* and an index in it: that of the iteration, or of the mapped task."""

    def __init__(self, session: Session) -> None:
        from airflow.models.dagbag import DBDagBag
        from airflow.models.task_coordinates import (  # type: ignore[import-not-found]  # not in 3.3
            TaskCoordinateResolver,
        )

        self._resolver = TaskCoordinateResolver(DBDagBag(load_op_links=False), session)

    def has_map_index(self, map_index: int) -> Any:
        from airflow.models.task_coordinates import public_map_index_expression
        from airflow.models.taskinstance import TaskInstance

        return public_map_index_expression(TaskInstance) == map_index

    def of(self, task: Any) -> _Position:
        loop = self._resolver.get_loop_iteration(task)
        loop_id, index = loop or (None, None)
        return _Position(self._resolver.public_map_index(task), index, loop_id)


def _positions(session: Session) -> _Positions:
    from airflow.models.taskinstance import TaskInstance

    return _PositionsInRegions(session) if hasattr(TaskInstance, "region_id") else _Positions()


def _of(table: Any, task: TaskRow) -> tuple[Any, ...]:
    """The condition that a row of another table belongs to a task instance."""
    if hasattr(table, "task_instance_id"):  # 3.4
        return (table.task_instance_id == task.id,)
    return tuple(getattr(table, name) == getattr(task, name) for name in _KEY)


def _same(table: Any, tasks: Any) -> Any:
    """The condition that a row of another table and one of the task instances belong together."""
    from sqlalchemy import and_

    if hasattr(table, "task_instance_id"):  # 3.4
        return table.task_instance_id == tasks.id
    return and_(*(getattr(table, name) == getattr(tasks, name) for name in _KEY))


_KEY = ("dag_id", "run_id", "task_id", "map_index")
