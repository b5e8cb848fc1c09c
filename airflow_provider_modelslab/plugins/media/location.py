"""Verifies the target of a link: it must be this task's own, by records in S3 or in Airflow.

An ``s3://`` URI in an XCom is not trusted; it is checked before it is signed. A result or manifest must be where this
task writes (see :mod:`~airflow_provider_modelslab.plugins.authorization.locations`), a clip must be the task's own (see
:mod:`~airflow_provider_modelslab.plugins.authorization.records`). A job is checked before it is polled.
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
    """Whether this task writes its result or manifest to ``uri``; the object need not exist."""
    result = _described_result(what, uri)
    return is_results_manifest(task, profile, uri) if result is None else is_result(task, profile, result)


def is_verified(what: What, uri: S3Uri, task: TaskResult, facts: Mapping[str, str], store: GalleryStorage) -> bool:
    """Whether a source other than an XCom confirms that this object is the task's.

    :raises StorageConfigurationError: when S3 refuses.
    """
    if what == "source":
        return may_expose_source(task, store, str(uri), verified_sidecar(task, facts, store))
    if not is_task_location(what, uri, task, store.profile):
        return False
    result = _described_result(what, uri)
    return result is None or bool(store.sidecar(result))


def verified_sidecar(task: TaskResult, facts: Mapping[str, str], store: GalleryStorage) -> dict[str, Any]:
    """The sidecar of the task's own result; empty if there is none.

    :raises StorageConfigurationError: when S3 refuses.
    """
    named = facts.get("result", "")
    result = S3Uri.parse(named) if named.startswith("s3://") else None
    return store.sidecar(result) if result and is_result(task, store.profile, result) else {}


def _described_result(what: What, uri: S3Uri) -> S3Uri | None:
    """The result itself, or the one that this sidecar describes; ``None`` for a batch's results manifest."""
    if what == "result":
        return uri
    return S3Uri(uri.bucket, uri.key.removesuffix(".json")) if uri.key.endswith(".json") else None
