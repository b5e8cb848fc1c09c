"""Where a result goes and where its ledger is: the same one that a batch finds for the same destination."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.operators.arguments import resolve_destination
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, S3ErrorKind, kind_of, storage_error
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

__all__ = ["COMMAND", "destination_of", "refuse_to_overwrite", "root_of"]

COMMAND = "airflow modelslab"
"""The command line in place of a Dag's id, in ledger entries."""


def destination_of(hook: ModelsLabHook, to: str | None, name: str, suffix: str) -> S3Uri:
    """Where a result lands.

    :param to: as it was typed.
    :param name: a link, object or file after which a result below a prefix is named, or a plain name.
    :raises StorageConfigurationError: when no bucket is named anywhere, or ``to`` is no place for a result.
    """
    stem = PurePosixPath(urlsplit(name).path if "://" in name else name).stem or "result"
    target = resolve_destination(to, hook.s3_profile, f"{stem}.{suffix}", field="--to")
    if target is None:
        raise StorageConfigurationError(
            f"--to: is needed, such as s3://bucket/out.{suffix}, because the connection "
            f"{hook.modelslab_conn_id!r} names no bucket"
        )
    return target


def root_of(hook: ModelsLabHook, given: str | None, target: S3Uri | None = None) -> S3Uri:
    """Where ledgers are kept.

    :param given: what ``--root`` says; without it, the place that tasks of this connection use.
    :param target: a result, in whose bucket they are where the connection names none.
    :raises InvalidRequestError: when neither says.
    """
    root = S3Uri.parse(given.rstrip("/")) if given else hook.s3_profile.ledger_root(target)
    if root is None:
        raise InvalidRequestError.of(
            "--root", f"is needed, because the connection {hook.modelslab_conn_id!r} names no bucket"
        )
    return root


def refuse_to_overwrite(hook: ModelsLabHook, target: S3Uri) -> None:
    """Make sure that there is nothing at the destination.

    :raises StorageConfigurationError: when there is.
    """
    try:
        hook.get_s3_client().head_object(Bucket=target.bucket, Key=target.key)
    except S3_ERRORS as error:
        if kind_of(error) in {S3ErrorKind.NO_OBJECT, S3ErrorKind.ACCESS_DENIED}:
            return  # 403: without s3:ListBucket S3 does not tell what is missing
        raise storage_error(error, target) from error
    raise StorageConfigurationError(
        f"{target} already exists and is not the result of this request. Choose another --to, or replace it with "
        "--overwrite"
    )
