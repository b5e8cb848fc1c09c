"""The jobs of a clip's segments, and what became of them; what a running batch needs of both."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_modelslab.api.errors import (
    BudgetExhaustedError,
    ClipUnreadableError,
    JobFailedError,
    JobLostError,
    ModelsLabError,
    error_from_code,
    error_from_event,
)
from airflow_provider_modelslab.batch.planning.known_jobs import KnownJobs
from airflow_provider_modelslab.jobs.paid_job import PaidJob, close, land
from airflow_provider_modelslab.jobs.timing import has_outlived_its_result
from airflow_provider_modelslab.ledger.chain import RunHere
from airflow_provider_modelslab.ledger.model import LedgerPolicy

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.jobs.whole_clip.clip import WholeClip
    from airflow_provider_modelslab.jobs.whole_clip.segments import SegmentSet
    from airflow_provider_modelslab.ledger.listing import LedgerListing
    from airflow_provider_modelslab.ledger.model import Stored, Submission
    from airflow_provider_modelslab.ledger.service import Ledger
    from airflow_provider_modelslab.local.media.whole_clip.plan import Segment

__all__ = ["SegmentJobs", "SegmentOutcomes"]

log = logging.getLogger(__name__)


@dataclass
class SegmentJobs:
    """The paid jobs of segments; see :class:`~airflow_provider_modelslab.batch.running.protocols.ClipJobs`.

    :param listing: of the segments' ledgers.
    :param again: the segments that were submitted once more in this try, since their job failed.
    """

    clip: WholeClip
    segments: SegmentSet
    listing: LedgerListing
    again: set[int]
    exhausted: BudgetExhaustedError | None = None
    known_jobs: KnownJobs = field(default_factory=KnownJobs)

    def acquire(self, clip: Segment) -> Stored | Submission:
        """See :meth:`PaidJob.acquire`."""
        try:
            found = self._paid_job(clip).acquire()
        except BudgetExhaustedError as error:
            self.exhausted = error
            raise
        assert not isinstance(found, RunHere)  # noqa: S101 - segments have no other places
        return found

    def run_here(self, clip: Segment, found: RunHere) -> NoReturn:
        """Segments have no other places."""
        raise NotImplementedError

    def stop(self) -> None:
        """Nothing is made on this machine."""

    def _paid_job(self, segment: Segment) -> PaidJob:
        clip = self.clip
        return PaidJob(
            request=self.segments.request(segment, clip.request),
            hook=clip.hook,
            ledger=self._ledger(segment),
            destination=self.segments.destination(segment),
            # Which set of segments may be used is decided for all of them together.
            policy=LedgerPolicy("always", "resubmit", clip.policy.on_unknown_submission),
            attempt=clip.attempt,
            caller=clip.caller,
            timeout=clip.timeout,
            on_stretch="ignore",  # the clip's own size was looked at
            check_destination=False,  # once for all of them
            known_fingerprint=self.segments.fingerprint(segment, clip.request, clip.hook.modelslab_conn_id),
            known_jobs=self.known_jobs,
            spending=clip.spending,
        )

    def _ledger(self, segment: Segment) -> Ledger:
        return self.clip.ledgers.open(self.segments.destination(segment), self.listing)

    def land(self, clip: Segment, submission: Submission, finished: Finished) -> dict[str, Any]:
        """See :func:`~airflow_provider_modelslab.jobs.paid_job.land`."""
        destination = self.segments.destination(clip)
        ledger = self._ledger(clip)
        manifest = land(self.clip.hook, ledger, submission, finished, destination, expected_type="mp4")
        self.clip.spending.settle(destination, manifest.get("generation_time_s"))
        return manifest

    def close(self, clip: Segment, submission: Submission, error: ModelsLabError) -> bool:
        """Record that a job came to nothing; whether another may be paid for: one more in each try."""
        may_submit_again = close(self._ledger(clip), submission, error)
        if not isinstance(error, JobFailedError | JobLostError):
            return False
        self.clip.spending.settle(self.segments.destination(clip), None)
        is_hopeless = isinstance(error, ClipUnreadableError) or has_outlived_its_result(submission.job, error)
        if may_submit_again or is_hopeless or clip.index in self.again:
            return may_submit_again
        self.again.add(clip.index)
        log.warning("%s failed: %s. It is submitted once more, which pays for another job", self._name(clip), error)
        return True

    def abandon(self, clip: Segment, submission: Submission) -> None:
        """Record that the task was killed while a job runs."""
        self._ledger(clip).abandoned(submission.number, "the task was killed on its worker")

    def _name(self, segment: Segment) -> str:
        return segment.describe(len(self.segments.plan.segments)).capitalize()


class SegmentOutcomes:
    """What became of the segments; see :class:`~airflow_provider_modelslab.batch.running.protocols.OutcomeSink`.

    :param name: of the clip, where there are others, with which log lines begin.
    :ivar manifests: of the results that are in S3, by the segment's index.
    """

    def __init__(self, segments: SegmentSet, name: str = "") -> None:
        self._name = name
        self.manifests: dict[int, dict[str, Any]] = {}
        self._failed: list[tuple[Segment, Exception, Submission | None]] = []
        self._count = len(segments.plan.segments)

    def landed(self, clip: Segment, manifest: dict[str, Any]) -> None:
        """A result has landed now."""
        self.manifests[clip.index] = manifest
        what = clip.describe(self._count)
        log.info("%sLanded %s; %d of %d are done", self._name, what, len(self.manifests), self._count)

    def stored(self, clip: Segment, found: Stored) -> None:
        """A result had landed before."""
        self.manifests[clip.index] = dict(found.manifest)

    def failed(self, clip: Segment, error: Exception, submission: Submission | None) -> None:
        """A segment came to nothing."""
        if isinstance(error, ModelsLabError) and submission is not None:
            error.job_id = error.job_id or submission.job.job_id
        log.error("%s%s failed: %s", self._name, clip.describe(self._count).capitalize(), error)
        self._failed.append((clip, error, submission))

    def line(self) -> str:
        """How far the clip is, for people."""
        return f"{len(self.manifests)} of {self._count} segments are done"

    def failures(self) -> list[dict[str, Any]]:
        """Plain JSON, for :meth:`restore` in the next process of the same try."""
        return [
            {
                "segment": segment.index,
                "sent": isinstance(error, ModelsLabError) and error.sent,
                **(error.to_event() if isinstance(error, ModelsLabError) else {"message": repr(error)}),
            }
            for segment, error, _ in self._failed
        ]

    def restore(self, segment: Segment, failure: dict[str, Any]) -> None:
        """Record a failure that an earlier process of the same try met."""
        error = error_from_event(failure)
        error.sent = failure["sent"]
        self._failed.append((segment, error, None))

    @property
    def failed_segments(self) -> set[int]:
        """The indexes of the segments that came to nothing."""
        return {segment.index for segment, _, _ in self._failed}

    def too_many(self) -> str | None:
        """Why nothing more is submitted: without one of its segments the clip cannot be joined."""
        return f"{self._failed[0][0].describe(self._count)} failed" if self._failed else None

    def first_failure(self) -> Exception | None:
        """The first failure, with the segment's number and time range, and the job's id; ``None`` if there is none."""
        if not self._failed:
            return None
        segment, error, _ = self._failed[0]
        if not isinstance(error, ModelsLabError):
            return error
        message = (
            f"{segment.describe(self._count).capitalize()} failed: {error.message}. The results of "
            f"{len(self.manifests)} segments are in S3; a retry uses them, and pays only for the others"
        )
        details = {name: getattr(error, name) for name in type(error).details}
        named = error_from_code(error.code, message, **details)
        named.sent, named.__cause__ = error.sent, error
        return named
