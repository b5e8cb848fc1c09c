"""Asset events of finished videos: one for each job within two days, however many processes and webhooks there are."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.compat import add_asset_event

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["DEFAULT_ASSET", "DUPLICATE_WINDOW", "asset_uri", "record_finished"]

log = logging.getLogger(__name__)

DEFAULT_ASSET = "x-modelslab://CONN_ID/finished"
"""The asset's URI, unless ``[modelslab] webhook_asset`` says otherwise. For any scheme that does not begin with ``x-``
Airflow loads all providers to see who normalises it, 0.3 s in each process that parses a Dag."""

DUPLICATE_WINDOW = timedelta(hours=48)
"""How far back an event for the same job counts as a duplicate. The vendor keeps results, and answers for jobs, for 24
hours; a server of your own may restart its job numbers one day. It also limits what each webhook reads."""


def asset_uri(conn_id: str) -> str:
    """The URI of the asset that gets an event for each finished job of a connection."""
    from airflow.providers.common.compat.sdk import conf

    return str(conf.get("modelslab", "webhook_asset", fallback=DEFAULT_ASSET)).replace("CONN_ID", conn_id)


def record_finished(uri: str, extra: dict[str, Any], session: Session) -> bool:
    """Add an event to the asset, unless a recent one is for this job; Airflow then starts what is scheduled on it.

    Nothing happens where no Dag knows the asset.

    :param extra: of the event; ``conn_id`` and ``job_id`` identify duplicates, since connections may share an asset.
    :return: whether an event was added.
    """
    since = datetime.now(UTC) - DUPLICATE_WINDOW
    added = add_asset_event(session, uri, extra, same=("job_id", "conn_id"), since=since)
    if added < 0:
        log.info("Job %s is done. No event is created, because no Dag has the asset %s", extra["job_id"], uri)
    return added > 0
