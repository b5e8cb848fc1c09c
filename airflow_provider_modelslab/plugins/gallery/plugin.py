"""The plugin of the gallery: its page in the navigation, its tab on task instances, and the routes behind both.

Every Airflow process imports its plugins, so nothing is imported here that is not there already; the routes are built
when the API server gets the first request for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

from airflow_provider_modelslab.plugins.lazy_asgi import LazyApp
from airflow_provider_modelslab.plugins.operator_names import DECORATORS, OPERATORS

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["GALLERY_PREFIX", "ModelsLabGalleryPlugin"]

GALLERY_PREFIX = "/modelslab/gallery"

# Without a slash in front they are relative to the <base> of Airflow's page, so they hold below any base_url.
_PAGE = GALLERY_PREFIX.lstrip("/") + "/"
_TASK = f"{_PAGE}?dag_id={{DAG_ID}}&run_id={{RUN_ID}}&task_id={{TASK_ID}}&map_index={{MAP_INDEX}}"
_ICONS = {"icon": f"{_PAGE}icon.svg", "icon_dark_mode": f"{_PAGE}icon-dark.svg"}

_TAB: dict[str, Any] = {
    "name": "Video",
    "href": _TASK,
    "destination": "task_instance",
    "url_route": "modelslab-video",
    # Airflow 3.4 shows the tab on these tasks alone; earlier versions show it on all, and ignore this.
    "applies_to": {"task_instance.operator_name": [*OPERATORS, *DECORATORS]},
    **_ICONS,
}


def _make() -> FastAPI:
    from airflow_provider_modelslab.plugins.gallery.app import make_app

    return make_app()


class ModelsLabGalleryPlugin(AirflowPlugin):
    """Source and result side by side on each task instance, a batch as a grid, and the latest videos."""

    name = "modelslab_gallery"
    fastapi_apps: list[Any] = [  # noqa: RUF012 - as in the base class
        {"name": "ModelsLab gallery", "app": LazyApp(_make), "url_prefix": GALLERY_PREFIX}
    ]
    external_views: list[Any] = [  # noqa: RUF012
        {
            "name": "ModelsLab",
            "href": _PAGE,
            "destination": "nav",
            "category": "browse",
            "url_route": "modelslab-gallery",
            **_ICONS,
        },
        *([_TAB] if conf.getboolean("modelslab", "video_tab", fallback=True) else []),
    ]
