"""The XCom of each task that landed videos. The page "Videos" reads these alone: Airflow has an index on an XCom's key.

A task that submits or waits, and one whose result stays at the endpoint, has none. A batch whose task fails has one if
clips of it landed: the task returned nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

__all__ = ["VIDEO_KEY", "push_batch_video", "push_video"]

log = logging.getLogger(__name__)

VIDEO_KEY = "modelslab_video"
"""The key of the XCom."""

_COUNTS = ("found", "landed", "skipped", "failed", "pending")
_MAX_PROMPT = 2000


def push_video(context: Context, operator: BaseOperator, manifest: Mapping[str, Any]) -> None:
    """Record that a task of one clip landed its result; does nothing for a manifest of another status.

    :param manifest: what the task returns.
    """
    if manifest.get("status") != "landed":
        return
    job = getattr(operator, "job", None)  # of another task, which this one lands
    request = job.get("request") if isinstance(job, Mapping) else None
    request = request if isinstance(request, Mapping) else {}
    record = {
        "kind": "single",
        "uri": manifest.get("uri"),
        "prompt": getattr(operator, "prompt", None) or request.get("prompt"),
        "model_id": manifest.get("model_id") or getattr(operator, "model_id", None),
        "seed": manifest.get("seed"),
        "seconds": manifest.get("generation_time_s"),
    }
    _push(context, operator, record)


def push_batch_video(
    context: Context, operator: BaseOperator, summary: Mapping[str, Any], common: Mapping[str, Any]
) -> None:
    """Record how many clips of a batch landed; does nothing if none did.

    :param summary: the batch's, also of one that fails.
    :param common: the attributes that its clips share.
    """
    counts = {name: summary.get(name) for name in _COUNTS}
    if not counts["landed"] and not counts["skipped"]:
        return
    record = {
        "kind": "batch",
        "uri": summary.get("manifest"),
        "prompt": common.get("prompt"),
        "model_id": common.get("model_id"),
        "counts": counts,
        "seconds": summary.get("seconds"),
    }
    _push(context, operator, record)


def _push(context: Context, operator: BaseOperator, record: dict[str, Any]) -> None:
    """Never raises: a page that lacks a card must not fail a paid task."""
    if not getattr(operator, "do_xcom_push", True):
        return
    if record["prompt"] is not None:
        record["prompt"] = str(record["prompt"])[:_MAX_PROMPT]
    try:
        context["ti"].xcom_push(key=VIDEO_KEY, value={"schema_version": 1, **record})
    except Exception as error:  # noqa: BLE001 - see above
        log.warning("The page Videos will not show this task: %s: %s", type(error).__name__, error)
