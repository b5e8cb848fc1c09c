"""What was made lately, over all Dags that the user may read; newest runs first, page by page."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.plugins.gallery_data import attributes_of
from airflow_provider_modelslab.plugins.task_results import OPERATORS, kind_of, manifest_in, shown_fields, xcom_value

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["PAGE_SIZE", "read_recent"]

PAGE_SIZE = 24

_DECORATED = ("%modelslab_video2video%", "%modelslab_local_video2video%")
_COUNTS = ("found", "landed", "skipped", "failed", "pending")


def read_recent(session: Session, dag_ids: Collection[str], after: str | None = None) -> dict[str, Any]:
    """One page: ``items``, and ``next``, the ``after`` of the next one; ``None`` on the last.

    It goes down the index of the runs' times, so a database with many other tasks does not make it slow.

    :param dag_ids: the Dags that may be looked at.
    :param after: as an earlier page told it.
    :raises ValueError: when ``after`` is not what a page told.
    """
    from airflow.models.dagrun import DagRun
    from airflow.models.renderedtifields import RenderedTaskInstanceFields as Fields
    from airflow.models.taskinstance import TaskInstance as Task
    from airflow.models.xcom import XComModel
    from sqlalchemy import and_, or_, select

    def same(table: Any) -> Any:
        names = ("dag_id", "run_id", "task_id", "map_index")
        return and_(*(getattr(table, name) == getattr(Task, name) for name in names))

    query = (
        select(
            DagRun.run_after,
            Task.dag_id,
            Task.run_id,
            Task.task_id,
            Task.map_index,
            Task.operator,
            Task.custom_operator_name,
            Task.end_date,
            XComModel.value,
            Fields.rendered_fields,
        )
        .join(Task, and_(Task.dag_id == DagRun.dag_id, Task.run_id == DagRun.run_id))
        .join(XComModel, and_(same(XComModel), XComModel.key == "return_value"))
        .outerjoin(Fields, same(Fields))
        .where(
            DagRun.dag_id.in_(dag_ids),
            Task.state == "success",
            or_(Task.operator.in_(OPERATORS), *(Task.custom_operator_name.like(name) for name in _DECORATED)),
        )
        .order_by(DagRun.run_after.desc(), DagRun.id.desc(), Task.task_id, Task.map_index)
    )
    offset = 0
    if after:
        moment, _, skipped = after.partition("/")
        query = query.where(DagRun.run_after <= datetime.fromisoformat(moment))
        offset = int(skipped)
    rows = session.execute(query.offset(offset).limit(PAGE_SIZE + 1)).all()
    page = rows[:PAGE_SIZE]
    further = None
    if len(rows) > PAGE_SIZE:
        last = page[-1].run_after
        passed = sum(row.run_after == last for row in page)
        if after and last.isoformat() == after.partition("/")[0]:
            passed += offset
        further = f"{last.isoformat()}/{passed}"
    return {"items": [_item(row) for row in page], "next": further}


def _item(row: Any) -> dict[str, Any]:
    operator = row.custom_operator_name or row.operator or ""
    returned = xcom_value(row.value)
    told = manifest_in(returned)
    asked = attributes_of(shown_fields(row.rendered_fields))
    kind = kind_of(operator, returned)
    counts = {name: told.get(name) for name in _COUNTS} if kind == "batch" else None
    return {
        "dag_id": row.dag_id,
        "run_id": row.run_id,
        "task_id": row.task_id,
        "map_index": row.map_index,
        "operator": operator,
        "ended_at": None if row.end_date is None else row.end_date.isoformat(),
        "kind": kind,
        "counts": counts,
        "prompt": asked.get("prompt") or (told.get("request") or {}).get("prompt"),
        "model_id": told.get("model_id") or asked.get("model_id"),
        "seed": told.get("seed"),
        "seconds": told.get("seconds") if counts else told.get("generation_time_s"),
    }
