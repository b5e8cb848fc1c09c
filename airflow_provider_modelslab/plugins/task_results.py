"""A task instance's state, return value and arguments, read from Airflow's database."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_modelslab.compat import awaited_job, find_task, read_rendered_fields, read_xcom
from airflow_provider_modelslab.links.media import FACTS_KEY
from airflow_provider_modelslab.plugins.authorization.dag_arguments import DagArguments, is_cut, read_declared
from airflow_provider_modelslab.plugins.json_values import as_mapping, sound, sound_fields

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

__all__ = [
    "ENDED",
    "TaskResult",
    "is_ours",
    "kind_of",
    "manifest_in",
    "read_task",
    "shown_fields",
    "xcom_value",
]

log = logging.getLogger(__name__)

Kind = Literal["single", "batch", "other"]

ENDED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})
"""States of a task instance after which nothing changes by itself."""

_OURS = re.compile(r"Video2Video|modelslab_video2video|local_video2video")


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task instance as the database has it.

    :param map_index: -1 where the task is not mapped.
    :param operator: the operator's name as Airflow shows it.
    :param state: Airflow's state; ``None`` before it is scheduled.
    :param returned: what the task returned; ``None`` while it has not, or when it failed.
    :param fields: its rendered template fields; Airflow keeps those of a task's last runs only.
    :param declared: its arguments as the Dag has them.
    :param loop_index: the iteration of the task loop that it is in, from 0; ``None`` outside a loop.
    :param iterations: all iterations that there are of it.
    :param loop_id: the task group that is its loop.
    :param facts: the targets of its links, as it stored them.
    :param awaited_job: the job that it waits for while it is deferred, from its trigger's arguments: a task without a
        bucket has no ledger.
    """

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    operator: str
    state: str | None
    try_number: int
    started_at: datetime | None
    ended_at: datetime | None
    returned: Any = None
    fields: dict[str, Any] = field(default_factory=dict)
    declared: DagArguments = field(default_factory=DagArguments)
    loop_index: int | None = None
    iterations: tuple[int, ...] = ()
    loop_id: str | None = None
    facts: dict[str, str] = field(default_factory=dict)
    awaited_job: str | None = None

    @property
    def kind(self) -> Kind:
        """Whether it made one video, many, or is no task of this provider."""
        return kind_of(self.operator, self.returned)

    def argument(self, name: str) -> Any:
        """An argument, rendered; as the Dag has it if Airflow no longer has the task's rendered fields."""
        return self.fields.get(name) if self.fields else self.declared.text(name)

    @property
    def destination(self) -> str | None:
        """The argument ``destination``, rendered; a template if Airflow no longer has the rendered value."""
        given = self.argument("destination")
        return None if given is None else str(given)

    @property
    def manifest(self) -> dict[str, Any]:
        """What it returned, see :func:`manifest_in`."""
        return manifest_in(self.returned)


def read_task(
    session: Session, dag_id: str, run_id: str, task_id: str, map_index: int = -1, loop_index: int | None = None
) -> TaskResult | None:
    """Read one task instance; ``None`` when there is none.

    The caller has checked that the user may see the Dag's task instances and XComs. Of another provider's task only the
    state is read: below Airflow 3.4 the tab is on all tasks, and their return values may be large or stored elsewhere.
    This provider's tasks are recognised by the operator's name, subclasses by the XCom with their link targets.

    :param loop_index: the iteration of the task's loop; the newest where it is not given.
    """
    row = find_task(session, dag_id, run_id, task_id, map_index, loop_index)
    if row is None:
        return None
    facts = _facts_in(xcom_value(read_xcom(session, row, FACTS_KEY)))
    result = TaskResult(
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        operator=row.operator,
        state=row.state,
        try_number=row.try_number,
        started_at=row.started_at,
        ended_at=row.ended_at,
        loop_index=row.loop_index,
        iterations=row.iterations,
        loop_id=row.loop_id,
        facts=facts,
    )
    if not facts and not is_ours(row.operator):
        return result
    return replace(
        result,
        returned=xcom_value(read_xcom(session, row, "return_value")),
        fields=shown_fields(read_rendered_fields(session, row)),
        declared=read_declared(session, row.dag_version_id, task_id),
        awaited_job=awaited_job(session, row) if row.state == "deferred" else None,
    )


def _facts_in(value: Any) -> dict[str, str]:
    """The targets of the task's links from its XCom; empty if there are none."""
    if not isinstance(value, Mapping):
        return {}
    return {name: text for name, text in value.items() if isinstance(text, str)}


def xcom_value(value: Any) -> Any:
    """A stored XCom as plain JSON: read by its custom backend where Airflow has one, else as it is or decoded.

    ``None`` if the backend cannot read it (the stored object may have been deleted), and if it is nested too deep.
    """
    from airflow.configuration import conf

    if value is not None and "BaseXCom" not in conf.get("core", "xcom_backend", fallback="BaseXCom"):
        from types import SimpleNamespace

        from airflow.sdk.execution_time.xcom import resolve_xcom_backend

        try:
            value = resolve_xcom_backend().deserialize_value(SimpleNamespace(value=value))
        except Exception as error:  # noqa: BLE001 - whatever a backend raises, the other tasks are to be shown
            log.warning("An XCom cannot be read by its backend: %s", type(error).__name__)
            return None
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    try:
        return sound(value)
    except ValueError:
        return None


def manifest_in(returned: Any) -> dict[str, Any]:
    """A manifest or a summary of this provider, without fields of unexpected types: people can edit XComs."""
    if not (_is_manifest(returned) or _is_summary(returned)):
        return {}
    return sound_fields(returned)


def shown_fields(fields: Any) -> dict[str, Any]:
    """Rendered template fields that are neither empty nor truncated by Airflow."""
    try:
        shown = as_mapping(sound(fields))
    except ValueError:
        return {}
    return {
        name: value
        for name, value in shown.items()
        if value not in (None, "", "None") and not (isinstance(value, str) and is_cut(value))
    }


def is_ours(operator: str, returned: Any = None) -> bool:
    """Whether a task is one of this provider's, by its operator's name or, for subclasses, by what it returned."""
    return bool(_OURS.search(operator)) or _is_manifest(returned) or _is_summary(returned)


def kind_of(operator: str, returned: Any) -> Kind:
    """What a task made."""
    if _is_summary(returned):
        return "batch"
    if _is_manifest(returned):
        return "single"
    if not is_ours(operator):
        return "other"
    return "batch" if "batch" in operator.lower() else "single"


def _is_manifest(value: Any) -> bool:
    """See ``storage.manifest``: what a task of one video returns."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("schema_version"), int)
        and value.get("status") in ("submitted", "finished", "landed")  # no set: it may not be hashable
        and "job_id" in value
    )


def _is_summary(value: Any) -> bool:
    """See ``batch.records``: what a task of many videos returns."""
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("schema_version"), int)
        and isinstance(value.get("manifest"), str)
        and isinstance(value.get("found"), int)
    )
