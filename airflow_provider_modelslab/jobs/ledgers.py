"""The ledgers of results, below the root that tasks and commands of a connection use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_modelslab.ledger.listing import LedgerRoot

if TYPE_CHECKING:
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["ledgers_of"]


def ledgers_of(hook: ModelsLabHook, destination: S3Uri) -> LedgerRoot:
    """The ledgers beside that of the result at this destination."""
    root = hook.s3_profile.ledger_root(destination)
    assert root is not None  # noqa: S101 - there is one wherever there is a destination
    return LedgerRoot(hook.get_s3_client(), root)
