"""The base of operators with one paid job: submit once, wait without a worker, land the result in S3.

An operator for another ModelsLab endpoint is a subclass with its attributes, its ``request_class`` and
:meth:`PaidJobOperator.build_request`; see :mod:`~airflow_provider_modelslab.operators.video2video`.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, conf

from airflow_provider_modelslab.api.aspect import OnStretch, check_on_stretch
from airflow_provider_modelslab.api.errors import (
    BudgetExhaustedError,
    JobFailedError,
    JobLostError,
    ModelsLabError,
    ResultExpiredError,
    SubmissionUnknownError,
    error_from_event,
)
from airflow_provider_modelslab.api.quantities import Seconds, is_template
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.jobs.targets import check_fallback, target_of, targets_of
from airflow_provider_modelslab.jobs.timing import deadline_of, deferral_timeout, has_outlived_its_result, poll_policy
from airflow_provider_modelslab.ledger.policy import LedgerPolicy
from airflow_provider_modelslab.lineage.clip import ClipReport
from airflow_provider_modelslab.lineage.report import reported
from airflow_provider_modelslab.links.media import push_links, push_manifest_links
from airflow_provider_modelslab.operators.arguments import (
    check_literal_suffix,
    is_literal,
    link_suffix,
    resolve_destination,
    result_name,
)
from airflow_provider_modelslab.operators.rendered import clip_version_of
from airflow_provider_modelslab.operators.spending_arguments import SpendingArguments
from airflow_provider_modelslab.storage.uri import check_suffix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_modelslab.api.endpoint_request import EndpointRequest
    from airflow_provider_modelslab.api.polling import PollPolicy
    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.paid_job import PaidJob
    from airflow_provider_modelslab.ledger.model import Submission
    from airflow_provider_modelslab.ledger.service import Ledger
    from airflow_provider_modelslab.operators.fallback import Fallback
    from airflow_provider_modelslab.storage.uri import S3Uri

# What only a running task needs is imported where it is used: the Dag processor loads this file every few seconds.

__all__ = ["PaidJobOperator", "without_retries"]


@contextmanager
def without_retries(*, resubmits: bool = False) -> Iterator[None]:
    """Fail the task for good for an error that a retry meets again.

    :param resubmits: whether a retry submits again what has an unknown outcome.
    :raises AirflowFailException: for such an error.
    """
    try:
        yield
    except BudgetExhaustedError as error:
        raise AirflowFailException(f"{error.code}: {error}") from error
    except SubmissionUnknownError as error:
        if resubmits:
            raise  # after the retry's delay
        raise AirflowFailException(str(error)) from error
    except ResultExpiredError as error:
        raise AirflowFailException(f"{error}. Clearing the task pays for another job") from error


class PaidJobOperator(ClipReport, SpendingArguments):
    """One job at an endpoint, paid for once, whose result lands in S3.

    :param destination: where the result lands (templated): ``s3://bucket/key.mp4``, ``s3://bucket/prefix/`` (named
        ``dag/task/run``), or a key below the connection's bucket. By default the connection's bucket and prefix. The
        ledger, which records what is paid for, belongs to the destination: another destination pays for a new job.
    :param land_result: copy the result to S3. If off, the manifest contains the endpoint's links, which are valid for
        24 hours unless the vendor's server stores results in your bucket (``update_s3``).
    :param modelslab_conn_id: the Airflow connection (templated).
    :param extra_args: arguments of ``put_object`` for every write to S3 (templated), see
        :class:`~airflow_provider_modelslab.operators.destination_arguments.DestinationArguments`.
    :param timeout: how long after the submission the task stops waiting (templated): seconds, text such as ``"1h"``,
        ``"90s"``, ``"1h30m"``, or a timedelta; above 0. The job itself keeps running at the vendor, and a later try
        waits for it again.
    :param poll_interval: shortest pause between two polls of the job (templated), as ``timeout``.
    :param max_poll_interval: longest pause (templated), as ``timeout``.
    :param wait_for_completion: if off, the task returns the manifest of the submitted job at once; a sensor can wait
        for the job. Of a whole clip it returns once the last job is submitted.
    :param check_input: read the first bytes of an http(s) clip before the submit. Switch it off for links that only the
        endpoint can read.
    :param on_stretch: what to do if ``width`` and ``height`` are given and their proportions differ by more than 5 %
        from the clip's: ``"warn"`` names the sizes that keep them, and submits the job; ``"fail"`` fails before
        anything is paid for; ``"ignore"`` does not check. The size is read from the clip's headers, if possible.
    :param deferrable: wait in the triggerer; ``[operators] default_deferrable`` by default.
    :param reuse: which stored results at the destination are used instead of a new one, if request and clip are the
        same. ``"run"``: those made for this Dag run; so retries and clears pay for nothing, and the next Dag run pays
        for a new one. ``"always"``: any. ``"never"``: only those made since the task was last cleared. The run's conf
        can set it too: ``{"modelslab": {"reuse": "never"}}``.
    :param on_changed_request: what to do if a result exists, but for another request: ``resubmit``, which pays for a
        new job, or ``fail``.
    :param on_unknown_submission: what to do if it is unknown whether the endpoint accepted an earlier submission:
        ``fail``, so that a person decides, or ``resubmit``, which may pay twice.
    :param fallback: other places to run the job (templated), in order. They are used if the job failed, the model does
        not exist or the account has no credits. Each one is a mapping with ``modelslab_conn_id``, ``model_id`` and
        ``run_on`` (``"endpoint"``, or ``"local"`` for the last one); a missing key has the value of the task. Each
        place is tried once. No other place is tried after an unknown outcome.
    :raises InvalidRequestError: for an attribute that is not allowed, or an input that cannot be read.
    :raises StorageConfigurationError: for a destination without a bucket, or a bucket that does not exist.
    """

    __supports_durable_execution: ClassVar[bool] = True  # for Airflow's registry of providers

    duration_fields: ClassVar[tuple[str, ...]] = ("timeout", "poll_interval", "max_poll_interval")

    timeout = Seconds(above=0)
    poll_interval = Seconds(above=0)
    max_poll_interval = Seconds(above=0)

    def __init__(
        self,
        *,
        destination: str | None = None,
        land_result: bool = True,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        timeout: float | str | timedelta = 3600.0,
        poll_interval: float | str | timedelta = 2.0,
        max_poll_interval: float | str | timedelta = 30.0,
        wait_for_completion: bool = True,
        check_input: bool = True,
        on_stretch: OnStretch = "warn",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        reuse: Literal["run", "always", "never"] = "run",
        on_changed_request: Literal["resubmit", "fail"] = "resubmit",
        on_unknown_submission: Literal["fail", "resubmit"] = "fail",
        fallback: Sequence[Mapping[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(destination=destination, modelslab_conn_id=modelslab_conn_id, **kwargs)
        self.fallback = fallback
        self.land_result = land_result
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.max_poll_interval = max_poll_interval
        self.wait_for_completion = wait_for_completion
        self.check_input = check_input
        self.on_stretch = on_stretch
        self.deferrable = deferrable
        self.reuse = reuse
        self.on_changed_request = on_changed_request
        self.on_unknown_submission = on_unknown_submission
        self.is_killed = False
        self._running: tuple[Ledger, Submission] | None = None
        check_literal_suffix(self)
        check_on_stretch(on_stretch)
        if fallback is not None and not wait_for_completion:
            raise ValueError(
                "fallback: needs wait_for_completion=True, because only a task that waits learns that its job failed"
            )
        if fallback is not None and is_literal(fallback):
            check_fallback(fallback)
        if not (is_template(poll_interval) or is_template(max_poll_interval)):
            self._poll_policy()  # this and the next refuse what makes no sense while the Dag is parsed
        self._ledger_policy()

    def build_request(self) -> EndpointRequest:
        """The request after templating.

        :raises InvalidRequestError: naming each attribute at fault, what was given and what is allowed.
        """
        raise NotImplementedError

    @reported
    def execute(self, context: Context) -> dict[str, Any]:
        """Return what is stored, wait for what is paid for, or check what costs nothing and submit once."""
        from airflow_provider_modelslab.ledger.chain import RunHere
        from airflow_provider_modelslab.ledger.model import Stored

        whole = self._execute_whole(context)
        if whole is not None:
            return whole
        job = self._prepare(context)
        while True:
            try:
                with without_retries(resubmits=job.policy.on_unknown_submission == "resubmit"):
                    found = job.acquire()
            finally:
                job.spending.close()
            if isinstance(found, RunHere):
                self.log.info("Making the clip on this worker, after a failure at: %s", found.chain["fallback_from"])
                manifest = self._fallback.run_here(job, found, lambda: self.is_killed)
                push_manifest_links(context, self, manifest)
                return manifest
            if isinstance(found, Stored):
                self._reused = True
                self.log.info(
                    "The result of submission %d is already in S3; nothing is submitted or paid for", found.number
                )
                push_manifest_links(context, self, found.manifest)
                return dict(found.manifest)
            self._running = job.ledger, found
            self._log_submission(found)
            self._tell_links(context, found, job.destination)
            try:
                finished = self._wait(context, job, found)
                if finished is None:
                    return self._submitted(found)
                manifest = self._finish(context, job.ledger, found, finished, job.destination)
            except (JobFailedError, JobLostError) as error:
                self._close(job.ledger, found, error, has_other_place=job.has_place_after(target_of(found.job), error))
                continue
            job.spending.settle(job.destination, manifest.get("generation_time_s"))
            job.spending.close()
            return manifest

    @reported
    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any],
        job: dict[str, Any] | None = None,
        submission: int = 1,
        resumed: bool = False,
        destination: str | None = None,
    ) -> dict[str, Any]:
        """Resume after the trigger: raise what it found, or land the result.

        ``dag.test()`` and ``airflow tasks test`` of Airflow 3.1 to 3.3 lose all arguments but the event. The job is
        then found in the ledger; without a ledger the event carries it.
        """
        from airflow_provider_modelslab.api.response import Finished
        from airflow_provider_modelslab.jobs.task_ledger import open_ledger
        from airflow_provider_modelslab.ledger.model import Submission
        from airflow_provider_modelslab.storage.result_manifest import Job
        from airflow_provider_modelslab.storage.uri import S3Uri

        if job is not None:
            found = Submission(submission, Job.from_dict(job), resumed=resumed)
            target = S3Uri.parse(destination) if destination else None  # the Dag may name another one by now
            ledger = open_ledger(context, self.hook, target)
        else:
            resumed_job = self._resume_with_event(context, event)
            if resumed_job is None:
                return self.execute(context)
            ledger, found, target = resumed_job
        self._running = ledger, found
        if event.get("status") == "success":
            links, meta = tuple(event["links"]), event.get("meta") or {}
            finished = Finished(found.job.job_id, links, meta, event.get("generation_time"))
            return self._finish(context, ledger, found, finished, target)
        error = error_from_event({"job_id": found.job.job_id, **event})
        if not isinstance(error, JobFailedError | JobLostError):
            raise error
        has_other_place = self.fallback is not None and self._prepare(context).has_place_after(
            target_of(found.job), error
        )
        self._close(ledger, found, error, has_other_place=has_other_place)
        return self.execute(context)

    def _resume_with_event(
        self, context: Context, event: dict[str, Any]
    ) -> tuple[Ledger, Submission, S3Uri | None] | None:
        """What the lost arguments said: from the event, or from the ledger; ``None`` when it knows another job."""
        from airflow_provider_modelslab.jobs.task_ledger import open_ledger
        from airflow_provider_modelslab.ledger.model import Submission
        from airflow_provider_modelslab.storage.result_manifest import Job

        self.log.info("Resumed without arguments, as in dag.test(). The job is taken from the ledger or the event")
        if event.get("job") is not None:
            found = Submission(event.get("submission", 1), Job.from_dict(event["job"]))
            return open_ledger(context, self.hook, None), found, None
        job = self._prepare(context)
        known = job.ledger.find(job.fingerprint, job.policy, job.attempt)
        if isinstance(known, Submission) and known.job.job_id == event.get("job_id"):
            return job.ledger, replace(known, resumed=False), job.destination
        return None

    def _execute_whole(self, context: Context) -> dict[str, Any] | None:
        """The manifest of a task that makes more than one job of its clip; ``None`` where one job is all."""
        return None

    def on_kill(self) -> None:
        """Submit nothing more, and mark the job as abandoned. It goes on, and is billed: the vendor has no cancel."""
        self.is_killed = True
        if self._running is not None:
            ledger, found = self._running
            self.log.warning(
                "The task was killed while job %s runs. It keeps running at ModelsLab and is billed. Clear the task to "
                "continue with it",
                found.job.job_id,
            )
            ledger.abandoned(found.number, "the task was killed on its worker")

    # -- the steps ------------------------------------------------------------------------------------------------

    def _prepare(self, context: Context) -> PaidJob:
        """The job, after the checks that need neither the clip nor the ledger."""
        from airflow_provider_modelslab.jobs.paid_job import PaidJob
        from airflow_provider_modelslab.jobs.task_ledger import TaskCaller, attempt_of, open_ledger, policy_in_force
        from airflow_provider_modelslab.storage.sidecar import sidecar_uri

        request = self.build_request()
        self.hook.get_conn()  # a connection without a key ends the task here
        self.hook.check_request(request)
        destination = self._destination_for(context, getattr(request, "output_type", None) or "mp4")
        if destination is not None:
            sidecar_uri(destination)  # a longer key, which would be refused when the job is paid for
        places = targets_of(request, self.modelslab_conn_id, self.fallback) if self.fallback is not None else ()
        self._fallback.check(places, request, destination)
        return PaidJob(
            request=request,
            hook=self.hook,
            ledger=open_ledger(context, self.hook, destination),
            destination=destination,
            policy=policy_in_force(self._ledger_policy(), context),
            attempt=attempt_of(context, retries=self.retries),
            caller=TaskCaller(context, self),
            timeout=self.timeout,
            check_links=self.check_input,
            on_stretch=self.on_stretch,
            clip_version=clip_version_of(getattr(self, "clip_version", None)),
            spending=self._open_spending(context, destination, self.timeout),
            places=places,
            hooks=self._fallback.hooks,
        )

    @cached_property
    def _fallback(self) -> Fallback:
        from airflow_provider_modelslab.operators.fallback import Fallback

        return Fallback.open(self.fallback, self.hook)

    def _wait(self, context: Context, job: PaidJob, found: Submission) -> Finished | None:
        """The result: at once, after waiting here, or by deferring; ``None`` when nobody waits.

        :raises JobFailedError: and the like, see :meth:`ModelsLabHook.wait`.
        """
        finished = found.finished
        if finished is None and found.resumed:
            finished = self._poll_once(found)
        if finished is not None or not self.wait_for_completion:
            return finished
        deadline = deadline_of(found.job, self.timeout)
        if self.deferrable:
            self._defer(context, job, found, deadline)
        return self._hook_of(found).wait(found.job, deadline=deadline, policy=self._poll_policy())

    def _hook_of(self, found: Submission) -> ModelsLabHook:
        """The hook of the connection whose key submitted a job: of another one, if the task has fallen back to it."""
        place = target_of(found.job)
        return self.hook if place is None or place.conn_id == self.modelslab_conn_id else type(self.hook)(place.conn_id)

    def _poll_once(self, found: Submission) -> Finished | None:
        """The result of an earlier try's job if it is done; ``None`` while it runs."""
        from airflow_provider_modelslab.api.polling import Done, GiveUp

        decision = self._hook_of(found).poll(found.job, policy=self._poll_policy())
        if isinstance(decision, GiveUp):
            raise decision.error
        return decision.answer if isinstance(decision, Done) else None

    def _defer(self, context: Context, job: PaidJob, found: Submission, deadline: float) -> NoReturn:
        from airflow_provider_modelslab.jobs.task_ledger import ledger_folder
        from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger

        left = max(deadline - time.time(), 0) + self.max_poll_interval + 60
        self.log.info(
            "Waiting in the triggerer, until %s UTC at the latest", time.strftime("%F %T", time.gmtime(deadline))
        )
        folder = ledger_folder(context, self.hook, job.destination)
        self.defer(
            trigger=ModelsLabVideo2VideoTrigger(
                found.job.job_id,
                modelslab_conn_id=found.job.conn_id,
                submitted_at=found.job.submitted_at or time.time(),
                deadline=deadline,
                eta=found.job.eta,
                poll_policy=self._poll_policy().to_dict(),
                ledger=str(folder) if folder else None,
                submission=found.number,
                job=None if folder else found.job.to_dict(),
                extra_args=self.hook.extra_args or None,
                ledger_conn_id=None if found.job.conn_id == self.modelslab_conn_id else self.modelslab_conn_id,
            ),
            method_name="execute_complete",
            kwargs={
                "job": found.job.to_dict(),
                "submission": found.number,
                "resumed": found.resumed,
                "destination": str(job.destination) if job.destination else None,
            },
            timeout=deferral_timeout(left, self.execution_timeout),
        )

    def _finish(
        self, context: Context, ledger: Ledger, found: Submission, finished: Finished, destination: S3Uri | None
    ) -> dict[str, Any]:
        """Land the result; without a destination, return its links."""
        from airflow_provider_modelslab.jobs.paid_job import land
        from airflow_provider_modelslab.storage.result_manifest import finished_manifest

        if destination is None:
            self.log.info(
                "Job %s is done. No destination was given, so nothing is copied to S3; the "
                "links are valid for 24 hours",
                found.job.job_id,
            )
            manifest = finished_manifest(found.job, finished)
            push_manifest_links(context, self, manifest)
            return manifest
        expected = found.job.request.get("output_type") or getattr(self, "output_type", None)
        if expected is None:  # the endpoint chose
            destination = self._destination_for(context, link_suffix(finished.links)) or destination
        began = time.monotonic()
        with without_retries():
            manifest = land(self.hook, ledger, found, finished, destination, expected_type=expected)
        self.log.info(
            "Landed %s: %d bytes, sha256 %s, in %.1f s",
            manifest["uri"],
            manifest["bytes"],
            manifest["sha256"],
            time.monotonic() - began,
        )
        push_manifest_links(context, self, manifest)
        return manifest

    def _submitted(self, found: Submission) -> dict[str, Any]:
        from airflow_provider_modelslab.storage.result_manifest import submitted_manifest

        self.log.info("Not waiting for job %s: wait_for_completion is off", found.job.job_id)
        if not (found.job.request.get("webhook") or self._hook_of(found).extra.get("webhook_url")):
            self.log.warning(
                "Job %s was submitted without a webhook, so its result must be landed within 24 hours: by "
                "ModelsLabVideo2VideoSensor and then ModelsLabVideo2VideoToS3Operator with the output of this task, or "
                "by `airflow modelslab land %s --conn-id %s`",
                found.job.job_id,
                found.job.job_id,
                found.job.conn_id,
            )
        return submitted_manifest(found.job)

    def _close(
        self, ledger: Ledger, found: Submission, error: ModelsLabError, *, has_other_place: bool = False
    ) -> None:
        """Record that a job came to nothing; returns when this attempt may pay for another one.

        :param has_other_place: whether another place is tried.
        :raises ModelsLabError: when it was this attempt's own job: a retry decides about the next.
        """
        from airflow_provider_modelslab.jobs.paid_job import close

        if close(ledger, found, error):
            self._running = None
            self.log.warning(
                "Submission %d of an earlier try has no usable result: %s. A new job is submitted and paid for",
                found.number,
                error,
            )
            return
        if has_other_place:
            self._running = None
            self.log.warning(
                "Submission %d has no usable result: %s. The next place in fallback is tried", found.number, error
            )
            return
        if has_outlived_its_result(found.job, error):
            age = time.time() - (found.job.submitted_at or 0)
            raise AirflowFailException(
                f"Job {found.job.job_id} was paid for {age / 3600:.0f} hours ago, but its result was not landed within "
                "24 hours, and the vendor has deleted it. Clearing the task pays for another job"
            ) from error
        raise error

    def _log_submission(self, found: Submission) -> None:
        job = found.job
        if found.resumed:
            self.log.info("Continuing with job %s, which is already paid for", job.job_id or "(finished at once)")
        else:
            eta = f", expected in {job.eta:.0f} s" if job.eta is not None else ""
            self.log.info("Submitted as job %s%s", job.job_id or "(finished at once)", eta)

    def _tell_links(self, context: Context, found: Submission, destination: S3Uri | None) -> None:
        """Where to look while the job runs; the result's places are those to be."""
        target = destination if self.wait_for_completion else None
        push_links(
            context,
            self,
            source=found.job.request.get("init_video") or getattr(self, "init_video", None),
            result=str(target) if target else None,
            manifest=f"{target}.json" if target else None,
            job_id=found.job.job_id if found.job.conn_id == self.modelslab_conn_id else None,
            conn_id=self.modelslab_conn_id,
        )

    def _destination_for(self, context: Context, suffix: str) -> S3Uri | None:
        if not self.land_result:
            return None
        if isinstance(self.destination, str):
            check_suffix(self.destination, suffix)
        return resolve_destination(self.destination, self.hook.s3_profile, f"{result_name(context)}.{suffix}")

    def _poll_policy(self) -> PollPolicy:
        return poll_policy(self.poll_interval, self.max_poll_interval)

    def _ledger_policy(self) -> LedgerPolicy:
        return LedgerPolicy(self.reuse, self.on_changed_request, self.on_unknown_submission)
