"""``submit``: one clip, paid for once, however often the command is killed and run again."""

from __future__ import annotations

import getpass
import secrets
import socket
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import (
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    ModelsLabError,
    RequestValidationError,
    ResultExpiredError,
    SubmissionUnknownError,
)
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.interrupts import HeldInterrupts
from airflow_provider_modelslab.cli.places import destination_of, ledgers_of, refuse_to_overwrite
from airflow_provider_modelslab.cli.request import request_of
from airflow_provider_modelslab.cli.running import INTERRUPTED, RUNNING, command, confirm, print_record, program, tell
from airflow_provider_modelslab.cli.watching import watch
from airflow_provider_modelslab.operators import jobs
from airflow_provider_modelslab.storage.checks import require_bucket
from airflow_provider_modelslab.storage.inputs import identify_input
from airflow_provider_modelslab.storage.ledger import Fingerprint, LedgerPolicy
from airflow_provider_modelslab.storage.manifest import submitted_manifest
from airflow_provider_modelslab.storage.purchase import Attempt, Landed, Purchase
from airflow_provider_modelslab.storage.relocate import is_gone

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.manifest import Job
    from airflow_provider_modelslab.storage.purchase import Send
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["submit"]

_WORTH_TELLING = 1.5  # seconds: a pause that is not one between two tries to write an entry


@command
def submit(args: Namespace) -> int | None:
    """Check everything that can be checked for free, ask, submit once, watch, land, and print the manifest."""
    request = request_of(args)
    hook = open_hook(args.conn_id)
    hook.get_conn()  # a connection without a key ends the command here
    target = destination_of(hook, args.to, request.init_video, request.output_type or "mp4")
    if str(target) == request.init_video:
        raise RequestValidationError.of("--to", "is the clip itself; choose another place for the result")
    require_bucket(hook.get_s3_client(), target.bucket)
    submission = _Submission(args, hook, request, target)
    try:
        print_record(_buy_and_land(submission), args.output)
    except (JobTimeoutError, KeyboardInterrupt) as error:
        if submission.job is None:
            raise
        if isinstance(error, JobTimeoutError):
            tell(str(error))
        submission.tell_how_to_go_on(submission.job)
        if isinstance(error, KeyboardInterrupt):
            return INTERRUPTED
        print_record(submitted_manifest(submission.job), args.output)  # as with --no-wait
        return RUNNING
    return None


def _buy_and_land(submission: _Submission) -> Mapping[str, Any]:
    while True:
        found = submission.acquire()
        if isinstance(found, Landed):
            tell(f"Take {found.take} has landed before: nothing is paid for. --again pays for another take")
            return found.manifest
        try:
            return submission.see_through(found)
        except (JobFailedError, JobLostError) as error:
            submission.close(found, error)
        except ModelsLabError as error:
            if not error.ends_wait:
                submission.tell_how_to_go_on(found.job)
            raise


