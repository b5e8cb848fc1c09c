"""The videos that landed, of all Dags that the user may read: newest landing first, filtered, page by page."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_modelslab.compat import RecentXCom, recent_xcoms, tasks_of_run
from airflow_provider_modelslab.links.videos import VIDEO_KEY
from airflow_provider_modelslab.plugins.json_values import as_mapping, sound_fields
from airflow_provider_modelslab.plugins.operator_names import OPERATORS
from airflow_provider_modelslab.plugins.task_results import xcom_value

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["MAX_SCANNED", "PAGE_SIZE", "Filters", "read_recent", "tasks_with_videos"]

PAGE_SIZE = 24
MAX_SCANNED = 600
"""Videos that one request reads, at most; with filters it may find fewer than a page, or none."""

_CHUNK = 100
_DECORATED = ("%modelslab_video2video%", "%modelslab_local_video2video%")
_MAX_OFFSET = 1_000_000
_COUNTS = ("found", "landed", "skipped", "failed", "pending")


@dataclass(frozen=True, slots=True)
class Filters:
    """Which videos are wanted; by default all.

    :param words: each must be in the prompt, the model, the location or the name of Dag, task or run, in any case.
    :param dag: a part of the Dag's name.
    :param model: a part of the model's name.
    :param outcome: ``landed`` where nothing failed, ``partial`` where clips of a batch failed or were not reached.
    :param since: landed at this time or later.
    :param until: landed before this time.
    """

    words: tuple[str, ...] = ()
    dag: str = ""
    model: str = ""
    outcome: Literal["", "landed", "partial"] = ""
    since: datetime | None = None
    until: datetime | None = None

    def match(self, item: dict[str, Any]) -> bool:
        """Whether a video is wanted; its Dag and its time are checked by the query."""
        if self.outcome and item["outcome"] != self.outcome:
            return False
        if self.model.lower() not in str(item["model_id"] or "").lower():
            return False
        names = ("prompt", "model_id", "uri", "dag_id", "task_id", "run_id")
        text = " ".join(str(item[name]) for name in names if item[name] is not None).lower()
        return all(word.lower() in text for word in self.words)


def read_recent(
    session: Session, dag_ids: Collection[str], after: str | None = None, filters: Filters | None = None
) -> dict[str, Any]:
    """One page: ``items``, and ``next``, the ``after`` of the next one; ``None`` on the last.

    :param dag_ids: the Dags that the user may read.
    :param after: ``next`` of the page before, for the same filters.
    :raises ValueError: when ``after`` is not the ``next`` of a page, or a time is none in UTC.
    """
    filters = filters or Filters()
    since, before = (None if time is None else _in_utc(time) for time in (filters.since, filters.until))
    at, passed = _position(after) if after else (None, 0)
    wanted = [dag_id for dag_id in dag_ids if filters.dag.lower() in dag_id.lower()]

    def read(limit: int) -> list[RecentXCom]:
        return recent_xcoms(
            session,
            wanted,
            key=VIDEO_KEY,
            since=since,
            before=before,
            until=at,
            offset=passed,
            limit=limit,
        )

    items: list[dict[str, Any]] = []
    scanned = 0
    while wanted and len(items) < PAGE_SIZE and scanned < MAX_SCANNED:
        rows = read(_CHUNK)
        for row in rows:
            passed = passed + 1 if row.written_at == at else 1
            at, scanned = row.written_at, scanned + 1
            item = _item(row)
            if item is not None and filters.match(item):
                items.append(item)
                if len(items) == PAGE_SIZE:
                    break
        if len(rows) < _CHUNK and len(items) < PAGE_SIZE:
            return {"items": items, "next": None}
    has_more = bool(wanted) and bool(read(1))
    return {"items": items, "next": f"{at.isoformat()}/{passed}" if at and has_more else None}


def tasks_with_videos(session: Session, dag_id: str, run_id: str) -> list[str]:
    """The ids of the tasks of a run that make, fetch or await videos, 50 at most."""
    return tasks_of_run(session, dag_id, run_id, operators=OPERATORS, decorated=_DECORATED, limit=50)


def _position(after: str) -> tuple[datetime, int]:
    """The position after the earlier pages: a landing's time, and how many videos of this time they had."""
    moment, _, passed = after.partition("/")
    until, offset = datetime.fromisoformat(moment), int(passed)
    if until.tzinfo is None or not 0 <= offset < _MAX_OFFSET:
        raise ValueError(f"{after!r} is not a time with an offset and a count")
    return _in_utc(until), offset


def _in_utc(time: datetime) -> datetime:
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(str(error)) from error


def _item(row: RecentXCom) -> dict[str, Any] | None:
    """What a card shows; ``None`` for what is no record of this provider: people can edit XComs."""
    found = as_mapping(xcom_value(row.value))
    record = sound_fields(found)
    kind = record.get("kind")
    if kind not in ("single", "batch"):  # no set: it may not be hashable
        return None
    counts = None
    if kind == "batch":
        given = sound_fields(as_mapping(record.get("counts")))
        counts = {name: given.get(name) for name in _COUNTS}
        if not counts["landed"] and not counts["skipped"]:
            return None
    is_partial = counts is not None and bool(counts["failed"] or counts["pending"])
    prompt = record.get("prompt")
    return {
        "dag_id": row.dag_id,
        "run_id": row.run_id,
        "task_id": row.task_id,
        "map_index": row.map_index,
        "loop_index": row.loop_index,
        "landed_at": row.written_at.isoformat(),
        "kind": kind,
        "outcome": "partial" if is_partial else "landed",
        "counts": counts,
        "uri": record.get("uri"),
        "prompt": prompt if isinstance(prompt, str) else None,
        "model_id": record.get("model_id"),
        "seed": record.get("seed"),
        "seconds": record.get("seconds"),
    }
