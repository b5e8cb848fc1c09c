"""One paid job: the only place that claims a submission, submits it and lands its result.

:meth:`PaidJob.acquire` is the part that may spend money, and reads from top to bottom: what is stored or paid for
already is returned; else everything that can be checked for free is checked, the job is reserved from its budgets, and
the submission is claimed, submitted once and recorded. Whoever runs it waits for the job in its own way (blocking, in
the triggerer, in a batch) and calls :meth:`PaidJob.land` with the result, or :meth:`PaidJob.close` with the failure.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_modelslab.api.errors import (
    STORAGE_ERRORS,
    ChangedRequestError,
    ClipUnreadableError,
    JobFailedError,
    JobLostError,
    LandingError,
    ModelsLabError,
    ResultExpiredError,
    SubmissionUnknownError,
)
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.budget.spending import FREE, Spending, Upcoming
from airflow_provider_modelslab.jobs import metrics
from airflow_provider_modelslab.jobs.ledgers import ledgers_of
from airflow_provider_modelslab.jobs.stretch import check_stretch, needs_size
from airflow_provider_modelslab.jobs.targets import Target
from airflow_provider_modelslab.jobs.timing import has_outlived_its_result
from airflow_provider_modelslab.ledger.chain import RunHere, is_fallback_cause
from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.ledger.model import (
    Entry,
    Fingerprint,
    LedgerPolicy,
    Stored,
    Submission,
    entry_name,
    kind_of,
    number_of,
)
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.checks import require_writable
from airflow_provider_modelslab.storage.inputs import PreparedInput, identify_input, prepare_input
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.s3_objects import is_gone
from airflow_provider_modelslab.storage.signing import span
from airflow_provider_modelslab.storage.upload import was_ended
from airflow_provider_modelslab.storage.uri import S3Uri, check_suffix, media_suffix

if TYPE_CHECKING:
    from airflow_provider_modelslab.api.aspect import OnStretch
    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
    from airflow_provider_modelslab.batch.planning.known_jobs import KnownJobs
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.ledger.service import Ledger
    from airflow_provider_modelslab.storage.signing import SignedLink

__all__ = ["Caller", "PaidJob", "close", "land", "land_found_job"]

log = logging.getLogger(__name__)


class Caller(Protocol):
    """Who runs a paid job: an Airflow task, or the command line."""

    def submission_name(self, number: int, destination: S3Uri | None) -> str:
        """The name of a submission, for people: its track_id, and the name under which they say what became of it."""

    def resolution(self, name: str) -> str | None:
        """What a person found out about a submission of unknown outcome: the job's id, or ``"resubmit"``."""

    def advice(self, name: str) -> str:
        """What a person does about a submission of unknown outcome, as sentences."""

    def confirm(self, job: PaidJob, clip: PreparedInput | None) -> None:
        """Called once, after all that can be checked for free; raises where nothing may be paid for."""

    def before_claim(self, track_id: str) -> None:
        """Called right before each claim; raises where the work was stopped."""


