"""``submit``: one clip, paid for once, however often the command is killed and run again."""

from __future__ import annotations

import getpass
import secrets
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import (
    InvalidRequestError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    ModelsLabError,
    ResultExpiredError,
)
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.cli.common import (
    INTERRUPTED,
    RUNNING,
    command,
    confirm,
    echo_line,
    print_record,
    program,
    unknown_advice,
)
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.destinations import (
    COMMAND,
    destination_of,
    refuse_to_overwrite,
    root_of,
)
from airflow_provider_modelslab.cli.interrupts import HeldInterrupts
from airflow_provider_modelslab.cli.progress import watch
from airflow_provider_modelslab.cli.request import fields_as_typed, request_of
from airflow_provider_modelslab.cli.whole_clip import submit_whole
from airflow_provider_modelslab.jobs.budgets import open_spending
from airflow_provider_modelslab.jobs.ledgers import ledgers_of
from airflow_provider_modelslab.jobs.paid_job import PaidJob
from airflow_provider_modelslab.jobs.timing import deadline_of
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.chain import RunHere
from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.ledger.model import LedgerPolicy, Stored, TaskKey
from airflow_provider_modelslab.operators.rendered import clip_version_of
from airflow_provider_modelslab.storage.result_manifest import submitted_manifest
from airflow_provider_modelslab.storage.uri import check_suffix

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.ledger.model import Submission
    from airflow_provider_modelslab.ledger.service import Ledger
    from airflow_provider_modelslab.storage.inputs import PreparedInput
    from airflow_provider_modelslab.storage.result_manifest import Job
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["submit"]

_WORTH_REPORTING = 1.5  # seconds: a pause that is not one between two tries to write an entry


@command
def submit(args: Namespace) -> int | None:
    """Check everything that can be checked for free, ask, submit once, wait, land, and print the manifest."""
    request = request_of(args)
    hook = open_hook(args.conn_id)
    hook.get_conn()  # a connection without a key ends the command here
    with fields_as_typed():
        hook.check_request(request)
    suffix = request.output_type or "mp4"
    if args.to:
        check_suffix(args.to, suffix, field="--to")
    target = destination_of(hook, args.to, request.init_video, suffix)
    if str(target) == request.init_video:
        raise InvalidRequestError.of("--to", "is the clip itself; choose another destination for the result")
    caller, attempt = _CommandLine(args, hook, target), _attempt()
    spending = open_spending(
        hook,
        root_of(hook, None, target),
        lambda place: result_folder(root_of(hook, None, place), place),
        TaskKey(attempt.dag_id, attempt.task_id, attempt.run_id),
        budget=args.budget,
        timeout=args.timeout,
    )
    ledger = _open_ledger(hook, target, caller)
    policy = LedgerPolicy(
        reuse="never" if args.again else "always", on_unknown_submission="resubmit" if args.resubmit == 0 else "fail"
    )
    if args.clip_mode == "whole":
        manifest = submit_whole(args, request, hook, target, ledger, policy, attempt, spending)
        print_record(manifest, args.output)
        return None
    job = PaidJob(
        request=request,
        hook=hook,
        ledger=ledger,
        destination=target,
        policy=policy,
        attempt=attempt,
        caller=caller,
        timeout=args.timeout,
        clip_version=clip_version_of(args.clip_version),
        spending=spending,
    )
    try:
        print_record(_submit_and_land(job, caller), args.output)
    except (JobTimeoutError, KeyboardInterrupt) as error:
        if caller.running is None:
            raise
        if isinstance(error, JobTimeoutError):
            echo_line(str(error))
        caller.print_next_steps()
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        print_record(submitted_manifest(caller.running), args.output)  # as with --no-wait
        return RUNNING
    return None


def _submit_and_land(job: PaidJob, caller: _CommandLine) -> Mapping[str, Any]:
    while True:
        found = caller.acquire(job)
        if isinstance(found, Stored):
            echo_line(
                f"The result of submission {found.number} is already there; nothing is paid for. "
                "To pay for a new one, add --again"
            )
            return found.manifest
        try:
            return caller.wait_and_land(job, found)
        except (JobFailedError, JobLostError) as error:
            caller.running = None
            if not job.close(found, error):
                raise
            echo_line(f"The job of an earlier submission has no usable result: {error}")
        except ModelsLabError as error:
            if not error.ends_wait:
                caller.print_next_steps()
            raise


def _open_ledger(hook: ModelsLabHook, target: S3Uri, caller: _CommandLine) -> Ledger:
    ledgers = ledgers_of(hook, target)
    if not ledgers.conditional:
        echo_line(
            "warning: this S3 store ignores conditional puts, so two commands at the same instant may both pay for "
            f"{target}"
        )
    return ledgers.open(target, sleep=caller.pause)


