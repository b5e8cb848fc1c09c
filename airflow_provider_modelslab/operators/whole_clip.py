"""``clip_mode="whole"``: one task restyles a clip of any length, as a small batch of paid jobs."""

from __future__ import annotations

import asyncio
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow_provider_modelslab.api.errors import StorageConfigurationError, error_from_event
from airflow_provider_modelslab.api.quantities import Whole
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings, check_clip_mode
from airflow_provider_modelslab.lineage.report import reported
from airflow_provider_modelslab.links.media import push_links, push_manifest_links
from airflow_provider_modelslab.operators.arguments import is_literal
from airflow_provider_modelslab.operators.many_jobs import defer_for_jobs, leave_jobs
from airflow_provider_modelslab.operators.paid_job import PaidJobOperator, without_retries
from airflow_provider_modelslab.operators.rendered import clip_version_of
from airflow_provider_modelslab.operators.whole_arguments import WholeClipArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.whole_clip.clip import WholeClip
    from airflow_provider_modelslab.jobs.whole_clip.run import SegmentRun

# What only a running task needs is imported where it is used: the Dag processor loads this file every few seconds.

__all__ = ["WholeClipOperator"]

_RESUME_THRESHOLD = 0.5
"""Share of the jobs in flight that have ended when a deferred task resumes: each resume costs a process."""

_DEFER_AFTER = 5.0
"""Seconds of nothing but waiting after which a deferrable task defers."""


