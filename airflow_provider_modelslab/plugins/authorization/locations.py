"""The locations a task instance writes to, from its name, its arguments and its connection: nothing a user can edit.

A task's XComs can be edited through Airflow's API by people who have no access to S3. An ``s3://`` URI in an XCom is
signed, or read with the connection's credentials, only if it is one of these locations. Other objects in S3 prove
nothing: the same person may have put them there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.operators.arguments import (
    instance_name,
    is_literal,
    resolve_destination,
    resolve_output,
)
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.plugins.task_results import TaskResult
    from airflow_provider_modelslab.storage.s3_profile import S3Profile

__all__ = ["is_result", "is_results_manifest", "manifest_folder"]

_BATCHES = "_modelslab/batches"


def is_result(task: TaskResult, profile: S3Profile, uri: S3Uri) -> bool:
    """Whether a task of one clip lands its result at ``uri``."""
    name = f"{instance_name(task, task.loop_index)}{PurePosixPath(uri.key).suffix}"
    return _is_own(task, profile, uri, lambda destination: resolve_destination(destination, profile, name))


def is_results_manifest(task: TaskResult, profile: S3Profile, uri: S3Uri) -> bool:
    """Whether a batch writes its results manifest to ``uri``."""
    name = f"{_BATCHES}/{instance_name(task, task.loop_index)}.jsonl"

    def resolve(destination: str | None) -> S3Uri | None:
        output = resolve_output(destination, profile)
        return output and output.child(name)

    return uri.key.endswith(name) and _is_own(task, profile, uri, resolve)


def manifest_folder(task: TaskResult, profile: S3Profile) -> S3Uri | None:
    """Where a batch puts its manifests and checkpoints; ``None`` if that is no longer known."""
    output = resolve_output(task.destination, profile) if is_literal(task.destination) else None
    return output and output.child(_BATCHES)


def _is_own(task: TaskResult, profile: S3Profile, uri: S3Uri, resolve: Callable[[str | None], S3Uri | None]) -> bool:
    destination = task.destination
    if is_literal(destination):
        try:
            return resolve(destination) == uri
        except StorageConfigurationError:
            return False
    # Airflow no longer has the rendered value: the text before the template, or the connection's prefix, is the limit.
    head = (destination or "").partition("{")[0].lstrip()
    if head.startswith("s3://") and "/" in head.removeprefix("s3://"):
        return str(uri).startswith(head)
    return profile.bucket is not None and str(uri).startswith(str(profile.uri()))
