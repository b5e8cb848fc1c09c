"""A video is ready, as an asset event: once for each job within two days, however many workers and calls there are."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

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

    The asset's row is locked until the session's transaction ends, so of two API servers that got the same call one
    finds the other's event. Nothing happens where no Dag knows the asset.

    :param extra: of the event; ``conn_id`` and ``job_id`` are what is looked for: connections may share an asset.
    :return: whether an event was added.
    """
    import sqlalchemy as sa
    from airflow.assets.manager import asset_manager
    from airflow.models.asset import AssetEvent, AssetModel

    assets = session.scalars(sa.select(AssetModel).where(AssetModel.uri == uri, AssetModel.active.has())).all()
    added = False
    for asset in assets:
        # An update that changes nothing locks the row on every database, and on SQLite the file.
        session.execute(
            sa.update(AssetModel)
            .where(AssetModel.id == asset.id)
            .values(uri=AssetModel.uri)
            .execution_options(synchronize_session=False)
        )
        stored = sa.type_coerce(AssetEvent.extra, sa.JSON())
        told = sa.select(AssetEvent.id).where(
            AssetEvent.asset_id == asset.id,
            AssetEvent.timestamp > datetime.now(UTC) - REMEMBERED,
            *(stored[name].as_string() == extra[name] for name in ("job_id", "conn_id")),
        )
        if session.scalar(told.limit(1)) is None:
            asset_manager.register_asset_change(asset=asset, extra=extra, source_is_api=True, session=session)
            added = True
    if not assets:
        log.info("Job %s is done, and no Dag knows the asset %s", extra["job_id"], uri)
    return added