class _Submission:
    def __init__(self, args: Namespace, hook: ModelsLabHook, request: Video2VideoRequest, target: S3Uri) -> None:
        self._args = args
        self._hook = hook
        self._request = request
        self._target = target
        self.job: Job | None = None  # once it is known which one is paid for
        self._interrupts = HeldInterrupts()
        self._sent = self._told = False
        ledgers = ledgers_of(hook, target)
        if not ledgers.conditional:
            tell(
                "warning: this S3 store ignores conditional puts, so two commands in the same instant may both pay for "
                f"{target}"
            )
        self._ledger = ledgers.open(target, sleep=self._pause)

    # -- paying ---------------------------------------------------------------------------------------------------

    def acquire(self) -> Purchase | Landed:
        """What is paid for already, or one submit."""
        request, conn_id = self._request, self._args.conn_id
        source = identify_input(request.init_video, self._hook.get_s3_client)
        fingerprint = Fingerprint.of(request.record(), conn_id=conn_id, source=source)
        policy = LedgerPolicy(
            reuse_landed=not self._args.again,
            on_unknown_submission="resubmit" if self._args.resubmit else "fail",
        )
        attempt = Attempt(lease=self._hook.submit_lease(), names=_names())
        adopted = False
        while True:
            try:
                found = self._ledger.acquire(
                    fingerprint, policy, attempt, self._prepare, track_id=self._track_id, skip_landed=self._is_gone
                )
                self.job = found.job if isinstance(found, Purchase) else None
                break
            except SubmissionUnknownError as error:
                if self._args.adopt is None or adopted or self._sent:
                    raise SubmissionUnknownError(
                        f"{error.message}. If the job is there, run the same command again with --adopt <the job's "
                        "id>; if it is not, with --resubmit",
                        take=error.take,
                    ) from error
                adopted = True
                self._ledger.adopt(
                    self._args.adopt,
                    conn_id=conn_id,
                    take=error.take,
                    fingerprint=fingerprint,
                    request=request.record(),
                )
            finally:
                self._interrupts.release()
        if isinstance(found, Purchase):
            self._tell_job(found)
            if self._interrupts.pressed:
                raise KeyboardInterrupt
        return found

    def _prepare(self) -> Send:
        args, request = self._args, self._request
        clip = jobs.readable_input(request, self._hook, self._target, timeout=args.timeout, check_links=True)
        if not args.overwrite and not args.again:
            refuse_to_overwrite(self._hook, self._target)
        size = f"{request.width}x{request.height}, " if request.width and request.height else ""
        tell(
            f"This pays for one job at {self._hook.base_url}, connection {args.conn_id} (its account has the price):\n"
            f"  {request.model_id}, {size}{request.num_frames} frames, {request.num_inference_steps} steps, "
            f"strength {request.strength:g}\n"
            f"  prompt {request.prompt[:200]!r}\n"
            f"  from   {clip.source}\n"
            f"  to     {self._target}"
        )
        confirm("Submit it?", yes=args.yes, undone="Nothing was submitted")
        # From the claim on an end of this process leaves a submission of unknown outcome behind.
        self._interrupts.hold()

        def send(take: int) -> tuple[Job, Finished | None]:
            self._sent = True
            tell(f"Submitting it as track_id {self._track_id(take)}")
            return jobs.submit(self._hook, request, clip, self._track_id(take))

        return send

    def _track_id(self, take: int) -> str:
        return self._request.track_id or f"cli/{self._target.bucket}/{self._target.key}/take{take}"

    def _is_gone(self, manifest: Mapping[str, Any]) -> bool:
        return is_gone(self._hook.get_s3_client(), manifest)

    def _pause(self, seconds: float) -> None:
        """The ledger's pauses: short ones between tries to write, longer ones when somebody else is at it."""
        if seconds > _WORTH_TELLING and not self._told:
            self._told = True
            tell("Another process is submitting this, or was until a moment ago; looking what becomes of it")
        if self._interrupts.pressed and not self._sent:
            raise KeyboardInterrupt
        time.sleep(seconds)

    # -- waiting and landing --------------------------------------------------------------------------------------

    def see_through(self, found: Purchase) -> dict[str, Any]:
        """Wait for the job and land it, or only say what it is with ``--no-wait``."""
        job, finished = found.job, found.finished
        if finished is None:
            if not self._args.wait:
                self.tell_how_to_go_on(job)
                return submitted_manifest(job)
            deadline = jobs.deadline_of(job, self._args.timeout)
            finished = watch(self._hook, job, deadline=deadline)
        self._ledger.refuse_if_superseded(found)
        tell(f"Done; landing it at {self._target}")
        try:
            manifest = self._hook.land(
                job, finished, self._target, expected_type=job.request.get("output_type") or self._request.output_type
            )
        except ResultExpiredError as error:
            self._ledger.failed(found.take, error)
            raise ResultExpiredError(
                f"{error.message}. Run the same command again to pay for another one", job_id=error.job_id
            ) from error
        self._ledger.landed(found.take, manifest)
        tell(f"Landed {manifest['uri']}: {manifest['bytes']} bytes, sha256 {manifest['sha256']}")
        return manifest

    def close(self, found: Purchase, error: ModelsLabError) -> None:
        """Note that a job came to nothing; returns when it was an earlier command's, and this one may ask for another.

        :raises ModelsLabError: when it was this command's own.
        """
        self._ledger.failed(found.take, error)
        self.job = None
        if not found.resumed or jobs.has_outlived_its_result(found.job, error):
            raise error
        tell(f"The job that an earlier command paid for came to nothing: {error}")

    def _tell_job(self, found: Purchase) -> None:
        job = found.job
        if found.resumed:
            tell(f"Going on with job {job.job_id}, which is paid for already")
            return
        eta = f", expected in {job.eta:.0f} s" if job.eta is not None else ""
        tell(f"Submitted as job {job.job_id}{eta}" if job.job_id else "Submitted, and done at once")

    def tell_how_to_go_on(self, job: Job) -> None:
        """The job outlives this command."""
        options = "" if self._args.conn_id == self._hook.default_conn_name else f" --conn-id {self._args.conn_id}"
        name = program(self._args)
        again = " without --again" if self._args.again else ""
        tell(
            f"Job {job.job_id} goes on, and is billed, without this command. To go on with it, for free:\n"
            f"  the same command once more{again}: waits for it and lands it\n"
            f"  {name} show {job.job_id} --watch{options}\n"
            f"  {name} land {job.job_id} --to {self._target}{options}"
        )


def _names() -> dict[str, Any]:
    """Who claims, for people who read the ledger; no task, and no other command, is named so."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have no name for its user
        user = "unknown"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    run = f"{user}@{socket.gethostname()} {at} {secrets.token_hex(2)}"
    return {"dag_id": "airflow modelslab", "task_id": "submit", "run_id": run}
