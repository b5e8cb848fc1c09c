"""Runs the jobs of a clip's segments as a batch runs those of its clips: in a window, to the end or a deferral."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.batch.running.protocols import InFlight
from airflow_provider_modelslab.batch.running.runner import BatchRunner
from airflow_provider_modelslab.batch.running.window import Window
from airflow_provider_modelslab.client.polling.registry import shared_poller
from airflow_provider_modelslab.jobs.batch_jobs import PolledJobs
from airflow_provider_modelslab.jobs.whole_clip.segment_jobs import SegmentJobs, SegmentOutcomes
from airflow_provider_modelslab.ledger.model import Submission
from airflow_provider_modelslab.storage.result_manifest import Job

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
    :ivar deadlines: of the jobs that run, by key, in seconds since the epoch.
    """

    clip: WholeClip
    opened: OpenedClip
    max_in_flight: int
    policy: PollPolicy
    defer_after: float | None = None
    state: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        segments, state = self.opened.segments.plan.segments, self.state
        if state.get("segments") != self._set_of_segments:
            state = {}  # the first process, or the clip was cut anew; the ledgers know what is paid for
        self.outcomes = SegmentOutcomes(self.opened.segments)
        for item in state.get("failed", ()):
            self.outcomes.restore(segments[item["segment"]], item)
        self.window = Window(self.max_in_flight)
        if "window" in state:
            self.window.resume(state["window"])
        self.jobs = SegmentJobs(self.clip, self.opened.segments, self.opened.listing, set(state.get("again", ())))
        self.jobs.known_jobs.restore(state.get("known_jobs", {}))
        self.deadlines: dict[tuple[str, str], float] = {}
        self._in_flight: list[InFlight[Segment]] = []
        for item in state.get("in_flight", ()):
            job = Job.from_dict(item["job"])
            self.deadlines[job.key] = item["deadline"]
            submission = Submission(item["submission"], job, resumed=item["resumed"])
            self._in_flight.append(InFlight(segments[item["segment"]], submission))
        self.runner: BatchRunner[Segment] | None = None

    @property
    def _set_of_segments(self) -> str:
        return f"{self.opened.segments.folder}/{self.opened.segments.number}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON from which another process of the same try goes on; what is paid for is in the ledgers too."""
        assert self.runner is not None  # noqa: S101 - it has run
        return {
            "segments": self._set_of_segments,
            "window": self.window.state(),
            "again": sorted(self.jobs.again),
            "known_jobs": self.jobs.known_jobs.state(),
            "failed": self.outcomes.failures(),
            "in_flight": [
                {
                    "segment": item.clip.index,
                    "submission": item.submission.number,
                    "resumed": item.submission.resumed,
                    "job": item.submission.job.to_dict(),
                    "deadline": self.deadlines[key],
                }
                for key, item in self.runner.waiting.items()
            ],
        }

    async def run(self) -> bool:
        """Work until all segments are done, or only waiting is left; whether all are done.

        :raises ModelsLabError: for the first segment that came to nothing, once no other job runs; or when a budget has
            no room for another one.
        """
        client = self.clip.hook.new_async_client()
        async with shared_poller(client) as poller, poller.watch((), policy=self.policy) as watch:
            begun = {item.clip.index for item in self._in_flight} | self.outcomes.failed_segments
            self.runner = BatchRunner(
                [segment for segment in self.opened.segments.plan.segments if segment.index not in begun],
                self.jobs,
                PolledJobs(watch, self.deadlines, timeout=self.clip.timeout),
                self.outcomes,
                self.window,
                defer_after=self.defer_after,
                refusal_timeout=self.clip.timeout,
                stopped=self.outcomes.too_many(),
            )
            self.runner.resume(self._in_flight)
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
