"""What every operator that lands results has: where they land, and the hook of the connection that leads there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.operators.arguments import check_destination, is_literal
from airflow_provider_modelslab.storage.extra_args import checked_extra_args

if TYPE_CHECKING:
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

__all__ = ["DestinationArguments"]


class DestinationArguments(BaseOperator):
    """Where results land, and which connection has the access to it.

    :param destination: where results land (templated): an ``s3://`` URI, or a key or prefix below the connection's
        bucket. By default the connection's bucket and prefix. A key is used unchanged: ``s3://bucket//out/`` and
        ``s3://bucket/out/`` are different folders.
    :param modelslab_conn_id: the Airflow connection (templated).
    :param extra_args: arguments of ``put_object`` for every write to S3 (templated), also of the ledger and the
        sidecars, for example ``{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "..."}``. Each one replaces the
        argument of the same name in the connection's extra; ``None`` removes it. ``RequestPayer`` applies to reads too.
    :raises StorageConfigurationError: for a destination that is invalid with any connection, or ``extra_args`` that are
        not allowed.
    """

    destination_fields: ClassVar[tuple[str, ...]] = ("destination", "modelslab_conn_id", "extra_args")

    def __init__(
        self,
        *,
        destination: str | None = None,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        extra_args: Mapping[str, Any] | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.modelslab_conn_id = modelslab_conn_id
        self.extra_args = extra_args
        if is_literal(destination):
            check_destination(destination)
        if is_literal(extra_args):
            checked_extra_args(extra_args)

    @cached_property
    def hook(self) -> ModelsLabHook:
        """The hook of this task's connection."""
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

        return ModelsLabHook(self.modelslab_conn_id, extra_args=self.extra_args)