class WholeClipOperator(WholeClipArguments, PaidJobOperator):
    """An operator with one paid job, or with many for a whole clip.

    :param max_in_flight: of a whole clip: the most jobs that are submitted and not finished, 1 or more (templated).
    """

    whole_fields: ClassVar[tuple[str, ...]] = (*WholeClipArguments.whole_fields, "max_in_flight")

    max_in_flight = Whole(least=1)

    def __init__(self, *, max_in_flight: int | str = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.max_in_flight = max_in_flight
        self._segment_run: SegmentRun | None = None
        if is_literal(self.clip_mode):
            self._is_whole()

    @cached_property
    def hook(self) -> ModelsLabHook:
        """The hook of this task's connection. The run of a whole clip repeats refused submits itself."""
        from airflow_provider_modelslab.client.config import SubmitPolicy
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

        policy = SubmitPolicy(attempts=1, max_wait=0.0) if check_clip_mode(self.clip_mode) == "whole" else None
        return ModelsLabHook(self.modelslab_conn_id, submit_policy=policy, extra_args=self.extra_args)

    def _not_for_whole(self) -> dict[str, bool]:
        return {
            "land_result": not self.land_result,
            "fallback": self.fallback is not None,
        }

    def _execute_whole(self, context: Context) -> dict[str, Any] | None:
        """Return what is stored, or run the jobs of the segments as far as this process goes, and join them."""
        return self._run_whole(context, {}) if self._is_whole() else None

    @reported
    def resume_whole(
        self, context: Context, event: dict[str, Any], state: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Resume after the trigger. What has ended is found through the ledgers, whatever the event says of it."""
        if event.get("status") != "success":
            raise error_from_event(event)
        return self._run_whole(context, state or {})

    def _run_whole(self, context: Context, state: dict[str, Any]) -> dict[str, Any]:
        from airflow_provider_modelslab.jobs.whole_clip.run import SegmentRun

        clip = self._prepare_whole(context)
        stored = clip.find()
        if stored is not None:
            self._reused = True
            self.log.info("The whole clip is already in S3; nothing is submitted or paid for")
            push_manifest_links(context, self, stored.manifest)
            return dict(stored.manifest)
        opened = clip.open()
        self.log.info("%s", opened.line())
        targets = {"result": str(clip.destination), "manifest": f"{clip.destination}.json"}
        if self.wait_for_completion:
            push_links(context, self, source=clip.request.init_video, conn_id=self.modelslab_conn_id, **targets)
        run = SegmentRun(
            clip,
            opened,
            self.max_in_flight,
            self._poll_policy(),
            defer_after=_DEFER_AFTER if self.deferrable and self.wait_for_completion else None,
            state=state,
            waits=self.wait_for_completion,
        )
        self._segment_run = run
        with without_retries(resubmits=clip.policy.on_unknown_submission == "resubmit"):
            is_done = asyncio.run(run.run())
        if not is_done and self.wait_for_completion:
            self._defer_whole(run, run.outcomes.line())
        if not is_done:
            return self._submitted_whole(run)
        self._segment_run = None
        began = time.monotonic()
        manifest = clip.land(opened.segments, run.outcomes.manifests)
        self.log.info(
            "Joined and landed %s: %d frames, %d bytes, sha256 %s, in %.1f s",
            manifest["uri"],
            manifest["frames"],
            manifest["bytes"],
            manifest["sha256"],
            time.monotonic() - began,
        )
        push_manifest_links(context, self, manifest)
        return manifest

    def _submitted_whole(self, run: SegmentRun) -> dict[str, Any]:
        from airflow_provider_modelslab.jobs.whole_clip.submitted import submitted_whole

        assert run.runner is not None  # noqa: S101 - it has run
        manifest = submitted_whole(run.clip, run.opened, run.runner.waiting.values())
        self._segment_run = None
        self.log.warning(
            "Not waiting for %d jobs: wait_for_completion is off. Their results must be landed within 24 hours: by "
            "ModelsLabVideo2VideoSensor and then ModelsLabVideo2VideoToS3Operator with the output of this task",
            len(manifest["running"]),
        )
        return manifest

    def _prepare_whole(self, context: Context) -> WholeClip:
        """The clip, after the checks that need neither its content nor the ledger."""
        from airflow_provider_modelslab.jobs.ledgers import ledgers_of
        from airflow_provider_modelslab.jobs.task_ledger import TaskCaller, attempt_of, open_ledger, policy_in_force
        from airflow_provider_modelslab.jobs.whole_clip.clip import WholeClip
        from airflow_provider_modelslab.storage.sidecar import sidecar_uri

        request = self.build_request()
        assert isinstance(request, Video2VideoRequest)  # noqa: S101 - whole clips are made by video-to-video
        self.hook.get_conn()  # a connection without a key ends the task here
        self.hook.check_request(request)
        destination = self._destination_for(context, request.output_type or "mp4")
        if destination is None:
            raise StorageConfigurationError(
                f"destination: neither the task nor the connection {self.modelslab_conn_id!r} names a bucket, and a "
                "whole clip is joined in S3; give s3://bucket/key.mp4"
            )
        sidecar_uri(destination)
        return WholeClip(
            request=request,
            settings=WholeClipSettings.of(self.overlap, self.audio, self.max_segments),
            hook=self.hook,
            ledger=open_ledger(context, self.hook, destination),
            ledgers=ledgers_of(self.hook, destination),
            destination=destination,
            policy=policy_in_force(self._ledger_policy(), context),
            attempt=attempt_of(context, retries=self.retries),
            caller=TaskCaller(context, self, in_batch=True),
            spending=self._open_spending(context, destination, self.timeout),
            timeout=self.timeout,
            clip_version=clip_version_of(getattr(self, "clip_version", None)),
            on_stretch=self.on_stretch,
        )

    def _defer_whole(self, run: SegmentRun, line: str) -> NoReturn:
        assert run.runner is not None  # noqa: S101 - it has run
        defer_for_jobs(
            self,
            list(run.runner.waiting.values()),
            run.deadlines,
            more=bool(run.runner.todo) and run.runner.stopped is None,
            resume_threshold=_RESUME_THRESHOLD,
            window=run.window,
            policy=self._poll_policy(),
            progress=line,
            method_name="resume_whole",
            kwargs={"state": run.to_dict()},
        )

    def on_kill(self) -> None:
        """Submit nothing more, and mark the jobs as abandoned. They go on, and are billed: the vendor has no cancel."""
        run = self._segment_run
        if run is None or run.runner is None:
            super().on_kill()
            return
        self.is_killed = True
        leave_jobs(self, run.runner, run.jobs)
