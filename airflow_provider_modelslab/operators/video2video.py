"""The operator of the main job: submit a clip, wait without a worker, land the result in S3."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, conf

from airflow_provider_modelslab.api.errors import SubmissionUnknownError, error_from_event
from airflow_provider_modelslab.api.polling import PollPolicy
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.operators.arguments import (
    Video2VideoArguments,
    link_suffix,
    resolve_destination,
    result_name,
)
from airflow_provider_modelslab.storage.manifest import Job, finished_manifest, submitted_manifest
from airflow_provider_modelslab.storage.uri import S3Uri
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.api.response import Processing

__all__ = ["ModelsLabVideo2VideoOperator"]


class ModelsLabVideo2VideoOperator(Video2VideoArguments):
    """Submit one video-to-video job, wait for it, and copy the result to S3.

    The task submits from the worker, waits in the triggerer when ``deferrable``, and lands the result on a worker. It
    returns a small manifest: ``uri``, ``sidecar_uri``, ``bytes``, ``sha256``, ``content_type``, ``seed``, ``job_id``...

    All attributes of the endpoint are arguments, see :class:`Video2VideoArguments`. Besides them:

    :param destination: where the result lands (templated): ``s3://bucket/key.mp4``, ``s3://bucket/prefix/`` (named
        ``dag/task/run``), or a key below the connection's bucket. By default the connection's bucket and prefix.
    :param land_result: copy the result to S3. Off, the manifest has the endpoint's links, which live for 24 hours
        unless the vendor's server stores to your bucket (``update_s3``).
    :param modelslab_conn_id: the Airflow connection (templated).
    :param timeout: seconds from the submission until the task gives up; the job itself goes on at the vendor.
    :param poll_interval: seconds of the shortest pause between two looks at the job.
    :param max_poll_interval: seconds of the longest pause.
    :param wait_for_completion: off, the task returns the manifest of the submitted job at once, for a sensor.
    :param check_input: read the first bytes of an http(s) clip before submitting. Switch it off for links that only
        the endpoint can read.
    :param deferrable: wait in the triggerer; ``[operators] default_deferrable`` by default.
    :raises RequestValidationError: for an attribute that is not allowed, or an input that cannot be read.
    :raises StorageConfigurationError: for a destination without a bucket, or a bucket that does not exist.
    """

    template_fields: Sequence[str] = (*Video2VideoArguments.template_fields, "destination", "modelslab_conn_id")

    def __init__(
        self,
        *,
        destination: str | None = None,
        land_result: bool = True,
        modelslab_conn_id: str = ModelsLabHook.default_conn_name,
        timeout: float = 3600.0,
        poll_interval: float = 2.0,
        max_poll_interval: float = 30.0,
        wait_for_completion: bool = True,
        check_input: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.destination = destination
        self.land_result = land_result
        self.modelslab_conn_id = modelslab_conn_id
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.max_poll_interval = max_poll_interval
        self.wait_for_completion = wait_for_completion
        self.check_input = check_input
        self.deferrable = deferrable
        if timeout <= 0:
            raise ValueError(f"timeout: must be more than 0 seconds; got {timeout}")
        self._policy()  # refuses intervals that make no sense while the Dag is parsed

    @cached_property
    def hook(self) -> ModelsLabHook:
        """The hook of this task's connection."""
        return ModelsLabHook(self.modelslab_conn_id)

    def execute(self, context: Context) -> dict[str, Any]:
        """Check everything that can be checked for free, submit once, wait and land."""
        request = self.build_request(context)
        self.hook.get_conn()  # a connection without a key ends the task here
        target = self._target(context, request.output_type or "mp4")
        request = self._with_readable_input(request, target)
        job, answer = self._submit(request)
        if isinstance(answer, Finished):
            return self._finish(context, job, answer)
        if not self.wait_for_completion:
            self.log.info("Not waiting for job %s: wait_for_completion is off", job.job_id)
            return submitted_manifest(job)
        deadline = (job.submitted_at or time.time()) + self.timeout
        if self.deferrable:
            self._defer(job, deadline)
        return self._finish(context, job, self.hook.wait(job, deadline=deadline, policy=self._policy()))

    def execute_complete(self, context: Context, event: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
        """Resume after the trigger: raise what it found, or land the result."""
        submitted = Job.from_dict(job)
        if event.get("status") != "success":
            raise error_from_event({"job_id": submitted.job_id, **event})
        finished = Finished(
            submitted.job_id, tuple(event["links"]), event.get("meta") or {}, event.get("generation_time")
        )
        return self._finish(context, submitted, finished)

    def _submit(self, request: Video2VideoRequest) -> tuple[Job, Finished | Processing]:
        self.log.info(
            "Submitting %s: %d frames, strength %g, input %s",
            request.model_id,
            request.num_frames,
            request.strength,
            self.init_video,
        )
        try:
            job, answer = self.hook.submit(request)
        except SubmissionUnknownError as error:
            # A retry would submit, and perhaps pay, again: that is for a person to decide.
            raise AirflowFailException(str(error)) from error
        eta = f", expected in {job.eta:.0f} s" if job.eta is not None else ""
        self.log.info("Submitted as job %s%s", job.job_id or "(finished at once)", eta)
        return job, answer

    def _defer(self, job: Job, deadline: float) -> NoReturn:
        left = timedelta(seconds=max(deadline - time.time(), 0) + self.max_poll_interval + 60)
        self.log.info("Waiting in the triggerer until %s UTC", time.strftime("%F %T", time.gmtime(deadline)))
        self.defer(
            trigger=ModelsLabVideo2VideoTrigger(
                job.job_id,
                modelslab_conn_id=job.conn_id,
                submitted_at=job.submitted_at or time.time(),
                deadline=deadline,
                eta=job.eta,
                poll_policy=self._policy().to_dict(),
            ),
            method_name="execute_complete",
            kwargs={"job": job.to_dict()},
            # Later than the trigger's own deadline, whose event says more than Airflow's time-out.
            timeout=min(self.execution_timeout, left) if self.execution_timeout else left,
        )

    def _finish(self, context: Context, job: Job, finished: Finished) -> dict[str, Any]:
        expected = self.output_type or None
        target = self._target(context, expected or link_suffix(finished.links))
        if target is None:
            self.log.info("Job %s is done; its links live for 24 hours: no destination was given", job.job_id)
            return finished_manifest(job, finished)
        started = time.monotonic()
        manifest = self.hook.land(job, finished, target, expected_type=expected)
        self.log.info(
            "Landed %s: %d bytes, sha256 %s, in %.1f s",
            manifest["uri"],
            manifest["bytes"],
            manifest["sha256"],
            time.monotonic() - started,
        )
        return manifest

    def _target(self, context: Context, suffix: str) -> S3Uri | None:
        if not self.land_result:
            return None
        return resolve_destination(self.destination, self.hook.s3_profile, f"{result_name(context)}.{suffix}")

    def _with_readable_input(self, request: Video2VideoRequest, target: S3Uri | None) -> Video2VideoRequest:
        """Check the bucket and the clip, and turn the clip into a link that the endpoint can read for long enough."""
        from airflow_provider_modelslab.storage.checks import require_bucket
        from airflow_provider_modelslab.storage.inputs import prepare_input

        profile = self.hook.s3_profile
        if target is not None:
            require_bucket(self.hook.get_s3_client(), target.bucket)
        staging = profile.uri("inputs") if profile.bucket else target and S3Uri(target.bucket, "inputs")
        prepared = prepare_input(
            request.init_video,
            self.hook.get_s3_client,
            staging=staging,
            # The endpoint reads the clip when the job leaves the queue, which may be as late as the deadline.
            expires_in=int(self.timeout) + 3600,
            check_links=self.check_input,
        )
        return request.model_copy(update={"init_video": prepared.url})

    def _policy(self) -> PollPolicy:
        return PollPolicy(min_interval=self.poll_interval, max_interval=self.max_poll_interval)
