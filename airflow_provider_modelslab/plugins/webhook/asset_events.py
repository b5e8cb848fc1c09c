"""A video is ready, as an asset event: once for each job within two days, however many workers and calls there are."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.compat import add_asset_event

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["DEFAULT_ASSET", "REMEMBERED", "asset_uri", "note_finished"]

log = logging.getLogger(__name__)

DEFAULT_ASSET = "x-modelslab://CONN_ID/finished"
"""The asset's URI, unless ``[modelslab] webhook_asset`` says otherwise. For any scheme that does not begin with ``x-``
Airflow loads all providers to see who normalises it, 0.3 s in each process that parses a Dag."""

REMEMBERED = timedelta(hours=48)
"""How far back an event for the same job is looked for. The vendor keeps results, and so tells of jobs, for 24 hours; a
server of one's own may number its jobs anew one day. It also bounds what is read at each call."""


def asset_uri(conn_id: str) -> str:
    """The URI of the asset that gets an event for each finished job of a connection."""
    from airflow.providers.common.compat.sdk import conf

    return str(conf.get("modelslab", "webhook_asset", fallback=DEFAULT_ASSET)).replace("CONN_ID", conn_id)


def note_finished(uri: str, extra: dict[str, Any], session: Session) -> bool:
    """Add an event to the asset, unless a recent one is for this job; Airflow then starts what is scheduled on it.

    Nothing happens where no Dag knows the asset.

    :param extra: of the event; ``conn_id`` and ``job_id`` are what is looked for: connections may share an asset.
    :return: whether an event was added.
    """
    since = datetime.now(UTC) - REMEMBERED
    added = add_asset_event(session, uri, extra, same=("job_id", "conn_id"), since=since)
    if added < 0:
        log.info("Job %s is done, and no Dag knows the asset %s", extra["job_id"], uri)
    return added > 0
