"""What a link leads to: only what this task wrote itself, and only where S3 or Airflow bears that out.

An ``s3://`` URI in an XCom is a claim, which is checked before it is signed: a result and a manifest lie where this
task writes (see :mod:`~airflow_provider_modelslab.plugins.authorization.locations`), and a clip is the task's own (see
:mod:`~airflow_provider_modelslab.plugins.authorization.records`). So is a job before the endpoint is asked about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_modelslab.plugins.authorization.locations import is_result, is_results_manifest
from airflow_provider_modelslab.plugins.authorization.records import may_expose_source
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage
    from airflow_provider_modelslab.plugins.task_results import TaskResult
    from airflow_provider_modelslab.storage.s3_profile import S3Profile

__all__ = ["FILES", "What", "is_task_location", "is_verified", "verified_sidecar"]

What = Literal["result", "source", "manifest", "sidecar", "job"]

FILES = {"result": "result", "source": "source", "manifest": "manifest", "sidecar": "manifest"}
"""Which of the task's facts names the file."""


def is_task_location(what: What, uri: S3Uri, task: TaskResult, profile: S3Profile) -> bool:
    """Whether this task writes its result or manifest there, whether anything is there or not."""
    result = _result_told_of(what, uri)
    return is_results_manifest(task, profile, uri) if result is None else is_result(task, profile, result)


def is_verified(what: What, uri: S3Uri, task: TaskResult, facts: Mapping[str, str], store: GalleryStorage) -> bool:
    """Whether more than an XCom says that this object is the task's.

    :raises StorageConfigurationError: when S3 refuses.
    """
    if what == "source":
        return may_expose_source(task, store, str(uri), verified_sidecar(task, facts, store))
    if not is_task_location(what, uri, task, store.profile):
        return False
    result = _result_told_of(what, uri)
    return result is None or bool(store.sidecar(result))


def verified_sidecar(task: TaskResult, facts: Mapping[str, str], store: GalleryStorage) -> dict[str, Any]:
    """What the sidecar of the task's own result tells; empty where there is none.

    :raises StorageConfigurationError: when S3 refuses.
    """
    named = facts.get("result", "")
    result = S3Uri.parse(named) if named.startswith("s3://") else None
    return store.sidecar(result) if result and is_result(task, store.profile, result) else {}


def _result_told_of(what: What, uri: S3Uri) -> S3Uri | None:
    """The result itself, or the one that this sidecar tells of; ``None`` for a batch's results manifest."""
    if what == "result":
        return uri
    return S3Uri(uri.bucket, uri.key.removesuffix(".json")) if uri.key.endswith(".json") else None
