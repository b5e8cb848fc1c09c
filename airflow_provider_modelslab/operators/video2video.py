"""The operator of the main job: submit a clip once, wait without a worker, land the result in S3."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, conf

from airflow_provider_modelslab.api.errors import (
    JobFailedError,
    JobLostError,
    ModelsLabError,
    ResultExpiredError,
    SubmissionUnknownError,
    error_from_event,
)
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.lineage.report import reported
from airflow_provider_modelslab.links.media import (
    ModelsLabJobLink,
    ModelsLabManifestLink,
    ModelsLabResultLink,
    ModelsLabSourceLink,
    tell_links,
    tell_manifest,
)
from airflow_provider_modelslab.operators.arguments import (
    Video2VideoArguments,
    link_suffix,
    resolve_destination,
    result_name,
)
from airflow_provider_modelslab.operators.destination_arguments import DestinationArguments
from airflow_provider_modelslab.operators.jobs import (
    deadline_of,
    deferral_timeout,
    has_outlived_its_result,
    poll_policy,
    readable_input,
    submit,
)
from airflow_provider_modelslab.storage.ledger_policy import LedgerPolicy

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.poll_policy import PollPolicy
    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.storage.manifest import Job
    from airflow_provider_modelslab.storage.purchase import Landed, Ledger, Purchase, Send
    from airflow_provider_modelslab.storage.uri import S3Uri

# What only a running task needs is imported where it is used: the Dag processor loads this file every few seconds.

__all__ = ["ModelsLabVideo2VideoOperator"]


class ModelsLabVideo2VideoOperator(DestinationArguments, Video2VideoArguments):
    """Submit one video-to-video job, wait for it, and copy the result to S3. A job is paid for once.

    The task submits from the worker, waits in the triggerer when ``deferrable``, and lands the result on a worker. It
    returns a small manifest: ``uri``, ``sidecar_uri``, ``bytes``, ``sha256``, ``content_type``, ``seed``, ``job_id``...

    What was submitted is written to a ledger beside the results (and to Airflow's task state from 3.3 on), so a retry,
    a cleared task or a second worker goes on with the job that is paid for, or returns the result that has landed.

    All attributes of the endpoint are arguments, see :class:`Video2VideoArguments`. Besides them:

    :param destination: where the result lands (templated): ``s3://bucket/key.mp4``, ``s3://bucket/prefix/`` (named
        ``dag/task/run``), or a key below the connection's bucket. By default the connection's bucket and prefix.
    :param land_result: copy the result to S3. Off, the manifest has the endpoint's links, which live for 24 hours
        unless the vendor's server stores to your bucket (``update_s3``).
    :param modelslab_conn_id: the Airflow connection (templated).
    :param timeout: seconds from the submission until the task gives up; the job itself goes on at the vendor, and a
        later try waits for it again.
    :param poll_interval: seconds of the shortest pause between two looks at the job.
    :param max_poll_interval: seconds of the longest pause.
    :param wait_for_completion: off, the task returns the manifest of the submitted job at once, for a sensor.
    :param check_input: read the first bytes of an http(s) clip before submitting. Switch it off for links that only
        the endpoint can read.
    :param deferrable: wait in the triggerer; ``[operators] default_deferrable`` by default.
    :param reuse_landed: return a result that has landed when the task is cleared; off, a cleared task pays for another
        take. Also ``{"modelslab": {"reuse_landed": false}}`` in the run's conf.
    :param on_changed_request: when the request is another one than the one paid for: ``resubmit`` or ``fail``.
    :param on_unknown_submission: when an earlier submission may or may not have been taken: ``fail``, and ask a person,
        or ``resubmit``, and perhaps pay twice.
    :raises RequestValidationError: for an attribute that is not allowed, or an input that cannot be read.
    :raises StorageConfigurationError: for a destination without a bucket, or a bucket that does not exist.
    """

    template_fields: Sequence[str] = (*Video2VideoArguments.template_fields, *DestinationArguments.destination_fields)
    operator_extra_links = (ModelsLabResultLink(), ModelsLabSourceLink(), ModelsLabManifestLink(), ModelsLabJobLink())

    def __init__(
        self,
        *,
        destination: str | None = None,
        land_result: bool = True,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        timeout: float = 3600.0,
        poll_interval: float = 2.0,
        max_poll_interval: float = 30.0,
        wait_for_completion: bool = True,
        check_input: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        reuse_landed: bool = True,
        on_changed_request: Literal["resubmit", "fail"] = "resubmit",
        on_unknown_submission: Literal["fail", "resubmit"] = "fail",
        **kwargs: Any,
    ) -> None:
        super().__init__(destination=destination, modelslab_conn_id=modelslab_conn_id, **kwargs)
        self.land_result = land_result
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.max_poll_interval = max_poll_interval
        self.wait_for_completion = wait_for_completion
        self.check_input = check_input
        self.deferrable = deferrable
        self.reuse_landed = reuse_landed
        self.on_changed_request = on_changed_request
        self.on_unknown_submission = on_unknown_submission
        self._running: tuple[Ledger, Purchase] | None = None
        if timeout <= 0:
            raise ValueError(f"timeout: must be more than 0 seconds; got {timeout}")
        self._poll_policy()  # these two refuse what makes no sense while the Dag is parsed
        self._ledger_policy()

    @reported
    def execute(self, context: Context) -> dict[str, Any]:
        """Go on with what is paid for, or check everything that can be checked for free and submit once."""
        from airflow_provider_modelslab.operators.task_ledger import open_ledger
        from airflow_provider_modelslab.storage.checks import require_bucket
        from airflow_provider_modelslab.storage.purchase import Landed
        from airflow_provider_modelslab.storage.relocate import relocate
        from airflow_provider_modelslab.storage.sidecar import sidecar_uri

        request = self.build_request()
        self.hook.get_conn()  # a connection without a key ends the task here
        target = self._target(context, request.output_type or "mp4")
        if target is not None:
            sidecar_uri(target)  # a longer key, which would be refused when the job is paid for
            require_bucket(self.hook.get_s3_client(), target.bucket)
        ledger = open_ledger(context, self.hook, target)
        while True:
            found = self._acquire(context, ledger, request, target)
            if isinstance(found, Landed):
                self._reused = True
                self.log.info("Take %d has landed before; nothing is submitted", found.take)
                s3 = self.hook.get_s3_client
                manifest = relocate(s3(), found.manifest, target) if target else dict(found.manifest)
                tell_manifest(context, self, manifest)
                return manifest
            self._running = (ledger, found)
            try:
                return self._see_through(context, ledger, found)
            except (JobFailedError, JobLostError) as error:
                self._close(ledger, found, error)

    @reported
    def execute_complete(
        self, context: Context, event: dict[str, Any], job: dict[str, Any], take: int = 1, resumed: bool = False
    ) -> dict[str, Any]:
        """Resume after the trigger: raise what it found, or land the result."""
        from airflow_provider_modelslab.api.response import Finished
        from airflow_provider_modelslab.operators.task_ledger import open_ledger
        from airflow_provider_modelslab.storage.manifest import Job
        from airflow_provider_modelslab.storage.purchase import Purchase

        found = Purchase(take, Job.from_dict(job), resumed=resumed)
        ledger = open_ledger(context, self.hook, self._target(context, self.output_type or "mp4"))
        self._running = (ledger, found)
        if event.get("status") == "success":
            links, meta = tuple(event["links"]), event.get("meta") or {}
            finished = Finished(found.job.job_id, links, meta, event.get("generation_time"))
            return self._finish(context, ledger, found, finished)
        error = error_from_event({"job_id": found.job.job_id, **event})
        if not isinstance(error, JobFailedError | JobLostError):
            raise error
        self._close(ledger, found, error)
        return self.execute(context)

    def on_kill(self) -> None:
        """Mark the job as abandoned. It still runs, and is billed: the vendor has no cancel."""
        if self._running is not None:
            ledger, found = self._running
            self.log.warning(
                "Killed while job %s runs. It goes on, and is billed, at ModelsLab; clear the task to pick it up",
                found.job.job_id,
            )
            ledger.abandoned(found.take, "the task was killed on its worker")

    # -- paying ---------------------------------------------------------------------------------------------------

    def _acquire(
        self, context: Context, ledger: Ledger, request: Video2VideoRequest, target: S3Uri | None
    ) -> Purchase | Landed:
        """What is paid for already, or one submit."""
        from airflow_provider_modelslab.operators.task_ledger import (
            attempt_of,
            buy_once,
            policy_in_force,
            submission_name,
        )
        from airflow_provider_modelslab.storage.inputs import identify_input
        from airflow_provider_modelslab.storage.ledger import Fingerprint
        from airflow_provider_modelslab.storage.relocate import is_gone

        policy = policy_in_force(self._ledger_policy(), context)
        source = identify_input(request.init_video, self.hook.get_s3_client)
        fingerprint = Fingerprint.of(request.record(), conn_id=self.modelslab_conn_id, source=source)
        attempt = attempt_of(context, retries=self.retries, lease=self.hook.submit_lease())

        def prepare() -> Send:
            clip = readable_input(request, self.hook, target, timeout=self.timeout, check_links=self.check_input)
            self.log.info(
                "Submitting %s: %d frames, strength %g, input %s",
                request.model_id,
                request.num_frames,
                request.strength,
                clip.source,
            )
            return lambda take: submit(self.hook, request, clip, track_id(take))

        def name(take: int) -> str:
            return submission_name(context, take)

        def track_id(take: int) -> str:
            return request.track_id or name(take)

        def gone(manifest: Mapping[str, Any]) -> bool:
            return is_gone(self.hook.get_s3_client(), manifest)

        try:
            return buy_once(
                context,
                ledger,
                fingerprint,
                policy,
                attempt,
                prepare,
                name=name,
                track_id=track_id,
                record=request.record(),
                conn_id=self.modelslab_conn_id,
                skip_landed=gone,
            )
        except SubmissionUnknownError as error:
            if policy.on_unknown_submission == "resubmit":
                raise
            raise AirflowFailException(str(error)) from error

    def _close(self, ledger: Ledger, found: Purchase, error: ModelsLabError) -> None:
        """Note that a take came to nothing; returns when this attempt may pay for another one.

        :raises ModelsLabError: when it was this attempt's own submission: a retry decides about the next.
        """
        ledger.failed(found.take, error)
        if has_outlived_its_result(found.job, error):
            age = time.time() - (found.job.submitted_at or 0)
            raise AirflowFailException(
                f"Job {found.job.job_id} was paid for {age / 3600:.0f} hours ago and was not landed within the 24 "
                "hours that the vendor keeps results. Clear the task to pay for another one"
            ) from error
        if not found.resumed:
            raise error
        self.log.warning("Take %d, which an earlier try paid for, came to nothing: %s", found.take, error)

    # -- waiting and landing --------------------------------------------------------------------------------------

    def _see_through(self, context: Context, ledger: Ledger, found: Purchase) -> dict[str, Any]:
        job = found.job
        finished = found.finished
        if not found.resumed:
            eta = f", expected in {job.eta:.0f} s" if job.eta is not None else ""
            self.log.info("Submitted as job %s%s", job.job_id or "(finished at once)", eta)
        elif finished is None:
            self.log.info("Going on with job %s, which an earlier try paid for", job.job_id)
            finished = self._look(job)
        self._tell_links(context, job)
        if finished is not None:
            return self._finish(context, ledger, found, finished)
        if not self.wait_for_completion:
            from airflow_provider_modelslab.storage.manifest import submitted_manifest

            self.log.info("Not waiting for job %s: wait_for_completion is off", job.job_id)
            return submitted_manifest(job)
        deadline = deadline_of(job, self.timeout)
        if self.deferrable:
            self._defer(context, found, deadline)
        waited = self.hook.wait(job, deadline=deadline, policy=self._poll_policy())
        return self._finish(context, ledger, found, waited)

    def _look(self, job: Job) -> Finished | None:
        """Look once at a job of an earlier try; ``None`` while it runs."""
        from airflow_provider_modelslab.api.polling import GiveUp, JobPoller
        from airflow_provider_modelslab.api.response import Finished

        poller = JobPoller(
            job.job_id,
            submitted_at=job.submitted_at or time.time(),
            deadline=float("inf"),
            policy=self._poll_policy(),
        )
        try:
            answer = self.hook.fetch(job.job_id)
        except ModelsLabError as error:
            decision = poller.on_error(error)
        else:
            if isinstance(answer, Finished):
                return answer
            decision = poller.on_answer(answer)
        if isinstance(decision, GiveUp):
            raise decision.error
        return None

    def _defer(self, context: Context, found: Purchase, deadline: float) -> NoReturn:
        from airflow_provider_modelslab.operators.task_ledger import task_key
        from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger

        job = found.job
        left = max(deadline - time.time(), 0) + self.max_poll_interval + 60
        self.log.info("Waiting in the triggerer until %s UTC", time.strftime("%F %T", time.gmtime(deadline)))
        root = self.hook.s3_profile.ledger_root(self._target(context, "mp4"))
        self.defer(
            trigger=ModelsLabVideo2VideoTrigger(
                job.job_id,
                modelslab_conn_id=job.conn_id,
                submitted_at=job.submitted_at or time.time(),
                deadline=deadline,
                eta=job.eta,
                poll_policy=self._poll_policy().to_dict(),
                ledger=str(root.child(task_key(context).digest())) if root else None,
                take=found.take,
            ),
            method_name="execute_complete",
            kwargs={"job": job.to_dict(), "take": found.take, "resumed": found.resumed},
            timeout=deferral_timeout(left, self.execution_timeout),
        )

    def _finish(self, context: Context, ledger: Ledger, found: Purchase, finished: Finished) -> dict[str, Any]:
        job = found.job
        expected = job.request.get("output_type") or self.output_type
        target = self._target(context, expected or link_suffix(finished.links))
        if target is None:
            from airflow_provider_modelslab.storage.manifest import finished_manifest

            self.log.info("Job %s is done; its links live for 24 hours: no destination was given", job.job_id)
            manifest = finished_manifest(job, finished)
            tell_manifest(context, self, manifest)
            return manifest
        ledger.refuse_if_superseded(found)
        started = time.monotonic()
        try:
            manifest = self.hook.land(job, finished, target, expected_type=expected)
        except ResultExpiredError as error:
            ledger.failed(found.take, error)
            raise AirflowFailException(f"{error}. Clear the task to pay for another one") from error
        ledger.landed(found.take, manifest)
        self.log.info(
            "Landed %s: %d bytes, sha256 %s, in %.1f s",
            manifest["uri"],
            manifest["bytes"],
            manifest["sha256"],
            time.monotonic() - started,
        )
        tell_manifest(context, self, manifest)
        return manifest

    def _tell_links(self, context: Context, job: Job) -> None:
        """Where to look while the job runs; the result's places are those to be."""
        target = self._target(context, self.output_type or "mp4") if self.wait_for_completion else None
        tell_links(
            context,
            self,
            source=self.init_video,
            result=str(target) if target else None,
            manifest=f"{target}.json" if target else None,
            job_id=job.job_id,
            conn_id=job.conn_id,
        )

    def _target(self, context: Context, suffix: str) -> S3Uri | None:
        if not self.land_result:
            return None
        return resolve_destination(self.destination, self.hook.s3_profile, f"{result_name(context)}.{suffix}")

    def _poll_policy(self) -> PollPolicy:
        return poll_policy(self.poll_interval, self.max_poll_interval)

    def _ledger_policy(self) -> LedgerPolicy:
        return LedgerPolicy(self.reuse_landed, self.on_changed_request, self.on_unknown_submission)
