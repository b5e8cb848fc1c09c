"""The latest videos of all Dags that the user may read; newest runs first, page by page."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.compat import RecentTask, recent_tasks, tasks_of_run
from airflow_provider_modelslab.plugins.gallery.data import attributes_of
from airflow_provider_modelslab.plugins.json_values import as_mapping
from airflow_provider_modelslab.plugins.operator_names import OPERATORS
from airflow_provider_modelslab.plugins.task_results import kind_of, manifest_in, shown_fields, xcom_value

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["PAGE_SIZE", "read_recent", "tasks_with_videos"]

PAGE_SIZE = 24

_DECORATED = ("%modelslab_video2video%", "%modelslab_local_video2video%")
_MAX_OFFSET = 1_000_000
_COUNTS = ("found", "landed", "skipped", "failed", "pending")


def read_recent(session: Session, dag_ids: Collection[str], after: str | None = None) -> dict[str, Any]:
    """One page: ``items``, and ``next``, the ``after`` of the next one; ``None`` on the last.

    :param dag_ids: the Dags that the user may read.
    :param after: ``next`` of the page before.
    :raises ValueError: when ``after`` is not the ``next`` of a page.
    """
    until, offset = _position(after) if after else (None, 0)
    rows = recent_tasks(
        session,
        dag_ids,
        operators=OPERATORS,
        decorated=_DECORATED,
        until=until,
        offset=offset,
        limit=PAGE_SIZE + 1,
    )
    page = rows[:PAGE_SIZE]
    further = None
    if len(rows) > PAGE_SIZE:
        last = page[-1].run_after
        passed = sum(row.run_after == last for row in page)
        if last == until:
            passed += offset
        further = f"{last.isoformat()}/{passed}"
    return {"items": [_item(row) for row in page], "next": further}


def tasks_with_videos(session: Session, dag_id: str, run_id: str) -> list[str]:
    """The ids of the tasks of a run that make, fetch or await videos, 50 at most."""
    return tasks_of_run(session, dag_id, run_id, operators=OPERATORS, decorated=_DECORATED, limit=50)


def _position(after: str) -> tuple[datetime, int]:
    """The position after the earlier pages: the time of a run, and how many tasks of runs at this time they had."""
    moment, _, passed = after.partition("/")
    until, offset = datetime.fromisoformat(moment), int(passed)
    if until.tzinfo is None or not 0 <= offset < _MAX_OFFSET:
        raise ValueError(f"{after!r} is not a time with an offset and a count")
    try:
        return until.astimezone(UTC), offset
    except OverflowError as error:
        raise ValueError(str(error)) from error


def _item(row: RecentTask) -> dict[str, Any]:
    returned = xcom_value(row.returned)
    manifest = manifest_in(returned)
    arguments = attributes_of(shown_fields(row.fields))
    kind = kind_of(row.operator, returned)
    counts = {name: manifest.get(name) for name in _COUNTS} if kind == "batch" else None
    return {
        "dag_id": row.dag_id,
        "run_id": row.run_id,
        "task_id": row.task_id,
        "map_index": row.map_index,
        "loop_index": row.loop_index,
        "operator": row.operator,
        "ended_at": None if row.ended_at is None else row.ended_at.isoformat(),
        "kind": kind,
        "counts": counts,
        "prompt": arguments.get("prompt") or as_mapping(manifest.get("request")).get("prompt"),
        "model_id": manifest.get("model_id") or arguments.get("model_id"),
        "seed": manifest.get("seed"),
        "seconds": manifest.get("seconds") if counts else manifest.get("generation_time_s"),
    }
