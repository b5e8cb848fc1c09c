"""``clip_mode="whole"``: one task restyles a clip of any length, as a small batch of paid jobs."""

from __future__ import annotations

import asyncio
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_modelslab.api.errors import (
    BudgetExhaustedError,
    ResultExpiredError,
    StorageConfigurationError,
    SubmissionUnknownError,
    error_from_event,
)
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings, check_clip_mode
from airflow_provider_modelslab.lineage.report import reported
from airflow_provider_modelslab.links.media import push_links, push_manifest_links
from airflow_provider_modelslab.operators.arguments import is_literal
from airflow_provider_modelslab.operators.many_jobs import defer_for_jobs, leave_jobs
from airflow_provider_modelslab.operators.paid_job import PaidJobOperator
from airflow_provider_modelslab.operators.rendered import clip_version_of

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


class WholeClipOperator(PaidJobOperator):
    """An operator with one paid job, or with many for a whole clip.

    :param clip_mode: ``"sample"`` (default) makes one job of ``num_frames`` frames, spread over the clip. ``"whole"``
        restyles the whole clip, with its length and its sound: the clip is cut into overlapping segments, each segment
        is one job, and the results are joined (templated). Then ``fps`` is the frame rate of the result (by default the
        clip's own, at most 30), and ``num_frames`` the frames of a segment (by default 25, the most at ModelsLab). The
        worker needs the package's extra ``media``.
    :param overlap: of a whole clip: frames that neighbouring segments share, 0 or more and less than ``num_frames``
        (templated). They are cross-faded.
    :param audio: of a whole clip: ``"keep"`` (default) keeps the sound if there is any, ``"drop"`` drops it,
        ``"require"`` fails before anything is paid for if there is none that can be read (templated).
    :param max_segments: of a whole clip: the most segments, and so jobs, 1 or more (templated). A longer clip is
        refused before anything is paid for; the error says how many it takes.
    :param max_in_flight: of a whole clip: the most jobs that are submitted and not finished, 1 or more.
    """

    whole_fields: ClassVar[tuple[str, ...]] = ("clip_mode", "overlap", "audio", "max_segments")

    def __init__(
        self,
        *,
        clip_mode: str = "sample",
        overlap: int | str | None = None,
        audio: str | None = None,
        max_segments: int | str | None = None,
        max_in_flight: int = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.clip_mode = clip_mode
        self.overlap = overlap
        self.audio = audio
        self.max_segments = max_segments
        self.max_in_flight = max_in_flight
        self._segment_run: SegmentRun | None = None
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight: must be 1 or more; got {max_in_flight}")
        given = (overlap, audio, max_segments)
        WholeClipSettings.of(*(value if is_literal(value) else None for value in given))
        if is_literal(clip_mode):
            self._check_whole()

    @cached_property
    def hook(self) -> ModelsLabHook:
        """The hook of this task's connection. The run of a whole clip repeats refused submits itself."""
        from airflow_provider_modelslab.client.config import SubmitPolicy
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

        policy = SubmitPolicy(attempts=1, max_wait=0.0) if check_clip_mode(self.clip_mode) == "whole" else None
        return ModelsLabHook(self.modelslab_conn_id, submit_policy=policy, extra_args=self.extra_args)

    def _check_whole(self) -> bool:
        """Whether the whole clip is wanted.

        :raises InvalidRequestError: for another ``clip_mode``.
        :raises ValueError: for arguments that do not go together with it.
        """
        if check_clip_mode(self.clip_mode) == "sample":
            if given := [name for name in self.whole_fields[1:] if getattr(self, name) is not None]:
                raise ValueError(f"{', '.join(given)}: only for clip_mode='whole'")
            return False
        wrong = {
            "land_result": not self.land_result,
            "wait_for_completion": not self.wait_for_completion,
            "fallback": self.fallback is not None,
        }
        if names := [name for name, is_wrong in wrong.items() if is_wrong]:
            raise ValueError(
                f"{', '.join(names)}: cannot be used with clip_mode='whole', whose results are joined by this task; "
                "deferrable=True frees the worker while the jobs run"
            )
        return True

    def _execute_whole(self, context: Context) -> dict[str, Any] | None:
        """Return what is stored, or run the jobs of the segments as far as this process goes, and join them."""
        if not self._check_whole():
            return None
        return self._run_whole(context, {})

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
            push_manifest_links(context, self, stored)
            return stored
        opened = clip.open()
        self.log.info("%s", opened.line())
        targets = {"result": str(clip.destination), "manifest": f"{clip.destination}.json"}
        push_links(context, self, source=clip.request.init_video, conn_id=self.modelslab_conn_id, **targets)
        run = SegmentRun(
            clip,
            opened,
            self.max_in_flight,
            self._poll_policy(),
            defer_after=_DEFER_AFTER if self.deferrable else None,
            state=state,
        )
        self._segment_run = run
        try:
            is_done = asyncio.run(run.run())
        except BudgetExhaustedError as error:
            raise AirflowFailException(f"{error.code}: {error}") from error  # a retry would meet the same cap
        except (SubmissionUnknownError, ResultExpiredError) as error:
            if isinstance(error, SubmissionUnknownError) and clip.policy.on_unknown_submission == "resubmit":
                raise  # a retry submits again, after its delay
            raise AirflowFailException(str(error)) from error
        if not is_done:
            self._defer_whole(run, run.outcomes.line())
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

    def _prepare_whole(self, context: Context) -> WholeClip:
        """The clip, after the checks that need neither its content nor the ledger."""
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
            destination=destination,
            policy=policy_in_force(self._ledger_policy(), context),
            attempt=attempt_of(context, retries=self.retries),
            caller=TaskCaller(context, self, in_batch=True),
            spending=self._open_spending(context, destination, self.timeout),
            timeout=self.timeout,
            clip_version=clip_version_of(getattr(self, "clip_version", None)),
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
        leave_jobs(self, run.runner, lambda item: run.jobs.abandon(item.clip, item.submission))
