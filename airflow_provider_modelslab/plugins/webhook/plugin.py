"""The plugin that receives the endpoint's webhooks at Airflow's API server. Off unless it is configured.

Every process of Airflow may load this file, so it imports nothing: the application is made at the first request.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowPlugin, conf

from airflow_provider_modelslab.plugins.lazy_asgi import LazyApp

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["ModelsLabWebhookPlugin", "make_receiver", "mounted_apps", "served_conn_ids"]

_SECTION = "modelslab"
_PER_MINUTE = 300


def served_conn_ids() -> list[str]:
    """The connections of ``[modelslab] webhook_conn_ids``, joined by commas there; none by default."""
    named = str(conf.get(_SECTION, "webhook_conn_ids", fallback="") or "")
    return list(dict.fromkeys(part.strip() for part in named.split(",") if part.strip()))


def make_receiver(conn_ids: list[str]) -> ASGIApp:
    """The application.

    :param conn_ids: the connections whose webhooks are accepted.
    """
    from airflow_provider_modelslab.plugins.webhook.app import Receiver
    from airflow_provider_modelslab.plugins.webhook.notify import report, wake_waiting
    from airflow_provider_modelslab.plugins.webhook.rate_limit import ClaimRateLimiter
    from airflow_provider_modelslab.plugins.webhook.service import WebhookService
    from airflow_provider_modelslab.plugins.webhook.tokens import WebhookTokens, fetch
    from airflow_provider_modelslab.triggers.minimum_wait import min_deferral

    limiter = ClaimRateLimiter(conf.getint(_SECTION, "webhook_confirmations_per_minute", fallback=_PER_MINUTE))
    shortest_wait = min_deferral()
    pauses = (shortest_wait + 1, 2 * shortest_wait + 1)
    return Receiver(
        WebhookTokens(conn_ids),
        WebhookService(fetch=fetch, report=report, wake=wake_waiting, limiter=limiter, pauses=pauses),
    )


def mounted_apps() -> list[dict[str, Any]]:
    """What the API server mounts."""
    conn_ids = served_conn_ids()
    if not conn_ids:
        return []  # nothing is mounted, so nothing answers
    app = LazyApp(partial(make_receiver, conn_ids))
    return [{"app": app, "url_prefix": "/modelslab/webhook", "name": "ModelsLab webhook"}]


class ModelsLabWebhookPlugin(AirflowPlugin):
    """``POST <API server>/modelslab/webhook/<token>``, for the connections that the configuration names."""

    name = "modelslab_webhook"
    fastapi_apps = mounted_apps()