class _CommandLine:
    """The person at the command line; see :class:`~airflow_provider_modelslab.jobs.paid_job.Caller`."""

    def __init__(self, args: Namespace, hook: ModelsLabHook, target: S3Uri) -> None:
        self._args = args
        self._hook = hook
        self._target = target
        self._interrupts = HeldInterrupts()
        self._reported = False
        self.running: Job | None = None
        """The job that is paid for, once it is known."""

    # -- what a paid job asks -------------------------------------------------------------------------------------

    def submission_name(self, number: int, destination: S3Uri | None) -> str:
        """The track_id."""
        return f"cli/{self._target.bucket}/{self._target.key}/submission{number}"

    def resolution(self, name: str) -> str | None:
        """What ``--adopt`` and ``--resubmit`` say of this very submission: there may be a later one by now."""
        adopted, job_id = self._args.adopt or (0, None)
        if name == self.submission_name(adopted, None):
            return job_id
        return "resubmit" if name == self.submission_name(self._args.resubmit or 0, None) else None

    def advice(self, name: str) -> str:
        """Which option to add."""
        return unknown_advice(int(name.rpartition("submission")[2]), "the same command")

    def confirm(self, job: PaidJob, clip: PreparedInput | None) -> None:
        """Say what will be paid for, and ask."""
        args, request = self._args, job.request
        assert isinstance(request, Video2VideoRequest)  # noqa: S101 - this command makes no others
        if not args.overwrite and not args.again:
            refuse_to_overwrite(self._hook, self._target)
        size = f"{request.width}x{request.height}, " if request.width and request.height else ""
        price = job.spending.price_of(request)
        cost = "no price is configured; see the account" if price is None else f"{price}, by your prices"
        echo_line(
            f"This pays for one job at {self._hook.base_url}, connection {args.conn_id} ({cost}):\n"
            f"  {request.model_id}, {size}{request.num_frames} frames, {request.num_inference_steps} steps, "
            f"strength {request.strength:g}\n"
            f"  prompt {request.prompt[:200]!r}\n"
            f"  from   {clip.source if clip else request.init_video}\n"
            f"  to     {self._target}"
        )
        confirm("Submit it?", yes=args.yes, undone="Nothing was submitted")
        # From the claim on, an end of this process leaves a submission of unknown outcome behind.
        self._interrupts.hold()

    def before_claim(self, track_id: str) -> None:
        """Stop here if Ctrl-C was pressed since the question.

        :raises KeyboardInterrupt: then.
        """
        if self._interrupts.pressed:
            raise KeyboardInterrupt
        echo_line(f"Submitting it as track_id {track_id}")

    def pause(self, seconds: float) -> None:
        """The ledger's pauses: short ones between tries to write, longer ones while another process submits."""
        if seconds > _WORTH_REPORTING:
            if not self._reported:
                self._reported = True
                echo_line(
                    "Another process is submitting the same request, or has just done so. Waiting for its outcome"
                )
            if self._interrupts.pressed:
                raise KeyboardInterrupt
        time.sleep(seconds)

    # -- the steps ------------------------------------------------------------------------------------------------

    def acquire(self, job: PaidJob) -> Stored | Submission:
        """What is stored or paid for already, else one submit; Ctrl-C takes effect once the job's id is known."""
        try:
            found = job.acquire()
            assert not isinstance(found, RunHere)  # noqa: S101 - a command has no other places
            self.running = None if isinstance(found, Stored) else found.job
        finally:
            job.spending.close()
            self._interrupts.release()
        if self.running is not None:
            self._tell_job(self.running, resumed=not isinstance(found, Stored) and found.resumed)
            if self._interrupts.pressed:
                raise KeyboardInterrupt
        return found

    def wait_and_land(self, job: PaidJob, found: Submission) -> dict[str, Any]:
        """Wait for the job and land it, or only say what it is with ``--no-wait``."""
        finished = found.finished
        if finished is None:
            if not self._args.wait:
                self.print_next_steps()
                return submitted_manifest(found.job)
            finished = watch(self._hook, found.job, deadline=deadline_of(found.job, self._args.timeout))
        echo_line(f"The job is done. Copying its result to {self._target}")
        try:
            manifest = job.land(found, finished)
        except ResultExpiredError as error:
            raise ResultExpiredError(
                f"{error.message}. The same command, run again, pays for another job", job_id=error.job_id
            ) from error
        echo_line(f"Landed {manifest['uri']}: {manifest['bytes']} bytes, sha256 {manifest['sha256']}")
        return manifest

    def _tell_job(self, job: Job, *, resumed: bool) -> None:
        if resumed:
            echo_line(f"Continuing with job {job.job_id}, which is already paid for")
            return
        eta = f", expected in {job.eta:.0f} s" if job.eta is not None else ""
        echo_line(f"Submitted as job {job.job_id}{eta}" if job.job_id else "Submitted, and finished at once")

    def print_next_steps(self) -> None:
        """The job outlives this command."""
        if self.running is None:
            return
        job_id = self.running.job_id
        options = "" if self._args.conn_id == self._hook.default_conn_name else f" --conn-id {self._args.conn_id}"
        name = program(self._args)
        again = " without --again" if self._args.again else ""
        echo_line(
            f"Job {job_id} keeps running without this command, and is billed. To continue with it, at "
            "no further cost:\n"
            f"  the same command again{again}: waits for the job and lands its result\n"
            f"  {name} show {job_id} --watch{options}\n"
            f"  {name} land {job_id} --to {self._target}{options}"
        )


def _attempt() -> AttemptId:
    """Who claims, for people who read the ledger; no task, and no other command, is named so."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = "unknown"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return AttemptId(COMMAND, "submit", f"{user}@{socket.gethostname()} {at} {secrets.token_hex(2)}")
