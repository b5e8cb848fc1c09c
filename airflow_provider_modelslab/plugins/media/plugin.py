"""The plugin behind the links on tasks: serves a task's media to users who may read the task.

Every process of Airflow loads this file, so it imports nothing: the application is made at the first request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_modelslab.links.media import MEDIA_PREFIX
from airflow_provider_modelslab.plugins.lazy_asgi import LazyApp

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["ModelsLabMediaPlugin"]


def _make() -> FastAPI:
    from airflow_provider_modelslab.plugins.media.app import make_app

    return make_app()


class ModelsLabMediaPlugin(AirflowPlugin):
    """``GET <API server>/modelslab/media/``: the targets of the links on tasks."""

    name = "modelslab_media"
    fastapi_apps: list[Any] = [  # noqa: RUF012 - declared so by the base class
        {"app": LazyApp(_make), "url_prefix": MEDIA_PREFIX, "name": "ModelsLab media"}
    ]
