"""The plugin behind the links on tasks: what a task made, read with its connection by whoever may see the task.

Every process of Airflow loads this file, so it imports nothing: the application is made at the first call.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin

from airflow_provider_modelslab.links.media import MEDIA_PREFIX

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["ModelsLabMediaPlugin"]


class _Late:
    """An application that is made when it is first called."""

    @cached_property
    def _app(self) -> ASGIApp:
        from airflow_provider_modelslab.plugins.media_app import make_app

        return make_app()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class ModelsLabMediaPlugin(AirflowPlugin):
    """``GET <API server>/modelslab/media/``: the targets of the links on tasks."""

    name = "modelslab_media"
    fastapi_apps: list[Any] = [  # noqa: RUF012 - declared so by the base class
        {"app": _Late(), "url_prefix": MEDIA_PREFIX, "name": "ModelsLab media"}
    ]
