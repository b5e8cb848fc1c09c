"""Runs the jobs of a clip's segments as a batch runs those of its clips: in a window, to the end or a deferral."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.batch.running.runner import BatchRunner
from airflow_provider_modelslab.batch.running.window import Window
from airflow_provider_modelslab.client.polling.registry import shared_poller
from airflow_provider_modelslab.jobs.batch_jobs import PolledJobs
from airflow_provider_modelslab.jobs.whole_clip.segment_jobs import SegmentJobs, SegmentOutcomes

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.poll_policy import PollPolicy
    from airflow_provider_modelslab.jobs.whole_clip.clip import OpenedClip, WholeClip
    from airflow_provider_modelslab.local.media.whole_clip.plan import Segment

__all__ = ["SegmentRun"]


@dataclass
class SegmentRun:
    """The jobs of a clip's segments, in one process.

    :param max_in_flight: jobs that are submitted and not finished, 1 or more.
    :param defer_after: seconds of nothing but waiting after which :meth:`run` returns; ``None`` stays to the end.
    :param state: of an earlier process of the same try, see :meth:`to_dict`.
    :ivar outcomes: what became of the segments.
    """

    clip: WholeClip
    opened: OpenedClip
    max_in_flight: int
    policy: PollPolicy
    defer_after: float | None = None
    state: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.outcomes = SegmentOutcomes(self.opened.segments)
        self.window = Window(self.max_in_flight)
        if "window" in self.state:
            self.window.resume(self.state["window"])
        self.deadlines: dict[str, float] = dict(self.state.get("deadlines", {}))
        again, own = set(self.state.get("again", ())), frozenset(self.state.get("own", ()))
        self.jobs = SegmentJobs(self.clip, self.opened.segments, self.opened.listing, again, own)
        self.runner: BatchRunner[Segment] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON from which another process goes on; what is paid for is in the ledgers."""
        assert self.runner is not None  # noqa: S101 - it has run
        return {
            "window": self.window.state(),
            "deadlines": {job_id: self.deadlines[job_id] for job_id in self.runner.waiting},
            "again": sorted(self.jobs.again),
            "own": [
                job_id
                for job_id, item in self.runner.waiting.items()
                if not item.submission.resumed or job_id in self.jobs.own
            ],
        }

    async def run(self) -> bool:
        """Work until all segments are done, or only waiting is left; whether all are done.

        :raises ModelsLabError: for the first segment that came to nothing, once no other job runs; or when a budget has
            no room for another one.
        """
        client = self.clip.hook.new_async_client()
        async with shared_poller(client) as poller, poller.watch((), policy=self.policy) as watch:
            self.runner = BatchRunner(
                self.opened.segments.plan.segments,
                self.jobs,
                PolledJobs(watch, self.deadlines, timeout=self.clip.timeout),
                self.outcomes,
                self.window,
                defer_after=self.defer_after,
                refusal_timeout=self.clip.timeout,
            )
            try:
                await self.runner.run()
            finally:
                self.clip.spending.close()
        if self.runner.suspended:
            return False
        self.outcomes.raise_if_failed()
        if self.jobs.exhausted is not None:
            raise self.jobs.exhausted
        return True
