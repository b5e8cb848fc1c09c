"""OpenLineage and asset events of the batch operators."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.lineage.report import Report, request_of

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.batch.results.tracker import BatchTracker
    from airflow_provider_modelslab.lineage.uris import Output

__all__ = ["MAX_ASSETS", "MAX_INPUTS", "BatchReport"]

log = logging.getLogger(__name__)

MAX_ASSETS = 100
"""Clips of a batch, at most, that become assets of their own.

A task sends all its events in one API call with a time-out of 5 seconds (``[workers] execution_api_timeout``). On a
busy machine with two cores and SQLite 50 took 0.4 s and 200 took 2.9 s; with 1,000, 11 s, the task failed.
"""

MAX_INPUTS = 100
"""Clips, at most, that a lineage event names if they are not below one prefix."""

_COSTS = ("jobs", "cost", "currency", "saved")
_COUNTS = ("found", "landed", "skipped", "failed", "pending")


class BatchReport(Report):
    """Report of an operator that restyles many clips and returns a summary."""

    source: Any
    modelslab_conn_id: str
    model_id: str | None
    asset_per_clip: bool
    _tracker: BatchTracker | None = None

    def _read(self) -> list[str]:
        return self._clips()[0]

    def _clips(self) -> tuple[list[str], int]:
        """The inputs that the event names, and the number of clips that it leaves out."""
        plan = self._tracker.plan if self._tracker else None
        if plan is not None and plan.where:
            return [plan.where], 0
        if plan is not None:
            return [clip.safe_source for clip in plan.clips[:MAX_INPUTS]], max(0, len(plan) - MAX_INPUTS)
        source = self.source.get("manifest") if isinstance(self.source, Mapping) else self.source
        if isinstance(source, str):
            return [source], 0
        # Before the clips are planned only the source is known.
        items = [item for item in source if isinstance(item, str)] if isinstance(source, list | tuple) else []
        return items[:MAX_INPUTS], max(0, len(items) - MAX_INPUTS)

    def _made(self) -> list[Output]:
        from airflow_provider_modelslab.lineage.uris import Output

        counts = self._counts()
        there = counts.get("landed", 0) + counts.get("skipped", 0)
        return [Output(self._prefix(), self._bytes(), there)] if there else []

    def _facts(self) -> dict[str, Any]:
        result = self._result or {}
        # As planned: a resumed task continues with its plan.
        request = request_of(self._tracker.plan.common if self._tracker else self)
        return {
            "conn_id": self.modelslab_conn_id,
            "model_id": request.get("model_id"),
            "seed": request.get("seed"),
            "request": request,
            "bytes": self._bytes() if self._tracker else None,
            "counts": self._counts(),
            **self._billing(),
            "reused": self._is_reused() if result else None,
            "manifest": result.get("manifest"),
            "retry": result.get("retry"),
            "inputs_left_out": self._clips()[1] or None,
        }

    def _extra(self) -> dict[str, Any]:
        result = self._result or {}
        common = self._tracker.plan.common if self._tracker else {}
        return {
            "uri": self._prefix(),
            "model_id": common.get("model_id"),
            "seed": common.get("seed"),
            "conn_id": self.modelslab_conn_id,
            **{name: result.get(name) for name in (*_COUNTS, *_COSTS, "bytes", "seconds", "manifest", "retry")},
            "reused": self._is_reused(),
        }

    def _landed(self, context: Context) -> list[tuple[str, dict[str, Any]]]:
        if self._tracker is None:
            return []
        whole = [(output.uri, self._extra()) for output in self._made()]
        if not self.asset_per_clip:
            return whole
        began = getattr(context.get("dag_run"), "start_date", None)
        new = self._tracker.landed_since(began.timestamp() if began else None)
        if len(new) > MAX_ASSETS:
            log.warning(
                "%d clips landed, but at most %d get an asset each. Instead, there is one asset for the prefix",
                len(new),
                MAX_ASSETS,
            )
            return whole
        common = self._tracker.plan.common
        return [
            (
                str(clip.destination),
                {
                    "uri": str(clip.destination),
                    "source": clip.safe_source,
                    "bytes": outcome.bytes,
                    "sha256": outcome.sha256,
                    "model_id": clip.overrides.get("model_id") or common.get("model_id"),
                    "seed": outcome.seed,
                    "job_id": outcome.job_id,
                    "conn_id": self.modelslab_conn_id,
                    "manifest": (self._result or {}).get("manifest"),
                    "reused": False,
                },
            )
            for clip, outcome in new
        ]

    def _prefix(self) -> str:
        return str(self._tracker.plan.output.folder()) if self._tracker else ""

    def _counts(self) -> dict[str, int]:
        return self._tracker.outcomes.counts() if self._tracker else {}

    def _billing(self) -> dict[str, Any]:
        """The cost; the generation time has the same name as for one clip."""
        billing = self._tracker.bill() if self._tracker else {}
        seconds = billing.get("generation_s") or None
        return {**{name: billing.get(name) for name in _COSTS}, "generation_time_s": seconds}

    def _bytes(self) -> int:
        return sum(outcome.bytes or 0 for _, outcome in self._tracker.outcomes) if self._tracker else 0

    def _is_reused(self) -> bool:
        counts = self._counts()
        return not counts.get("landed") and bool(counts.get("skipped"))