@dataclass(frozen=True)
class PaidJob:
    """One request, where its result goes, and who asks for it.

    :param destination: where the result lands; ``None`` leaves it at the endpoint.
    :param policy: which stored results serve, and what happens with submissions of unknown outcome.
    :param timeout: seconds that the job may take.
    :param check_links: whether http(s) clips are read from here before they are submitted.
    :param on_stretch: what happens if the clip has other proportions than the size that is asked for.
    :param check_destination: whether it is tried that the result can be put there; a batch tries it once.
    :param clip_version: what the user says which clip it is; see :func:`identify_input`.
    :param known_fingerprint: where it was computed already.
    :param known_jobs: of the other clips, where there are others.
    :param spending: the prices, and the budgets that the submit is reserved from.
    :param upcoming: what the same process is likely to submit next.
    :param places: where it is submitted, the first one included, if there are others to fall back to.
    :param hooks: of their connections, by connection id. The S3 profile is that of ``hook`` in any case.
    """

    request: EndpointRequest
    hook: ModelsLabHook
    ledger: Ledger
    destination: S3Uri | None
    policy: LedgerPolicy
    attempt: AttemptId
    caller: Caller
    timeout: float = 3600.0
    check_links: bool = True
    on_stretch: OnStretch = "warn"
    check_destination: bool = True
    clip_version: str | None = None
    known_fingerprint: Fingerprint | None = None
    known_jobs: KnownJobs | None = None
    spending: Spending = FREE
    upcoming: Upcoming = tuple
    places: Sequence[Target] = ()
    hooks: Mapping[str, ModelsLabHook] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What identifies the request and its clip.

        :raises StorageConfigurationError: when S3 refuses to describe the clip.
        """
        if self.known_fingerprint is not None:
            return self.known_fingerprint
        clip = self.request.clip
        source = None if clip is None else identify_input(clip, self.hook.get_s3_client, version=self.clip_version)
        return Fingerprint.of(self.request, conn_id=self.hook.modelslab_conn_id, source=source)

    def acquire(self) -> Stored | Submission | RunHere:
        """What is stored or paid for already, else one submit; :class:`RunHere` where the next place is this worker.

        Where there are several places, one that refuses the job for a cause that calls for another one is followed by
        the next; never one of which the outcome is unknown.

        :raises SubmissionUnknownError: when something may have been paid for and a person has to decide; the text says
            what to set where.
        :raises ChangedRequestError: when another request was paid for and this one must not be.
        :raises ClipUnreadableError: when the job of an earlier submission failed because the clip cannot be read.
        :raises BudgetExhaustedError: when a cap on jobs or cost has no room for another one.
        :raises ModelsLabError: whatever the checks and the submit raise.
        """
        clip: PreparedInput | None = None
        is_checked = False
        gone: set[int] = set()
        disowned: set[int] = set()
        resolved: dict[int, str] = {}  # what people said of submissions of unknown outcome, and of these alone
        while True:
            resubmit = {number for number, answer in resolved.items() if answer == "resubmit"}
            try:
                found = self.ledger.find(self.fingerprint, self.policy, self.attempt, gone=gone, resubmit=resubmit)
            except SubmissionUnknownError as error:
                self._resolve(error, resolved)
                continue
            if isinstance(found, Submission):
                self._refuse_another_place(found)
                try:
                    self._claim_job(found.job)
                except SubmissionUnknownError as error:
                    self._disown(found.number, error, disowned)
                    continue
                return found
            if isinstance(found, Stored):
                if not is_gone(self.hook.get_s3_client(), found.manifest):
                    metrics.reused(self.hook.modelslab_conn_id)
                    return found
                gone.add(found.number)
                continue
            if not is_checked:
                if self.destination is not None and self.check_destination:
                    require_writable(self.hook.get_s3_client(), self.destination)
                clip = self._check_clip()
                self.caller.confirm(self, clip)
                is_checked = True
                continue  # that may have taken minutes, so the ledger is read again
            index, failures = self._next_place()
            place = self.places[index] if self.places else None
            chain = {"made_by": place.record(), "fallback_from": failures} if place else None
            if place is not None and chain is not None and place.run_on == "local":
                return RunHere(chain)
            request = place.adapt(self.request) if place else self.request
            hook = self.hooks.get(place.conn_id, self.hook) if place else self.hook
            name = self._name(found.number)
            track_id = request.track_id or name
            with self.spending.reserve(request, self.destination, self.upcoming) as reservation:
                link = self._signed(clip)  # as late as nothing has been claimed: it dies with the session that signs it
                self.caller.before_claim(track_id)
                lease = hook.submit_lease()
                lease_ends = time.time() + lease  # the claim says the same or a later time
                if not self.ledger.claim(
                    found.number,
                    self.fingerprint,
                    self.attempt,
                    lease=lease,
                    name=name,
                    track_id=track_id,
                    budget=reservation.record(),
                    place=place.record() if place else None,
                ):
                    continue  # another process was quicker
                log.info("Submitting %s as %s: %s", clip.source if clip else request.path, track_id, found.why)
                try:
                    # Nothing is logged until the job is recorded: in a process that lost its supervisor Airflow's
                    # logger raises, and the id would be lost.
                    sent = request.with_delivery(clip=link.url if link else None, track_id=track_id)
                    source = clip.recorded if clip else None
                    reservation.begin_submit()
                    began = time.monotonic()
                    job, finished = hook.submit(sent, source=source, lease_ends=lease_ends)
                    self._claim_job(job)  # before it is recorded: what is recorded is landed by the next attempt
                except BaseException as error:
                    reservation.end_submit(self.ledger.record_error(found.number, error))
                    if isinstance(error, ModelsLabError):
                        error.chain = chain
                    metrics.refused(hook.modelslab_conn_id, error)
                    if self.has_place_after(place, error):
                        log.warning(
                            "%s refused submission %d: %s. The next place in fallback is tried",
                            place,
                            found.number,
                            error,
                        )
                        continue
                    if isinstance(error, SubmissionUnknownError) and self.policy.on_unknown_submission == "fail":
                        raise self._with_advice(error) from error
                    raise
                reservation.end_submit(Entry.JOB)
                price = None if reservation.price is None else reservation.price.record()
                submission = self.ledger.record(found.number, replace(job, price=price, chain=chain), finished)
                metrics.submitted(hook.modelslab_conn_id, time.monotonic() - began)
                _warn_of_short_link(job, link)
                return submission

    def has_place_after(self, place: Target | None, error: BaseException) -> bool:
        """Whether another place is tried after an error at this one.

        :param error: whose outcome is recorded: a refused submit, or a failed job.
        """
        if place is None or place not in self.places[:-1] or isinstance(error, SubmissionUnknownError):
            return False
        return isinstance(error, ModelsLabError) and is_fallback_cause(error)

    def _next_place(self) -> tuple[int, list[dict[str, Any]]]:
        if not self.places:
            return 0, []
        return self.ledger.next_place(self.fingerprint, [place.record() for place in self.places])

    def _refuse_another_place(self, found: Submission) -> None:
        """Only a task that can fall back to a connection can wait for a job there.

        :raises ChangedRequestError: when the job was submitted at another one; nothing is paid for.
        """
        conn_id = found.job.conn_id
        if found.job.chain and conn_id not in {self.hook.modelslab_conn_id, *(place.conn_id for place in self.places)}:
            raise ChangedRequestError(
                f"Nothing was submitted. For this result, another task or an earlier try has submitted a job at its "
                f"fallback, the connection {conn_id!r} (submission {found.number}), and it has not landed yet. Run "
                "this task again when the result is in S3, or add the connection to fallback",
                job_id=found.job.job_id,
            )

    def land(self, submission: Submission, finished: Finished) -> dict[str, Any]:
        """See :func:`land`."""
        assert self.destination is not None  # noqa: S101 - callers without one have nowhere to land
        expected = getattr(self.request, "output_type", None)
        return land(self.hook, self.ledger, submission, finished, self.destination, expected_type=expected)

    def close(self, submission: Submission, error: ModelsLabError) -> bool:
        """See :func:`close`."""
        return close(self.ledger, submission, error)

    def _check_clip(self) -> PreparedInput | None:
        """Check the clip, and put it where the endpoint can read it."""
        if self.request.clip is None:
            return None
        profile, output = self.hook.s3_profile, self.destination
        clip = prepare_input(
            self.request.clip,
            self.hook.get_s3_client,
            staging=profile.uri("inputs") if profile.bucket else output and S3Uri(output.bucket, "inputs"),
            check_links=self.check_links,
            with_size=needs_size(self.request, self.on_stretch),
        )
        check_stretch(self.request, clip.size, self.hook, self.on_stretch)
        return clip

    def _signed(self, clip: PreparedInput | None) -> SignedLink | None:
        # The endpoint reads the clip when the job leaves the queue, which may be as late as the deadline.
        return clip.link(self.hook.link_signer, self.timeout + 3600) if clip else None

    def _resolve(self, error: SubmissionUnknownError, resolved: dict[int, str]) -> None:
        """Note what a person found out about a submission of unknown outcome.

        :raises SubmissionUnknownError: when nobody has said.
        """
        number = error.submission
        answer = None if number is None else self.caller.resolution(self._name(number))
        if answer is None or number is None or number in resolved:
            raise self._with_advice(error) from error
        resolved[number] = answer
        if answer == "resubmit":
            # Into the ledger, by which a budget finds out that no job has taken the reservation.
            self.ledger.resolve(number, by="a person", why=f"{self._name(number)} is to be submitted again")
        else:
            # Without effect where another attempt has just done the same, so the ledger is read again.
            self.ledger.adopt(
                answer,
                number=number,
                conn_id=self.hook.modelslab_conn_id,
                fingerprint=self.fingerprint,
                request=self.request.record(),
            )

    def _claim_job(self, job: Job) -> None:
        """Make sure that a job makes no other clip's result.

        :raises SubmissionUnknownError: when it does.
        """
        if self.known_jobs is not None and self.destination is not None:
            other = None if job.conn_id == self.hook.modelslab_conn_id else job.conn_id
            self.known_jobs.claim(job.job_id, self.destination, submitted_at=job.submitted_at, conn_id=other)

    def _disown(self, number: int, error: SubmissionUnknownError, disowned: set[int]) -> None:
        """Record that a submission came to nothing, whose recorded job is another clip's, where that may be paid again.

        :raises SubmissionUnknownError: where a person has to decide.
        """
        error.submission = number
        answers = {self.policy.on_unknown_submission, self.caller.resolution(self._name(number))}
        if "resubmit" not in answers or number in disowned:
            raise self._with_advice(error) from error
        disowned.add(number)
        self.ledger.failed(number, error)

    def _with_advice(self, error: SubmissionUnknownError) -> SubmissionUnknownError:
        advised = SubmissionUnknownError(
            f"{error.message}. {self.caller.advice(self._name(error.submission or 1))}",
            submission=error.submission,
            job_id=error.job_id,
        )
        advised.sent, advised.chain = error.sent, error.chain
        return advised

    def _name(self, number: int) -> str:
        return self.caller.submission_name(number, self.destination)


def _warn_of_short_link(job: Job, link: SignedLink | None) -> None:
    """Say so where the endpoint itself expects the job to last longer than the link to its clip."""
    if link is None or link.expires_at is None or job.eta is None:
        return
    left = link.expires_at - time.time()
    if job.eta > left:
        log.warning(
            "Job %s is expected to be done in %s, but the link to its clip expires in %s. If the endpoint reads the "
            "clip after that, the job fails, and a retry pays for another job",
            job.job_id,
            span(job.eta),
            span(max(left, 0.0)),
        )


def land(
    hook: ModelsLabHook,
    ledger: Ledger,
    submission: Submission,
    finished: Finished,
    destination: S3Uri,
    *,
    expected_type: str | None = None,
) -> dict[str, Any]:
    """Copy a result to S3, verify it, record it and return its manifest, unless a later submission superseded it.

    :param expected_type: ``mp4`` or ``gif``; what the job was asked for goes before it.
    :raises ChangedRequestError: when it was superseded.
    :raises ResultExpiredError: when its links are dead, which is recorded: a later attempt pays for another one.
    :raises LandingError: when it could not be copied; landing it again costs nothing.
    """
    ledger.refuse_if_superseded(submission)
    began, submitted_at = time.time(), submission.job.submitted_at
    expected = submission.job.request.get("output_type") or expected_type
    try:
        try:
            manifest = hook.land(submission.job, finished, destination, expected_type=expected)
        except LandingError as error:
            if not was_ended(error):
                raise
            log.info(
                "Another process has landed %s in the meantime. It is landed again, which costs nothing", destination
            )
            manifest = hook.land(submission.job, finished, destination, expected_type=expected)
    except ResultExpiredError as error:
        ledger.failed(submission.number, error)
        raise
    ledger.landed(submission.number, manifest)
    waited = None if submitted_at is None else began - submitted_at
    metrics.landed(submission.job.conn_id, manifest, waited=waited, seconds=time.time() - began)
    return manifest


def close(ledger: Ledger, submission: Submission, error: ModelsLabError) -> bool:
    """Record that a job came to nothing; whether this attempt may pay for another one.

    It may when an earlier attempt submitted the job. Its own failure is left to a retry, and so is a result that was
    not landed before the vendor deleted it. For a clip that cannot be read nothing more is paid. Other errors than a
    failed or lost job record nothing: it may still end well.
    """
    if not isinstance(error, JobFailedError | JobLostError):
        return False
    ledger.failed(submission.number, error)
    is_hopeless = isinstance(error, ClipUnreadableError) or has_outlived_its_result(submission.job, error)
    return submission.resumed and not is_hopeless


def land_found_job(hook: ModelsLabHook, job: Job, finished: Finished, destination: S3Uri) -> dict[str, Any]:
    """Land a job that somebody names by its id; the destination's ledger records it if the job is one of its own.

    :raises LandingError: when it could not be copied, or is another kind of video than the destination's suffix says;
        landing it again costs nothing.
    :raises StorageConfigurationError: for a destination whose suffix is not the job's ``output_type``.
    :raises ResultExpiredError: when its links are dead.
    """
    number, known = _find_in_ledger(hook, job, destination)
    named, expected = media_suffix(destination.key), known.request.get("output_type")
    if expected is not None:
        check_suffix(str(destination), expected)
    elif named in {"mp4", "gif"}:
        expected = named
    manifest = hook.land(known, finished, destination, expected_type=expected)
    if number is not None:
        ledgers_of(hook, destination).open(destination).landed(number, manifest)
    return manifest


def _find_in_ledger(hook: ModelsLabHook, job: Job, destination: S3Uri) -> tuple[int | None, Job]:
    """The submission that waits for this job, and the job as it was submitted; the job alone where none does."""
    root = hook.s3_profile.ledger_root(destination)
    if root is None or not job.job_id:
        return None, job
    try:
        entries = S3LedgerStore(hook.get_s3_client(), result_folder(root, destination)).load()
    except STORAGE_ERRORS as error:
        log.warning("The ledger cannot be read, so the result is landed but not recorded there: %s", error)
        return None, job
    for name, entry in entries.items():
        if kind_of(name) == Entry.JOB and entry.get("job_id") == job.job_id:
            has_landed = entry_name(number_of(name), Entry.LANDED) in entries
            return None if has_landed else number_of(name), Job.from_dict(entry)
    return None, job
