"""The operators behind the decorators for a GPU of your own."""

from __future__ import annotations

from collections.abc import Sequence

from airflow.providers.common.compat.sdk import DecoratedOperator

from airflow_provider_modelslab.decorators.functions import BatchTask, ClipTask
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator

__all__ = ["LocalVideo2VideoBatchDecoratedOperator", "LocalVideo2VideoDecoratedOperator"]


class LocalVideo2VideoDecoratedOperator(ClipTask, LocalVideo2VideoOperator):
    """``@task.modelslab_local_video2video``."""

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *LocalVideo2VideoOperator.template_fields)
    custom_operator_name = "@task.modelslab_local_video2video"


class LocalVideo2VideoBatchDecoratedOperator(BatchTask, LocalVideo2VideoBatchOperator):
    """``@task.modelslab_local_video2video_batch``."""

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in LocalVideo2VideoBatchOperator.template_fields if name != "source"),
    )
    custom_operator_name = "@task.modelslab_local_video2video_batch"
