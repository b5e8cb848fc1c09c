"""Where a batch's work is written down: what is skipped, what landed, what failed, how far it is."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import BatchSupersededError, LandingError, ModelsLabError, Scope
from airflow_provider_modelslab.batch.planning.known_jobs import KnownJobs
from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
from airflow_provider_modelslab.batch.results.bill import PriceOf, bill_of, by_variant
from airflow_provider_modelslab.batch.results.index import LandedIndex
from airflow_provider_modelslab.batch.results.outcomes import Outcome, Outcomes, Status
from airflow_provider_modelslab.batch.results.progress import Progress
from airflow_provider_modelslab.batch.results.report import failure_of, write_results
from airflow_provider_modelslab.batch.running.limits import FailureLimit
from airflow_provider_modelslab.ledger.listing import LedgerListing, LedgerRoot
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.ledger.model import Stored, Submission

__all__ = ["BatchTracker"]

log = logging.getLogger(__name__)

_TELL_EVERY = 10.0
_LOGGED_FAILURES = 20
_HOPELESS = 20


class BatchTracker:
    """Tracks the outcome of each clip and writes the batch report.

    Call its methods from one thread, :meth:`ledger` from any.

    :param s3: a boto3 client.
    :param root: where ledgers are kept.
    :param plan: what is to be done.
    :param name: of the batch, the same for each try: ``dag/task/run``.
    :param limit: how many clips may fail.
    :param started: when the batch began, in seconds since the epoch; earlier than this process where it was deferred.
    :param burst: clips that land together; before twice as many have landed there is no estimate of the time left.
    :param price_of: the price of a clip's job, where there are prices.
    :param attempt: the one that runs; the report of a later one is left as it is.
    """

    def __init__(
        self,
        s3: S3Client,
        root: S3Uri,
        plan: BatchPlan,
        *,
        name: str,
        limit: FailureLimit,
        started: float | None = None,
        burst: int = 5,
        attempt: AttemptId | None = None,
        price_of: PriceOf | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.plan = plan
        self.started = clock() if started is None else started
        self.outcomes = Outcomes(plan)
        self.progress = Progress(len(plan), enough=max(5, 2 * burst), clock=clock)
        self.jobs = KnownJobs()
        self._s3 = s3
        self._name = name
        self._limit = limit
        self._attempt = attempt
        self._price_of = price_of and by_variant(price_of)
        self._clock = clock
        self.ledgers = LedgerRoot(s3, root)
        self._index = LandedIndex(s3, root, plan.output)
        self._listing: LedgerListing | None = None
        self._batch = hashlib.sha256(name.encode()).hexdigest()[:16]
        self._indexed: frozenset[str] = frozenset()
        self._landed_at: tuple[float, ...] = ()
        self.summary: dict[str, Any] | None = None
        """What :meth:`finish` returned, or would have returned."""
        self._told_at = clock()
        self._failed_in_a_row = 0
        self._not_landed_in_a_row = 0

    @property
    def folder(self) -> S3Uri:
        """Where the manifests of batches go."""
        return self.plan.output.child("_modelslab/batches")

    # -- what is to be done ---------------------------------------------------------------------------------------

    def begin(self, *, reuse: str = "always") -> list[ClipPlan]:
        """The clips that are not done, and those of which it is not known.

        :param reuse: with ``"always"``, what the index knows to be there is left out; else each clip's ledger decides.
        :raises StorageConfigurationError: when S3 refuses.
        """
        if not self.ledgers.conditional:
            log.warning(
                "THE S3 STORE IGNORES CONDITIONAL PUTS (If-None-Match). Two attempts at one clip at the same time may "
                "both pay; attempts one after the other do not. Use a store that supports conditional puts: AWS S3, "
                "Cloudflare R2, Ceph"
            )
        known = self._index.known(self.plan)
        self.jobs.learn_landed(known.values(), conn_id=self.plan.conn_id)
        self._indexed = frozenset(known)
        self._landed_at = tuple(entry.landed_at for entry in known.values())
        if reuse == "always":
            there = self._index.find(self.plan, known)
            for index, entry in there.items():
                own = entry.batch == self._batch
                self._was_stored(self.plan.clips[index], entry.manifest(), entry.seconds, is_own=own)
            if there:
                log.info("%d of %d results are already stored", len(there), len(self.plan))
        return self._open_clips()

    def learn_jobs(self, clips: Iterable[ClipPlan]) -> None:
        """Learn from the ledgers which jobs are whose; call it after :meth:`begin`, before anything is submitted.

        It costs one read for each job that runs, and for each that landed and is not in the index.

        :raises StorageConfigurationError: when S3 refuses.
        """
        assert self._listing is not None  # noqa: S101 - begin has made it
        destinations = [clip.destination for clip in clips]
        self.jobs.learn_recorded(
            self.ledgers, self._listing, destinations, conn_id=self.plan.conn_id, landed=self._indexed
        )

    def entry_names(self, clip: ClipPlan) -> frozenset[str] | None:
        """The names of a clip's ledger entries when they were listed; ``None`` where that is unknown."""
        return self._listing.names(clip.destination) if self._listing else None

    def landed_at(self) -> tuple[float, ...]:
        """When results that are in the index landed, in seconds since the epoch."""
        return self._landed_at

    def ledger(self, clip: ClipPlan, *, claims: bool = True) -> Ledger:
        """The ledger of a clip.

        :param claims: whether it is claimed before anything is done.
        """
        return self.ledgers.open(clip.destination, self._listing, claims=claims)

    # -- what has happened (see protocols.OutcomeSink) -----------------------------------------------------------------

    def landed(self, clip: ClipPlan, manifest: Mapping[str, Any]) -> None:
        """A result has landed now."""
        seconds = _seconds(manifest, self._clock())
        self._index.add(clip, manifest, batch=self._batch, seconds=seconds)
        self._done(clip, Outcome.landed(manifest, seconds=seconds))

    def stored(self, clip: ClipPlan, found: Stored) -> None:
        """A result had landed before: in an earlier try of this batch, or elsewhere."""
        is_own = found.by is not None and self._attempt is not None and self._attempt.is_same_task(found.by)
        seconds = _seconds(found.manifest, found.landed_at) if is_own and found.landed_at else None
        self._index.add(clip, found.manifest, batch=self._batch if is_own else None, seconds=seconds)
        self._was_stored(clip, found.manifest, seconds, is_own=is_own)

    def _was_stored(self, clip: ClipPlan, manifest: Mapping[str, Any], seconds: float | None, *, is_own: bool) -> None:
        """The report is of all tries; the progress in the log of this one."""
        outcome = Outcome.landed(manifest, seconds=seconds) if is_own else Outcome.skipped(manifest)
        self.outcomes.tell(clip, outcome)
        self.progress.tell(Status.SKIPPED)

    def failed(self, clip: ClipPlan, error: Exception, submission: Submission | None) -> None:
        """A clip came to nothing."""
        outcome = Outcome.failed(error, job=submission.job if submission else None)
        count = self.outcomes.counts()[Status.FAILED]
        if count < _LOGGED_FAILURES:
            log.warning("%s failed: %s: %s", clip.safe_source, outcome.code, outcome.message)
        elif count == _LOGGED_FAILURES:
            log.warning("More clips failed. They are not logged; the results manifest lists all of them")
        self._done(clip, outcome, counts=submission is not None or not _is_free(error))

    def paid(self, clip: ClipPlan, manifests: Iterable[Mapping[str, Any]]) -> None:
        """Count jobs of a whole clip that has not landed; see :meth:`Outcome.with_jobs`."""
        self.outcomes.tell(clip, self.outcomes[clip].with_jobs(manifests))

    def too_many(self) -> str | None:
        """Why the batch is given up; ``None`` while it is worth going on.

        A clip's failure does not end the batch, however many may fail: the others are wanted too. But when 20 in a row
        fail, and more than may, the next one would only cost as well. So it would when 10 results in a row cannot be
        landed, however many may fail. Clips that failed before anything was sent cost nothing, so they do not count: in
        each rerun they come first again, and would keep back all that lie behind them.
        """
        if self._not_landed_in_a_row >= LandingError.batch_limit:
            return f"{self._not_landed_in_a_row} results in a row could not be copied to S3"
        failed = self.outcomes.counts()[Status.FAILED]
        if self._failed_in_a_row >= _HOPELESS and self._limit.exceeded(failed, len(self.plan)):
            return f"{self._failed_in_a_row} clips in a row failed"
        return None

    def tell(self) -> None:
        """Log how far it is, every ten seconds at most."""
        if self._clock() - self._told_at >= _TELL_EVERY:
            self._told_at = self._clock()
            log.info("%s", self.progress.line())

    def _done(self, clip: ClipPlan, outcome: Outcome, *, counts: bool = True) -> None:
        self.outcomes.tell(clip, outcome)
        self.progress.tell(outcome.status)
        if outcome.status == Status.FAILED:
            self._failed_in_a_row += counts
            self._not_landed_in_a_row += outcome.code == LandingError.code
        elif outcome.status == Status.LANDED:
            self._failed_in_a_row = self._not_landed_in_a_row = 0

    def bill(self) -> Mapping[str, Any]:
        """What the batch did cost so far, see :func:`bill_of`."""
        return bill_of(self.outcomes, self._price_of)

    def landed_since(self, moment: float | None) -> list[tuple[ClipPlan, Outcome]]:
        """The clips that landed now, and those that an earlier try landed after a moment; in order.

        :param moment: seconds since the epoch; without one, only what landed now.
        """
        known = self._index.find(self.plan) if moment is not None and self.outcomes.counts()[Status.SKIPPED] else {}
        earlier = {index for index, entry in known.items() if moment is not None and entry.landed_at >= moment}
        there = self.outcomes.with_status(Status.LANDED, Status.SKIPPED)
        return [(clip, told) for clip, told in there if told.status == Status.LANDED or clip.index in earlier]

    # -- stopping and going on ------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The outcomes so far and the progress, as plain JSON, from which :meth:`restore` goes on."""
        self._index.close(keep=2 * len(self.plan))  # joins segments too, or each deferral would leave one
        told = {str(clip.index): _short(outcome) for clip, outcome in self.outcomes if outcome.status != Status.PENDING}
        return {
            "outcomes": told,
            "progress": self.progress.state(),
            "jobs": self.jobs.state(),
            "started": self.started,
            "failed_in_a_row": self._failed_in_a_row,
            "not_landed_in_a_row": self._not_landed_in_a_row,
        }

    def restore(self, state: Mapping[str, Any]) -> list[ClipPlan]:
        """Go on where :meth:`state` was taken; the clips without an outcome."""
        for index, told in state["outcomes"].items():
            if (outcome := Outcome.from_record(told)) is not None:
                self.outcomes.tell(self.plan.clips[int(index)], outcome)
        self.progress = Progress.resume(state["progress"], clock=self._clock)
        self.jobs.restore(state["jobs"])
        self._failed_in_a_row = int(state.get("failed_in_a_row", 0))
        self._not_landed_in_a_row = int(state.get("not_landed_in_a_row", 0))
        return self._open_clips()

    def _open_clips(self) -> list[ClipPlan]:
        found = [clip for clip, _ in self.outcomes.with_status(Status.PENDING)]
        self._listing = self.ledgers.list(clip.destination for clip in found)
        return found

    def finish(self, *, stopped: str | None = None) -> dict[str, Any]:
        """Write the results manifest; return the summary.

        :param stopped: why clips were left, when some were.
        :raises BatchFailedError: when more clips failed than may, or the batch was given up.
        :raises BatchSupersededError: when a later attempt has ended before this one.
        :raises StorageConfigurationError: when S3 refuses the manifest.
        """
        self._index.close(keep=2 * len(self.plan))
        seconds = self._clock() - self.started
        try:
            summary = write_results(
                self._s3,
                self.folder,
                self._name,
                self.outcomes,
                seconds=seconds,
                attempt=self._attempt,
                price_of=self._price_of,
            )
        except BatchSupersededError:
            log.warning(
                "%s. A LATER ATTEMPT HAS ALREADY FINISHED THIS BATCH. Its results manifest is not changed",
                self.progress.line(),
            )
            raise
        self.summary = summary
        log.info("%s. Results: %s", self.progress.line(), summary["manifest"])
        for place in summary.get("places", ()):
            where = ", ".join(str(place[name]) for name in ("modelslab_conn_id", "model_id", "run_on"))
            log.info("%s: %d landed; failures: %s", where, place["landed"], place["failed"] or "none")
        error = failure_of(summary, self._limit, stopped=stopped)
        if error is not None:
            raise error
        return summary


def _is_free(error: Exception) -> bool:
    """Whether an error is one clip's own and was raised before anything was spent on it."""
    return isinstance(error, ModelsLabError) and error.scope is Scope.CLIP and not (error.sent or error.after_submit)


def _short(outcome: Outcome) -> dict[str, Any]:
    return {name: value for name, value in asdict(outcome).items() if value is not None}


def _seconds(manifest: Mapping[str, Any], now: float) -> float | None:
    """From the submission until ``now``."""
    submitted = manifest.get("submitted_at")
    return None if not submitted else max(0.0, now - datetime.fromisoformat(submitted).timestamp())
