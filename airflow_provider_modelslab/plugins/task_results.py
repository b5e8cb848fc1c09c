"""What Airflow itself knows of a task instance's video work: its state, what it returned, what it was asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

__all__ = [
    "ENDED",
    "OPERATORS",
    "UNKNOWN",
    "TaskResult",
    "declared_destination",
    "is_ours",
    "kind_of",
    "read_task",
    "shown_fields",
    "xcom_value",
]

Kind = Literal["single", "batch", "other"]

OPERATORS = (
    "ModelsLabVideo2VideoOperator",
    "ModelsLabVideo2VideoToS3Operator",
    "ModelsLabVideo2VideoSensor",
    "ModelsLabVideo2VideoBatchOperator",
    "LocalVideo2VideoOperator",
    "LocalVideo2VideoBatchOperator",
)
"""Class names of the operators whose tasks make, fetch or await videos."""

ENDED = frozenset({"success", "failed", "upstream_failed", "skipped", "removed"})
"""States of a task instance after which nothing changes by itself."""

UNKNOWN = "{{ unknown }}"
"""Stands for an argument of which nothing is known any more: a template that could be rendered to anything."""

_OURS = re.compile(r"Video2Video|modelslab_video2video|local_video2video")
_CUT = "Truncated. You can change this behaviour in [core]max_templated_field_length"


@dataclass(frozen=True, slots=True)
class TaskResult:
    """One task instance as the database has it.

    :param map_index: -1 where the task is not mapped.
    :param operator: the operator's name as Airflow shows it.
    :param state: Airflow's state; ``None`` before it is scheduled.
    :param returned: what the task returned; ``None`` while it has not, or when it failed.
    :param fields: its rendered template fields; Airflow keeps those of a task's last runs only.
    :param declared: its argument ``destination`` as the Dag has it, where Airflow no longer has the rendered fields.
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
    declared: str | None = None

    @property
    def kind(self) -> Kind:
        """Whether it made one video, many, or is no task of this provider."""
        return kind_of(self.operator, self.returned)

    @property
    def destination(self) -> str | None:
        """The argument ``destination``, rendered; a template where Airflow has forgotten how it was rendered."""
        given = self.fields.get("destination", self.declared)
        return None if given is None else str(given)

    @property
    def manifest(self) -> dict[str, Any]:
        """What it returned, when that is a manifest or a summary of this provider; else empty."""
        return dict(self.returned) if _is_manifest(self.returned) or _is_summary(self.returned) else {}


def read_task(session: Session, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> TaskResult | None:
    """Read one task instance; ``None`` when there is none.

    The caller has checked that the user may see the Dag's task instances and XComs.
    """
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Fields
    from airflow.models.taskinstance import TaskInstance
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    def here(table: Any) -> tuple[Any, ...]:
        key = {"dag_id": dag_id, "run_id": run_id, "task_id": task_id, "map_index": map_index}
        return tuple(getattr(table, name) == value for name, value in key.items())

    row = session.execute(
        select(
            TaskInstance.operator,
            TaskInstance.custom_operator_name,
            TaskInstance.state,
            TaskInstance.try_number,
            TaskInstance.start_date,
            TaskInstance.end_date,
            TaskInstance.dag_version_id,
        ).where(*here(TaskInstance))
    ).first()
    if row is None:
        return None
    returned = session.execute(
        select(XComModel.value).where(*here(XComModel), XComModel.key == "return_value")
    ).scalar_one_or_none()
    fields = session.execute(select(Fields.rendered_fields).where(*here(Fields))).scalar_one_or_none()
    return TaskResult(
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        operator=row.custom_operator_name or row.operator or "",
        state=None if row.state is None else str(row.state),
        try_number=row.try_number or 0,
        started_at=row.start_date,
        ended_at=row.end_date,
        returned=xcom_value(returned),
        fields=shown_fields(fields),
        declared=None if fields else declared_destination(session, row.dag_version_id, task_id),
    )


def declared_destination(session: Session, dag_version_id: Any, task_id: str) -> str | None:
    """A task's argument ``destination`` in the Dag's version that it ran with; :data:`UNKNOWN` where that is lost."""
    from airflow.models.serialized_dag import SerializedDagModel
    from sqlalchemy import select

    query = select(SerializedDagModel).where(SerializedDagModel.dag_version_id == dag_version_id)
    found = session.execute(query).scalar_one_or_none()
    tasks = ((found.data if found else None) or {}).get("dag", {}).get("tasks", [])
    task = next((one["__var"] for one in tasks if one["__var"].get("task_id") == task_id), None)
    if task is None or "destination" in str(task.get("expand_input")):
        return UNKNOWN
    given = (task.get("partial_kwargs") if task.get("_is_mapped") else task).get("destination")
    return given if given is None or isinstance(given, str) else UNKNOWN


def xcom_value(value: Any) -> Any:
    """A stored XCom as plain JSON: read by its custom backend where Airflow has one, else as it is or decoded."""
    from airflow.configuration import conf

    if value is not None and "BaseXCom" not in conf.get("core", "xcom_backend", fallback="BaseXCom"):
        from types import SimpleNamespace

        from airflow.sdk.execution_time.xcom import resolve_xcom_backend

        value = resolve_xcom_backend().deserialize_value(SimpleNamespace(value=value))
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def shown_fields(fields: Any) -> dict[str, Any]:
    """Rendered template fields that say something: neither empty nor cut off by Airflow."""
    if not isinstance(fields, Mapping):
        return {}
    return {
        name: value
        for name, value in fields.items()
        if value not in (None, "", "None") and not (isinstance(value, str) and value.startswith(_CUT[:10]))
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
        and value.get("status") in {"submitted", "finished", "landed"}
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
