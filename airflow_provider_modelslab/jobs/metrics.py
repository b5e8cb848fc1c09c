"""Airflow's own metrics of paid jobs: counters and timers, with the connection as tag ``conn_id``.

================================= ======= =============================================================================
name                              kind    meaning
================================= ======= =============================================================================
``modelslab.submitted``           counter submits that were accepted
``modelslab.refused``             counter submits that were refused, failed or of unknown outcome, with the tag ``code``
``modelslab.reused``              counter results that were stored already, and served
``modelslab.landed``              counter results that landed in S3
``modelslab.landed_bytes``        counter their bytes
``modelslab.cost_thousandths``    counter what they did cost, in thousandths of the currency, with the tag ``currency``
``modelslab.submit``              timer   a submit, its repeats included
``modelslab.wait``                timer   from a submit until its landing begins
``modelslab.landing``             timer   download, check and upload of a result
================================= ======= =============================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

from airflow.providers.common.compat.sdk import Stats

__all__ = ["landed", "refused", "reused", "submitted"]


def submitted(conn_id: str, seconds: float) -> None:
    """A submit was accepted.

    :param seconds: that it took.
    """
    Stats.incr("modelslab.submitted", tags={"conn_id": conn_id})
    Stats.timing("modelslab.submit", timedelta(seconds=seconds), tags={"conn_id": conn_id})


def refused(conn_id: str, error: BaseException) -> None:
    """A submit was refused, failed at once, or its outcome is unknown."""
    code = str(getattr(error, "code", type(error).__name__))
    Stats.incr("modelslab.refused", tags={"conn_id": conn_id, "code": code})


def reused(conn_id: str) -> None:
    """A stored result served."""
    Stats.incr("modelslab.reused", tags={"conn_id": conn_id})


def landed(conn_id: str, manifest: Mapping[str, Any], *, waited: float | None, seconds: float) -> None:
    """A result landed.

    :param waited: seconds from the submit until the landing began, where that is known.
    :param seconds: that the landing took.
    """
    tags = {"conn_id": conn_id}
    Stats.incr("modelslab.landed", tags=tags)
    Stats.incr("modelslab.landed_bytes", count=int(manifest.get("bytes") or 0), tags=tags)
    if manifest.get("cost") is not None:
        thousandths = round(Decimal(manifest["cost"]) * 1000)
        currency = str(manifest.get("currency") or "")
        Stats.incr("modelslab.cost_thousandths", count=thousandths, tags={**tags, "currency": currency})
    if waited is not None:
        Stats.timing("modelslab.wait", timedelta(seconds=max(0.0, waited)), tags=tags)
    Stats.timing("modelslab.landing", timedelta(seconds=seconds), tags=tags)
