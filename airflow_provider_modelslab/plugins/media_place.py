"""What a link leads to: only what this task wrote itself, and only where S3 or Airflow bears that out.

An ``s3://`` URI in an XCom is a claim, which is checked before it is signed: a result and a manifest lie where this
task writes (see :mod:`~airflow_provider_modelslab.plugins.own_places`), and a clip is among the task's rendered fields
or in the sidecar of its result.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_modelslab.links.media import FACTS_KEY
from airflow_provider_modelslab.plugins.own_places import is_result, is_results_manifest
from airflow_provider_modelslab.plugins.task_results import xcom_value
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from airflow_provider_modelslab.plugins.gallery_store import Store
    from airflow_provider_modelslab.plugins.task_results import TaskResult

__all__ = ["FILES", "What", "is_borne_out", "read_facts"]

What = Literal["result", "source", "manifest", "sidecar", "job"]

FILES = {"result": "result", "source": "source", "manifest": "manifest", "sidecar": "manifest"}
"""Which of the task's facts names the file."""


def read_facts(session: Session, task: TaskResult) -> dict[str, str]:
    """What the task told its links lead to; empty where it told nothing."""
    from airflow.models.xcom import XComModel
    from sqlalchemy import select

    key = {"dag_id": task.dag_id, "run_id": task.run_id, "task_id": task.task_id, "map_index": task.map_index}
    where = [getattr(XComModel, name) == value for name, value in {**key, "key": FACTS_KEY}.items()]
    told = xcom_value(session.execute(select(XComModel.value).where(*where)).scalar_one_or_none())
    if not isinstance(told, Mapping):
        return {}
    return {name: value for name, value in told.items() if isinstance(value, str)}


def is_borne_out(what: What, uri: S3Uri, task: TaskResult, facts: Mapping[str, str], store: Store) -> bool:
    """Whether more than an XCom says that this object is the task's.

    :raises StorageConfigurationError: when S3 refuses.
    """
    if what == "result":
        return is_result(task, store.profile, uri) and bool(store.sidecar(uri))
    if what == "source":
        if str(uri) in _texts(task.fields):
            return True
        named = facts.get("result", "")
        result = S3Uri.parse(named) if named.startswith("s3://") else None
        told = store.sidecar(result) if result and is_result(task, store.profile, result) else {}
        return (told.get("request") or {}).get("init_video") == str(uri)
    if uri.key.endswith(".json"):
        beside = S3Uri(uri.bucket, uri.key.removesuffix(".json"))
        return is_result(task, store.profile, beside) and bool(store.sidecar(beside))
    return is_results_manifest(task, store.profile, uri)


def _texts(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
