"""Asset events of what has landed: metadata for the outlets that a task declares, and assets for its aliases."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.lineage.uris import asset_uri

if TYPE_CHECKING:
    from airflow.sdk import Context

__all__ = ["emit_assets"]

log = logging.getLogger(__name__)


def emit_assets(
    outlets: Iterable[object],
    context: Context,
    extra: Mapping[str, Any],
    landed: Iterable[tuple[str, Mapping[str, Any]]],
) -> None:
    """Add what a task has landed to its asset events.

    An ``Asset`` among the outlets gets ``extra`` with its event; the Dag author's own keys are kept. An ``AssetAlias``
    gets one asset for each entry of ``landed``. Nothing is raised: the result is paid for, and a failed event must not
    fail the task.

    :param outlets: of the task.
    :param extra: plain JSON without secrets.
    :param landed: URIs, each with the ``extra`` of its event.
    """
    events = context.get("outlet_events")
    if events is None or not (outlets := list(outlets)):
        return
    from airflow.sdk import Asset, AssetAlias

    entries = list(landed)
    for outlet in outlets:
        try:
            if isinstance(outlet, AssetAlias):
                for uri, about in entries:
                    events[outlet].add(Asset(asset_uri(uri)), extra=dict(about))
            else:
                noted = events[outlet].extra  # type: ignore[index]  # an Asset, or a reference to one
                noted.update({name: value for name, value in extra.items() if name not in noted})
        except Exception as error:  # noqa: BLE001 - see above
            log.warning("The event of %r has no details of the results: %s: %s", outlet, type(error).__name__, error)
