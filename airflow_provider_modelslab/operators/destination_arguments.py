"""What every operator that lands results has: where they land, and the hook of the connection that leads there."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator

from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.operators.arguments import check_destination, is_literal

if TYPE_CHECKING:
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

__all__ = ["DestinationArguments"]


class DestinationArguments(BaseOperator):
    """Where results land, and which connection leads there.

    :param destination: where results land (templated): an ``s3://`` URI, or a key or prefix below the connection's
        bucket. By default the connection's bucket and prefix. A key is taken as it is: ``s3://bucket//out/`` is another
        folder than ``s3://bucket/out/``.
    :param modelslab_conn_id: the Airflow connection (templated).
    :raises StorageConfigurationError: for a destination that no connection can lead to.
    """

    destination_fields: ClassVar[tuple[str, ...]] = ("destination", "modelslab_conn_id")

    def __init__(
        self, *, destination: str | None = None, modelslab_conn_id: str = DEFAULT_CONN_NAME, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.modelslab_conn_id = modelslab_conn_id
        if is_literal(destination):
            check_destination(destination)

    @cached_property
    def hook(self) -> ModelsLabHook:
        """The hook of this task's connection."""
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

        return ModelsLabHook(self.modelslab_conn_id)
