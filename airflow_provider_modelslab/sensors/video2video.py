"""The sensor: wait for a job that an earlier task submitted."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, conf
from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_modelslab.api.errors import JobTimeoutError, ModelsLabError, error_from_event
from airflow_provider_modelslab.api.quantities import Seconds, is_template, seconds_of
from airflow_provider_modelslab.api.suggestions import SuggestArguments
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.links.media import ModelsLabJobLink, push_links

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.result_manifest import Job

# What only a running task needs is imported where it is used: the Dag processor loads this file every few seconds.

__all__ = ["ModelsLabVideo2VideoSensor"]


class ModelsLabVideo2VideoSensor(SuggestArguments, BaseSensorOperator):
    """Wait until a job is done, in ``poke`` or ``reschedule`` mode or in the triggerer, and return its manifest.

    Of a whole clip it waits until all jobs are done. Then ``ModelsLabVideo2VideoToS3Operator`` lands and joins them.

    A failed poll (network error, HTTP 5xx, rate limit) never ends the wait. A refused key and a failed job end it. So
    does a job that the endpoint does not know; in the minute after the submission, or after the sensor's first poll if
    only the job's id is known, this is a warning. The sensor only reads, so it can be cleared and retried at no cost.

    :param job: the job (templated): its id, or the manifest of the task that submitted it.
    :param modelslab_conn_id: the Airflow connection (templated); a manifest's own connection takes precedence.
    :param deferrable: wait in the triggerer; ``[operators] default_deferrable`` by default.
    :param poke_interval: the time between two polls (templated), in the triggerer the longest pause: seconds, text such
        as ``"90s"``, ``"5m"``, or a timedelta; 0 or more. In ``reschedule`` mode keep it at 15 seconds or more: an
        executor may report the end of a poke up to 5 seconds late, and Airflow fails a sensor that is queued again by
        then.
    :param timeout: how long to wait (templated), as ``poke_interval``; ``[sensors] default_timeout`` by default.
    """

    template_fields: Sequence[str] = ("job", "modelslab_conn_id", "poke_interval", "timeout")
    operator_extra_links = (ModelsLabJobLink(),)
    ui_color = "#efe8fb"

    poke_interval = Seconds(least=0)
    timeout = Seconds(least=0)

    def __init__(
        self,
        *,
        job: Any,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: float | str | timedelta = 15.0,
        timeout: float | str | timedelta | None = None,
        **kwargs: Any,
    ) -> None:
        # Airflow's class takes numbers only; a template has its place taken by the default until it is rendered.
        late = {
            name: value
            for name, value in (("poke_interval", poke_interval), ("timeout", timeout))
            if is_template(value)
        }
        interval = 15.0 if "poke_interval" in late else seconds_of(poke_interval, "poke_interval", least=0)
        if timeout is not None and "timeout" not in late:  # Airflow 3.1 takes no None for its default
            kwargs["timeout"] = seconds_of(timeout, "timeout", least=0)
        super().__init__(poke_interval=interval, **kwargs)
        for name, value in late.items():
            setattr(self, name, value)
        self.job = job
        self.modelslab_conn_id = modelslab_conn_id
        self.deferrable = deferrable
        self._started = time.time()
        self._done: dict[tuple[str, str], Finished] = {}

    @cached_property
    def _jobs(self) -> list[Job]:
        """The job, or those of a whole clip, perhaps none."""
        from airflow_provider_modelslab.storage.result_manifest import jobs_of

        return jobs_of(self.job, conn_id=self.modelslab_conn_id)

    @property
    def _is_whole(self) -> bool:
        from airflow_provider_modelslab.storage.result_manifest import is_whole

        return is_whole(self.job)

    @cached_property
    def hook(self) -> ModelsLabHook:
        """The hook of the job's connection."""
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

        return ModelsLabHook(self._jobs[0].conn_id)

    def execute(self, context: Context) -> Any:
        """Poll once; wait in the triggerer when the job is not done and the sensor is deferrable."""
        if len(self._jobs) == 1:
            push_links(context, self, job_id=self._jobs[0].job_id, conn_id=self._jobs[0].conn_id)
        if not self.deferrable:
            return super().execute(context)
        try:
            poked = self.poke(context)
        except ModelsLabError as error:
            self._fail(error)
        if not poked.is_done:
            self._defer(context)
        return poked.xcom_value

    def _defer(self, context: Context) -> NoReturn:
        from airflow_provider_modelslab.api.poll_policy import PollPolicy
        from airflow_provider_modelslab.triggers.batch import ModelsLabBatchTrigger
        from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger

        deadline = time.time() + self.timeout
        longest = self.poke_interval or 2.0
        policy = PollPolicy(min_interval=min(2.0, longest), max_interval=longest)
        records: list[dict[str, Any]] = [
            {
                "job_id": job.job_id,
                "submitted_at": self._since(context, job),
                "deadline": deadline,
                "eta": job.eta,
            }
            for job in self._jobs
        ]
        options: dict[str, Any] = {"modelslab_conn_id": self._jobs[0].conn_id, "poll_policy": policy.to_dict()}
        self.defer(
            trigger=ModelsLabBatchTrigger(records, wake_at=len(records), **options)
            if self._is_whole
            else ModelsLabVideo2VideoTrigger(**records[0], **options),
            method_name="execute_complete",
            # Later than the trigger's own deadline, whose event has more details than Airflow's time-out.
            timeout=timedelta(seconds=self.timeout + policy.max_interval + 60),
        )

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll the job once; of a whole clip, those jobs that were not done the last time."""
        from airflow_provider_modelslab.storage.result_manifest import finished_manifest

        for job in self._jobs:
            if job.key not in self._done and (finished := self._poll(context, job)) is not None:
                self._done[job.key] = finished
        if self._is_whole:
            self.log.info("%d of %d jobs are done", len(self._done), len(self._jobs))
            return PokeReturnValue(len(self._done) == len(self._jobs), _finished_whole(self.job))
        (job,) = self._jobs
        finished = self._done.get(job.key)
        return PokeReturnValue(finished is not None, finished and finished_manifest(job, finished))

    def _poll(self, context: Context, job: Job) -> Finished | None:
        from airflow_provider_modelslab.api.polling import Done, GiveUp

        decision = self.hook.poll(replace(job, submitted_at=self._since(context, job)))
        if isinstance(decision, Done):
            return decision.answer
        if isinstance(decision, GiveUp):
            raise decision.error
        self.log.log(
            logging.WARNING if decision.warn else logging.INFO,
            "Job %s is not done yet%s",
            job.job_id,
            f": {decision.note}" if decision.note else "",
        )
        return None

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Resume after the trigger: raise the error in its event, or return the manifest."""
        from airflow_provider_modelslab.api.response import Finished
        from airflow_provider_modelslab.storage.result_manifest import finished_manifest

        for record in event.get("ended", [event]):  # of a whole clip, that of each job
            if record.get("status") != "success":
                error = error_from_event(record)
                if isinstance(error, JobTimeoutError):
                    raise AirflowSensorTimeout(str(error))  # which soft_fail and never_fail handle
                self._fail(error)
        if self._is_whole:
            return _finished_whole(self.job)
        (job,) = self._jobs
        links = tuple(event["links"])
        return finished_manifest(
            job, Finished(job.job_id, links, event.get("meta") or {}, event.get("generation_time"))
        )

    def _fail(self, error: ModelsLabError) -> NoReturn:
        """End the task as the base class does in its other two modes."""
        if self.never_fail:
            raise AirflowSkipException(f"Skipping, because never_fail is set: {error}") from error
        raise error

    def _since(self, context: Context, job: Job) -> float:
        """When the job was submitted, or the sensor began: for a while after it "Request not found" means "not yet"."""
        if job.submitted_at is not None:
            return job.submitted_at
        first = context["ti"].get_first_reschedule_date(context) if self.reschedule else None
        return first.timestamp() if first else self._started


def _finished_whole(submitted: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest of a whole clip whose jobs are done; one that has landed stays as it is."""
    return {**submitted, "status": "finished"} if submitted["status"] == "submitted" else dict(submitted)
