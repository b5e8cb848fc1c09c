"""The operators behind the decorators for the endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import DecoratedOperator

from airflow_provider_modelslab.decorators.functions import BatchTask, ClipTask
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.batch.planning.plan import BatchPlan

__all__ = ["Video2VideoBatchDecoratedOperator", "Video2VideoDecoratedOperator"]


class Video2VideoDecoratedOperator(ClipTask, ModelsLabVideo2VideoOperator):
    """``@task.modelslab_video2video``.

    After a deferral the function is not called again, unless the job that an earlier try had paid for failed and
    another is submitted.
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *ModelsLabVideo2VideoOperator.template_fields)
    custom_operator_name = "@task.modelslab_video2video"


class Video2VideoBatchDecoratedOperator(BatchTask, ModelsLabVideo2VideoBatchOperator):
    """``@task.modelslab_video2video_batch``.

    After a deferral the function is called again only if it had returned links with a query: they may be signed, so
    they are never stored.
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in ModelsLabVideo2VideoBatchOperator.template_fields if name != "source"),
    )
    custom_operator_name = "@task.modelslab_video2video_batch"
    _resumed_in: Context | None = None

    def execute_complete(self, context: Context, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Resume after the trigger."""
        self._resumed_in = context
        return super().execute_complete(context, *arguments, **named)

    def _plan(self, conn_id: str) -> BatchPlan:
        if not self._filled and self._resumed_in is not None:
            self._fill_in(self._resumed_in)
        return super()._plan(conn_id)
