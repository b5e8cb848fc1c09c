"""Many whole clips in one batch: the jobs are those of their segments, the outcomes are those of the clips.

A clip is opened when its turn comes, and its segments take its place, so few clips are open at a time. The thread that
gets the last result of a clip joins the clip.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_modelslab.api.prices import amount_text
from airflow_provider_modelslab.batch.results.outcomes import Status
from airflow_provider_modelslab.batch.running.protocols import Parts
from airflow_provider_modelslab.jobs.whole_clip.segment_jobs import SegmentJobs, SegmentOutcomes
from airflow_provider_modelslab.ledger.model import Stored

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.errors import ModelsLabError
    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.batch.planning.known_jobs import KnownJobs
    from airflow_provider_modelslab.batch.planning.plan import ClipPlan
    from airflow_provider_modelslab.batch.results.tracker import BatchTracker
    from airflow_provider_modelslab.jobs.whole_clip.clip import OpenedClip, WholeClip
    from airflow_provider_modelslab.ledger.chain import RunHere
    from airflow_provider_modelslab.ledger.model import Submission
    from airflow_provider_modelslab.local.media.whole_clip.plan import Segment

__all__ = ["WholeClipBatch"]

log = logging.getLogger(__name__)

_CUTS = 2  # clips that are cut or joined at a time: each takes a decoder, and a folder for its frames


@dataclass
class WholeClipBatch:
    """The jobs of the clips' segments, and what became of the clips.

    See :class:`~airflow_provider_modelslab.batch.running.protocols.ClipJobs` and
    :class:`~airflow_provider_modelslab.batch.running.protocols.OutcomeSink`. A clip is one of the plan's, or the same
    with the number of a segment.

    :param prepare: makes the whole clip of one of the plan's; called in threads.
    :param again: of an earlier process of the same try, see :meth:`again_by_clip`.
    :param in_flight: segments whose jobs an earlier process of the same try submitted.
    """

    tracker: BatchTracker
    prepare: Callable[[ClipPlan], WholeClip]
    again: Mapping[str, Iterable[int]] = field(default_factory=dict)
    in_flight: Iterable[ClipPlan] = ()

    def __post_init__(self) -> None:
        self._clips: dict[int, _Clip] = {}
        self._lock = threading.Lock()
        self._cutting = threading.Semaphore(_CUTS)
        self._begun = {(clip.index, clip.segment) for clip in self.in_flight}

    # -- jobs, in threads -----------------------------------------------------------------------------------------

    def acquire(self, clip: ClipPlan) -> Stored | Submission | Parts[ClipPlan]:
        """The segments of a clip; the result or the job of a segment. Nothing more is paid for a clip that failed.

        :raises ModelsLabError: see :meth:`WholeClip.open`, :meth:`PaidJob.acquire` and :meth:`WholeClip.land`.
        """
        whole = self._clip(clip)
        if clip.segment is None:
            found = whole.clip.find()
            if found is not None:
                return found
            opened = whole.open()
            log.info("%s: %s", clip.safe_source, opened.line())
            parts = [replace(clip, segment=segment.index) for segment in opened.segments.plan.segments]
            return Parts([part for part in parts if (part.index, part.segment) not in self._begun])
        if whole.has_failed:
            return Parts()
        stored = whole.jobs.acquire(whole.segment(clip))
        if isinstance(stored, Stored):
            whole.add(clip, stored)
        return stored

    def land(self, clip: ClipPlan, submission: Submission, finished: Finished) -> dict[str, Any]:
        """Land the result of a segment; with the last one, join the clip and land it.

        :raises LandingError: see :meth:`PaidJob.land` and :meth:`WholeClip.land`.
        """
        whole = self._clip(clip)
        manifest = whole.jobs.land(whole.segment(clip), submission, finished)
        whole.add(clip, manifest)
        return manifest

    def close(self, clip: ClipPlan, submission: Submission, error: ModelsLabError) -> bool:
        """See :meth:`SegmentJobs.close`."""
        whole = self._clip(clip)
        if whole.has_failed and clip.segment is not None:
            whole.again.add(clip.segment)  # nothing more is paid for
        return whole.jobs.close(whole.segment(clip), submission, error) and not whole.has_failed

    def abandon(self, clip: ClipPlan, submission: Submission) -> None:
        """Record that the task was killed while a job runs."""
        whole = self._clip(clip)
        whole.jobs.abandon(whole.segment(clip), submission)

    def run_here(self, clip: ClipPlan, found: RunHere) -> NoReturn:
        """Segments have no other places."""
        raise NotImplementedError

    def stop(self) -> None:
        """Count the jobs that are paid for of clips that are not done."""
        for whole in list(self._clips.values()):
            if whole.has_manifests:
                self.tracker.paid(whole.planned, list(whole.outcomes.manifests.values()))

    def again_by_clip(self) -> dict[str, list[int]]:
        """Plain JSON: the segments that were submitted once more in this try, by the index of their clip."""
        found = {str(index): sorted(whole.again) for index, whole in self._clips.items()}
        return {**{index: sorted(again) for index, again in self.again.items()}, **found}

    def _clip(self, clip: ClipPlan) -> _Clip:
        with self._lock:
            if clip.index not in self._clips:
                planned = replace(clip, segment=None)
                has_failed = self.tracker.outcomes[planned].status == Status.FAILED
                again = set(self.again.get(str(clip.index), ()))
                whole = _Clip(planned, self.prepare(planned), self.tracker.jobs, again, self._cutting, has_failed)
                self._clips[clip.index] = whole
            return self._clips[clip.index]

    # -- outcomes, in the loop's thread ---------------------------------------------------------------------------

    def landed(self, clip: ClipPlan, manifest: dict[str, Any]) -> None:
        """A segment has landed now."""
        self._ended(clip)

    def stored(self, clip: ClipPlan, found: Stored) -> None:
        """A clip, or a segment, had landed before."""
        if clip.segment is None:
            del self._clips[clip.index]
            self.tracker.stored(clip, found)
        else:
            self._ended(clip)

    def failed(self, clip: ClipPlan, error: Exception, submission: Submission | None) -> None:
        """A clip, or a segment, came to nothing: without one of its segments a clip cannot be joined."""
        whole = self._clips.get(clip.index)
        if whole is None:  # it could not even be prepared
            self.tracker.failed(clip, error, submission)
            return
        is_of_segment = clip.segment is not None and whole.is_open and error is not whole.join_error
        if is_of_segment:
            whole.outcomes.failed(whole.segment(clip), error, submission)
            error = whole.outcomes.first_failure() or error
        if not whole.has_failed:
            whole.has_failed = True
            self.tracker.failed(whole.planned, error, submission if is_of_segment else None)
        if is_of_segment and submission is not None:
            self.tracker.paid(whole.planned, [whole.bill_of_failed(submission)])
        self._ended(clip)

    def too_many(self) -> str | None:
        """See :meth:`BatchTracker.too_many`."""
        return self.tracker.too_many()

    def _ended(self, clip: ClipPlan) -> None:
        whole = self._clips.get(clip.index)
        if whole is None:
            return  # its result is recorded
        if whole.result is not None:
            del self._clips[clip.index]
            self.tracker.landed(whole.planned, whole.result)
        elif whole.has_failed and whole.has_manifests:
            self.tracker.paid(whole.planned, list(whole.outcomes.manifests.values()))


class _Clip:
    """One clip, opened when the first of its segments is needed.

    :param known_jobs: of all clips.
    :param again: the segments that were submitted once more in this try.
    :param cutting: limits how many clips are cut or joined at a time.
    :param has_failed: whether one of its segments came to nothing.
    """

    def __init__(
        self,
        planned: ClipPlan,
        clip: WholeClip,
        known_jobs: KnownJobs,
        again: set[int],
        cutting: threading.Semaphore,
        has_failed: bool,
    ) -> None:
        self.planned = planned
        self.clip = clip
        self.again = again
        self.has_failed = has_failed
        self.result: dict[str, Any] | None = None
        self.join_error: Exception | None = None
        self._known_jobs = known_jobs
        self._cutting = cutting
        self._lock = threading.Lock()
        self._opened: tuple[OpenedClip, SegmentJobs, SegmentOutcomes] | None = None

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    @property
    def has_manifests(self) -> bool:
        return self._opened is not None and bool(self.outcomes.manifests)

    def open(self) -> OpenedClip:
        return self._open()[0]

    @property
    def jobs(self) -> SegmentJobs:
        return self._open()[1]

    @property
    def outcomes(self) -> SegmentOutcomes:
        return self._open()[2]

    def segment(self, clip: ClipPlan) -> Segment:
        assert clip.segment is not None  # noqa: S101 - callers have one
        return self.open().segments.plan.segments[clip.segment]

    def add(self, clip: ClipPlan, found: Stored | dict[str, Any]) -> None:
        """Note the result of a segment. With the last one, join the clip."""
        segments, segment = self.open().segments, self.segment(clip)
        with self._lock:
            if isinstance(found, Stored):
                self.outcomes.stored(segment, found)
            else:
                self.outcomes.landed(segment, found)
            is_last = len(self.outcomes.manifests) == len(segments.plan.segments)
        if not is_last:
            return
        try:
            with self._cutting:
                self.result = self.clip.land(segments, self.outcomes.manifests)
        except Exception as error:
            self.join_error = error
            raise

    def bill_of_failed(self, submission: Submission) -> dict[str, Any]:
        """A failed job as :meth:`Outcome.with_jobs` takes it: it costs what was reserved for it."""
        price = self.open().price
        cost = {} if price is None else {"cost": amount_text(price.reserved), "currency": price.currency}
        return {"job_id": submission.job.job_id, **cost}

    def _open(self) -> tuple[OpenedClip, SegmentJobs, SegmentOutcomes]:
        if self._opened is None:
            with self._lock:
                if self._opened is None:
                    with self._cutting:
                        opened = self.clip.open()
                    jobs = SegmentJobs(
                        self.clip, opened.segments, opened.listing, self.again, known_jobs=self._known_jobs
                    )
                    self._opened = opened, jobs, SegmentOutcomes(opened.segments, f"{self.planned.safe_source}: ")
        return self._opened
