"""The operator for a whole S3 prefix: thousands of clips in one task, each paid for once, each accounted for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn

from airflow.providers.common.compat.sdk import conf

from airflow_provider_modelslab.api.aspect import OnStretch, check_on_stretch
from airflow_provider_modelslab.api.errors import BatchFailedError, InvalidRequestError, error_from_event
from airflow_provider_modelslab.api.quantities import Number, Seconds, Whole, is_template
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.jobs.targets import check_fallback, targets_of
from airflow_provider_modelslab.jobs.timing import poll_policy
from airflow_provider_modelslab.ledger.policy import LedgerPolicy
from airflow_provider_modelslab.lineage.report import reported
from airflow_provider_modelslab.links.media import ModelsLabManifestLink, ModelsLabSourceLink
from airflow_provider_modelslab.operators.arguments import is_literal, result_name
from airflow_provider_modelslab.operators.batch_arguments import BatchArguments
from airflow_provider_modelslab.operators.many_jobs import defer_for_jobs, leave_jobs
from airflow_provider_modelslab.operators.whole_arguments import WholeClipArguments
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_modelslab.api.errors import ModelsLabError
    from airflow_provider_modelslab.api.poll_policy import PollPolicy
    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.batch.planning.plan import ClipPlan
    from airflow_provider_modelslab.batch.results.tracker import BatchTracker
    from airflow_provider_modelslab.batch.running.protocols import InFlight, OutcomeSink
    from airflow_provider_modelslab.batch.running.runner import BatchRunner
    from airflow_provider_modelslab.batch.running.window import Window
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.batch_jobs import BatchJobs
    from airflow_provider_modelslab.jobs.whole_clip.batch import WholeClipBatch
    from airflow_provider_modelslab.operators.fallback import Fallback

# What only a running task needs is imported where it is used: the Dag processor loads this file every few seconds.

__all__ = ["ModelsLabVideo2VideoBatchOperator"]


class ModelsLabVideo2VideoBatchOperator(WholeClipArguments, BatchArguments):
    """Restyle many clips in one task: find, check and submit them, wait for the jobs, and land the results.

    All possible checks of all clips come before the first job is paid for. Each clip has its own ledger, named after
    the destination of its result. So a clip is paid for once, whatever happens to the task and whoever runs it again. A
    clip is skipped if its result for the same request and the same clip is already stored. If a clip fails, the failure
    is recorded and the other clips continue; ``max_failed`` decides when the task fails. A rerun does only what is
    missing.

    Returns a small summary: ``found``; ``landed``, ``skipped``, ``failed`` and ``pending`` (their sum is ``found``);
    ``manifest`` (a JSONL object with one line for each clip); ``retry`` (a manifest of the clips to try again, which
    can be a ``source``).

    The attributes of all clips are arguments, see
    :class:`~airflow_provider_modelslab.operators.arguments.RequestArguments`. For the places of the clips and the names
    of the results, see :class:`~airflow_provider_modelslab.operators.batch_arguments.BatchArguments`. For clips of any
    length, with their sound, see :class:`~airflow_provider_modelslab.operators.whole_arguments.WholeClipArguments`: a
    clip is then many jobs, ``max_in_flight`` counts jobs, and ``max_failed`` counts clips. Other arguments:

    :param destination: the prefix for the results (templated): ``s3://bucket/prefix/``, or a prefix below the
        connection's prefix; by default the connection's prefix.
    :param modelslab_conn_id: the Airflow connection (templated).
    :param extra_args: arguments of ``put_object`` for every write to S3 (templated), see
        :class:`~airflow_provider_modelslab.operators.destination_arguments.DestinationArguments`.
    :param max_in_flight: the most jobs that are submitted and not finished (templated), 1 or more: the size of the
        account's queue (5, 10 or 15, depending on the plan), minus what other tasks need. If the endpoint refuses, the
        whole batch slows down.
    :param timeout: a clip fails if its job has not ended this long after the submission (templated): seconds, text such
        as ``"1h"``, ``"90s"``, ``"1h30m"``, or a timedelta; above 0. A later try waits for its job again.
    :param poll_interval: shortest pause between two polls of a job (templated), as ``timeout``.
    :param max_poll_interval: longest pause (templated), as ``timeout``.
    :param check_input: read the first bytes of http(s) clips before submitting them.
    :param on_stretch: what to do about clips whose proportions differ by more than 5 % from ``width`` and ``height``:
        ``"warn"`` checks up to 20 clips first and names the sizes that keep their proportions; ``"fail"`` fails each
        such clip before it is paid for; ``"ignore"`` does not check.
    :param deferrable: wait in the triggerer; ``[operators] default_deferrable`` by default.
    :param defer_after: the task defers after it has only waited for this long (templated), as ``timeout``; 0 or more.
        Each resume starts a new process, which needs some seconds of CPU time.
    :param resume_threshold: share of the jobs in flight that must have ended before a deferred task resumes to land
        them and to submit others (templated), above 0 and at most 1. A lower value keeps more jobs in flight, but
        starts more processes.
    :param reuse: which stored results are used instead of new ones, if request and clip are the same. ``"always"``:
        any, so a rerun makes only what is missing. ``"run"``: those made for this Dag run. ``"never"``: only those made
        since the task was last cleared. The run's conf can set it too: ``{"modelslab": {"reuse": "never"}}``.
    :param on_changed_request: what to do if a result exists, but for another request: ``resubmit``, which pays for a
        new job, or ``fail`` that clip.
    :param on_unknown_submission: what to do if it is unknown whether the endpoint accepted a submission: ``fail`` that
        clip, so that a person decides, or ``resubmit``, which may pay twice.
    :param fallback: other places for a clip (templated), in order, as for
        :class:`~airflow_provider_modelslab.operators.paid_job.PaidJobOperator`. The jobs of all places together count
        for ``max_in_flight``, ``max_jobs`` and budgets. Clips on this worker are made one after the other.
    :raises InvalidRequestError: with each invalid clip and the reason; nothing was submitted.
    :raises BatchFailedError: when more clips failed than ``max_failed``, or the batch was aborted.
    """

    __supports_durable_execution: ClassVar[bool] = True

    operator_extra_links = (ModelsLabManifestLink(), ModelsLabSourceLink())
    template_fields: Sequence[str] = (
        *BatchArguments.template_fields,
        *BatchArguments.batch_fields,
        *BatchArguments.destination_fields,
        *BatchArguments.spending_fields,
        *WholeClipArguments.whole_fields,
        "max_in_flight",
        "timeout",
        "poll_interval",
        "max_poll_interval",
        "defer_after",
        "resume_threshold",
        "fallback",
    )

    max_in_flight = Whole(least=1)
    timeout = Seconds(above=0)
    poll_interval = Seconds(above=0)
    max_poll_interval = Seconds(above=0)
    defer_after = Seconds(least=0)
    resume_threshold = Number(above=0, most=1)

    def __init__(
        self,
        *,
        destination: str | None = None,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        max_in_flight: int | str = 10,
        timeout: float | str | timedelta = 3600.0,
        poll_interval: float | str | timedelta = 2.0,
        max_poll_interval: float | str | timedelta = 30.0,
        check_input: bool = True,
        on_stretch: OnStretch = "warn",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        defer_after: float | str | timedelta = 15.0,
        resume_threshold: float | str = 0.5,
        reuse: Literal["run", "always", "never"] = "always",
        on_changed_request: Literal["resubmit", "fail"] = "resubmit",
        on_unknown_submission: Literal["fail", "resubmit"] = "fail",
        fallback: Sequence[Mapping[str, Any]] | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(destination=destination, modelslab_conn_id=modelslab_conn_id, **arguments)
        self.max_in_flight = max_in_flight
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.max_poll_interval = max_poll_interval
        self.check_input = check_input
        self.on_stretch = on_stretch
        self.deferrable = deferrable
        self.defer_after = defer_after
        self.resume_threshold = resume_threshold
        self.reuse = reuse
        self.on_changed_request = on_changed_request
        self.on_unknown_submission = on_unknown_submission
        self.fallback = fallback
        self._work: tuple[BatchRunner[ClipPlan], BatchJobs | WholeClipBatch] | None = None
        self.is_killed = False
        self._deadlines: dict[tuple[str, str], float] = {}
        self._mark: str | None = None  # of what this try saved, once it has resumed
        self._stopped: str | None = None  # why an earlier segment gave the batch up, where only that is known of it
        check_on_stretch(on_stretch)
        self._again: Mapping[str, Sequence[int]] = {}  # of this try, see WholeClipBatch
        if fallback is not None and is_literal(fallback):
            check_fallback(fallback)
        if is_literal(self.clip_mode):
            self._is_whole()
        if not (is_template(poll_interval) or is_template(max_poll_interval)):
            self._poll_policy()  # this and the next refuse what makes no sense while the Dag is parsed
        _ = self.ledger_policy

    @cached_property
    def hook(self) -> ModelsLabHook:
        """The hook of this task's connection; the batch itself repeats what is refused, for all clips together."""
        from airflow_provider_modelslab.client.config import SubmitPolicy
        from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

        return ModelsLabHook(
            self.modelslab_conn_id, submit_policy=SubmitPolicy(attempts=1, max_wait=0.0), extra_args=self.extra_args
        )

    @reported
    def execute(self, context: Context) -> dict[str, Any]:
        """Plan the batch, skip what is there, and do the rest as far as this process goes."""
        from airflow_provider_modelslab.batch.running.window import Window
        from airflow_provider_modelslab.jobs.task_ledger import attempt_of, policy_in_force

        self.hook.get_conn()  # a connection without a key ends the task here
        _ = self.places  # and so does a place that leads nowhere
        plan = self._plan(self.modelslab_conn_id)
        self._end_if_empty(plan)
        tracker = self._open_tracker(context, plan, burst=self.max_in_flight)
        policy = policy_in_force(self.ledger_policy, context)
        todo = tracker.begin(reuse=policy.reuse)
        tracker.learn_jobs(todo)
        self._log_estimate(tracker, todo, policy, attempt_of(context, retries=self.retries))
        self._require_writable(todo)
        window = Window(self.max_in_flight)
        runner = asyncio.run(self._run_segment(context, tracker, todo, window, stopped=self._stopped))
        return self._end_segment(context, tracker, runner, window)

    @reported
    def execute_complete(
        self,
        context: Context,
        event: dict[str, Any],
        in_flight: list[dict[str, Any]] | None = None,
        window: dict[str, Any] | None = None,
        started: float | None = None,
        saved: str = "",
        mark: str = "",
        conn_id: str = "",
        stopped: str | None = None,
        fallback: list[dict[str, Any]] | None = None,
        again: dict[str, list[int]] | None = None,
    ) -> dict[str, Any]:
        """Resume after the trigger: land what has ended, and submit what there is room for.

        ``dag.test()`` and ``airflow tasks test`` of Airflow 3.1 to 3.3 lose all arguments but the event. The batch is
        then planned anew: the ledgers know what is paid for.
        """
        from airflow_provider_modelslab.api.response import Finished
        from airflow_provider_modelslab.batch.results.checkpoint import load_batch
        from airflow_provider_modelslab.batch.running.protocols import InFlight
        from airflow_provider_modelslab.batch.running.window import Window
        from airflow_provider_modelslab.ledger.model import Submission
        from airflow_provider_modelslab.storage.result_manifest import Job

        if in_flight is None or window is None:
            self.log.info(
                "Resumed without arguments, as in dag.test(). The batch is planned again, and continues with the jobs "
                "that are already paid for"
            )
            return self.execute(context)
        # The Dag may name others by now, whose keys do not know the jobs: they would count as lost.
        self.modelslab_conn_id, self.fallback = conn_id, fallback
        if event.get("status") != "success":
            raise error_from_event(event)
        self._deadlines = {Job.from_dict(item["job"]).key: item["deadline"] for item in in_flight}
        found = load_batch(
            self.hook.get_s3_client(),
            S3Uri.parse(saved),
            mark,
            self._common(),
            lambda: self._plan(self.modelslab_conn_id),
        )
        if found is None:
            self.log.warning(
                "%s no longer exists. The batch is planned again, and continues with the jobs that are paid for",
                saved,
            )
            self._stopped = stopped
            return self.execute(context)
        self._mark, self._again = mark, again or {}
        plan, state, lost = found
        tracker = self._open_tracker(context, plan, burst=self.max_in_flight, started=started)
        todo = tracker.restore(state)
        answers = {(job.get("conn_id") or conn_id, str(job["job_id"])): job for job in event["ended"]}
        ended: list[tuple[InFlight[ClipPlan], Finished | ModelsLabError]] = []
        waiting: list[InFlight[ClipPlan]] = []
        for item in in_flight:
            job = Job.from_dict(item["job"])
            clip = replace(plan.clips[item["clip"]], segment=item.get("segment"))
            flight = InFlight(clip, Submission(item["submission"], job, resumed=item["resumed"]))
            answer = answers.get(job.key)
            if answer is None:
                waiting.append(flight)
            elif answer["status"] == "success":
                meta = answer.get("meta") or {}
                ended.append(
                    (flight, Finished(job.job_id, tuple(answer["links"]), meta, answer.get("generation_time")))
                )
            else:
                ended.append((flight, error_from_event(answer)))
        in_hand = {item["clip"] for item in in_flight if item.get("segment") is None}
        rest = [clip for clip in todo if clip.index not in in_hand | lost]
        begun = {item["clip"] for item in in_flight}
        rest.sort(key=lambda clip: clip.index not in begun)  # whole clips of which segments are made come first
        for clip in todo:
            if clip.index in lost - in_hand:
                gone = (
                    "is a signed link, which is not stored; the source of the task no longer has it, or has it with "
                    "another destination"
                )
                tracker.failed(clip, InvalidRequestError.of("init_video", gone), None)
        room = Window(self.max_in_flight)
        room.resume(window)
        runner = asyncio.run(self._run_segment(context, tracker, rest, room, waiting, ended, stopped))
        return self._end_segment(context, tracker, runner, room)

    def on_kill(self) -> None:
        """Submit nothing more, and mark the jobs as abandoned. They go on, and are billed: the vendor has no cancel.

        Airflow calls this from its signal handler and kills the process 5 s later, which is time enough to write down
        the ids of the submits under way, if no others are begun.
        """
        self.is_killed = True
        if self._work is not None:
            leave_jobs(self, *self._work)

    def _not_for_whole(self) -> dict[str, bool]:
        return {"fallback": self.fallback is not None}

    @cached_property
    def places(self) -> Fallback:
        """The places after the first, opened in the task's own thread."""
        from airflow_provider_modelslab.operators.fallback import Fallback

        return Fallback.open(self.fallback, self.hook)

    def _check_request(self, request: Video2VideoRequest) -> None:
        """Also for the places in fallback."""
        super()._check_request(request)
        if self.fallback is not None:
            places = targets_of(request, self.modelslab_conn_id, self.fallback)
            self.places.check(places, request, self._output())

    # -- one run segment: from the start, or a resume, to the end or the next deferral --------------------------------

    async def _run_segment(
        self,
        context: Context,
        tracker: BatchTracker,
        todo: Sequence[ClipPlan],
        window: Window,
        waiting: Iterable[InFlight[ClipPlan]] = (),
        ended: Iterable[tuple[InFlight[ClipPlan], Finished | ModelsLabError]] = (),
        stopped: str | None = None,
    ) -> BatchRunner[ClipPlan]:
        from airflow_provider_modelslab.batch.running.runner import BatchRunner
        from airflow_provider_modelslab.client.polling.registry import shared_poller
        from airflow_provider_modelslab.jobs.batch_jobs import PolledJobs
        from airflow_provider_modelslab.operators.batch_jobs import jobs_of_clips, jobs_of_whole_clips

        waiting, ended = list(waiting), list(ended)
        spending = self._open_spending(context, tracker.plan.output, self.timeout)
        jobs: BatchJobs | WholeClipBatch
        outcomes: OutcomeSink[ClipPlan] = tracker
        if (whole := self._whole_settings()) is None:
            jobs = jobs_of_clips(self, context, tracker, spending, todo)
        else:
            in_flight = [item.clip for item in (*waiting, *(item for item, _ in ended))]
            jobs = outcomes = jobs_of_whole_clips(self, context, tracker, spending, whole, self._again, in_flight)
        async with AsyncExitStack() as stack:
            poller = await stack.enter_async_context(shared_poller(self.hook.new_async_client()))
            watch = await stack.enter_async_context(poller.watch((), policy=self._poll_policy()))
            others = {}
            for conn_id, hook in self.places.hooks.items():
                if conn_id != self.modelslab_conn_id:
                    at = await stack.enter_async_context(shared_poller(hook.new_async_client()))
                    others[conn_id] = watch.at(at, conn_id)
            runner: BatchRunner[ClipPlan] = BatchRunner(
                todo,
                jobs,
                PolledJobs(watch, self._deadlines, timeout=self.timeout, others=others),
                outcomes,
                window,
                defer_after=self.defer_after if self.deferrable else None,
                refusal_timeout=self.timeout,
                stopped=stopped,
                on_change=tracker.tell,
            )
            self._work = runner, jobs
            runner.resume(waiting)
            try:
                await runner.run(ended)
            finally:
                spending.close()
            self._again = jobs.again_by_clip()
            return runner

    def _end_segment(
        self, context: Context, tracker: BatchTracker, runner: BatchRunner[ClipPlan], window: Window
    ) -> dict[str, Any]:
        """Defer while jobs run, else write the report."""
        if runner.suspended:
            left = tuple(runner.waiting.values())
            self._defer(context, tracker, left, more=bool(runner.todo), window=window, stopped=runner.stopped)
        try:
            summary = self._conclude(context, tracker, runner.stopped)
        except BatchFailedError:
            self._delete_checkpoints(context, tracker, self._mark)
            raise
        self._delete_checkpoints(context, tracker, self._mark)
        return summary

    def _defer(
        self,
        context: Context,
        tracker: BatchTracker,
        left: Sequence[InFlight[ClipPlan]],
        *,
        more: bool,
        window: Window,
        stopped: str | None,
    ) -> NoReturn:
        from airflow_provider_modelslab.batch.results.checkpoint import save_batch
        from airflow_provider_modelslab.ledger.attempt import AttemptId

        saved, more = self._checkpoint(context, tracker), more and stopped is None
        me = AttemptId.of_task(context["ti"]).task_instance_id
        mark = save_batch(self.hook.get_s3_client(), saved, tracker.plan, tracker.state(), task_instance=me)
        self._delete_checkpoints(context, tracker)
        defer_for_jobs(
            self,
            left,
            self._deadlines,
            more=more,
            resume_threshold=self.resume_threshold,
            window=window,
            policy=self._poll_policy(),
            progress=tracker.progress.line(),
            method_name="execute_complete",
            kwargs={
                "in_flight": [
                    {
                        "clip": item.clip.index,
                        "segment": item.clip.segment,
                        "submission": item.submission.number,
                        "resumed": item.submission.resumed,
                        "job": item.submission.job.to_dict(),
                        "deadline": self._deadlines[item.submission.job.key],
                    }
                    for item in left
                ],
                "window": window.state(),
                "started": tracker.started,
                "saved": str(saved),
                "mark": mark,
                "conn_id": self.modelslab_conn_id,
                "stopped": stopped,
                "again": self._again,
                "fallback": None if self.fallback is None else [dict(entry) for entry in self.fallback],
            },
        )

    def _delete_checkpoints(self, context: Context, tracker: BatchTracker, mark: str | None = None) -> None:
        """Delete what earlier tries saved, and with ``mark`` what this one saved."""
        from airflow_provider_modelslab.batch.results.checkpoint import delete_checkpoints

        if mark is not None or context["ti"].try_number > 1:
            delete_checkpoints(self.hook.get_s3_client(), self._checkpoint(context, tracker), mark)

    def _checkpoint(self, context: Context, tracker: BatchTracker) -> S3Uri:
        from airflow_provider_modelslab.batch.results.checkpoint import checkpoint_uri

        return checkpoint_uri(tracker.folder, result_name(context), context["ti"].try_number)

    def _poll_policy(self) -> PollPolicy:
        return poll_policy(self.poll_interval, self.max_poll_interval)

    @property
    def ledger_policy(self) -> LedgerPolicy:
        """What is done with what the ledgers know."""
        return LedgerPolicy(self.reuse, self.on_changed_request, self.on_unknown_submission)
