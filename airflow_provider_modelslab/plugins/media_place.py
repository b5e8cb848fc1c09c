"""What a link leads to: only what this task wrote itself, and only where S3 or Airflow bears that out.

A task's XComs can be edited through Airflow's API by people who have no access to S3. So an ``s3://`` URI in one is a
claim, which is checked before it is signed: a result has a sidecar that names it, a manifest's name is made of the task
instance, and a clip is among the task's rendered fields or in the sidecar of its result.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, cast
from urllib.parse import quote

from airflow_provider_modelslab.links.media import FACTS_KEY
from airflow_provider_modelslab.operators.arguments import result_name
from airflow_provider_modelslab.plugins.task_results import xcom_value
from airflow_provider_modelslab.storage.sidecar import sidecar_uri
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mypy_boto3_s3 import S3Client
    from sqlalchemy.orm import Session

    from airflow_provider_modelslab.plugins.task_results import TaskResult
    from airflow_provider_modelslab.storage.profile import S3Profile

__all__ = ["FILES", "What", "is_borne_out", "public_url", "read_facts"]

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


def is_borne_out(what: What, uri: S3Uri, task: TaskResult, facts: Mapping[str, str], s3: S3Client) -> bool:
    """Whether more than an XCom says that this object is the task's.

    :raises StorageConfigurationError: when S3 refuses.
    """
    if what == "result":
        return _sidecar(s3, sidecar_uri(uri)).get("uri") == str(uri)
    if what == "source":
        if str(uri) in _texts(task.fields):
            return True
        result = facts.get("result", "")
        if not result.startswith("s3://"):
            return False
        told = _sidecar(s3, sidecar_uri(S3Uri.parse(result)))
        return told.get("uri") == result and (told.get("request") or {}).get("init_video") == str(uri)
    ti = SimpleNamespace(dag_id=task.dag_id, task_id=task.task_id, run_id=task.run_id, map_index=task.map_index)
    name = result_name(cast("Context", {"ti": ti}))
    if uri.key.endswith(f"_modelslab/batches/{name}.jsonl"):
        return True
    return uri.key.endswith(".json") and _sidecar(s3, uri).get("uri") == str(uri).removesuffix(".json")


def public_url(profile: S3Profile, uri: S3Uri) -> str | None:
    """Where anybody can read an object of the profile's own bucket; ``None`` where the profile does not say."""
    if not profile.public_url or uri.bucket != profile.bucket:
        return None
    root = profile.public_base().removesuffix(f"/{profile.directory}/")
    return f"{root}/{quote(uri.key)}"


def _sidecar(s3: S3Client, place: S3Uri) -> dict[str, Any]:
    from airflow_provider_modelslab.batch.objects import read_object

    try:
        content = json.loads(read_object(s3, place) or b"{}")
    except ValueError:
        return {}
    is_sidecar = isinstance(content, dict) and isinstance(content.get("schema_version"), int)
    return content if is_sidecar else {}


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
