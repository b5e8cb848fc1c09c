"""What the batch operators share: where the clips are, how results are named, and how many may fail."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.batch import DEFAULT_TEMPLATE
from airflow_provider_modelslab.batch.planning.selection import Selection
from airflow_provider_modelslab.batch.running.limits import FailureLimit
from airflow_provider_modelslab.lineage.batch import BatchReport
from airflow_provider_modelslab.links.media import push_links
from airflow_provider_modelslab.links.videos import push_batch_video
from airflow_provider_modelslab.operators.arguments import (
    RequestArguments,
    check_prefix,
    is_literal,
    resolve_output,
    result_name,
)
from airflow_provider_modelslab.operators.rendered import texts_again
from airflow_provider_modelslab.operators.spending_arguments import SpendingArguments
from airflow_provider_modelslab.storage.uri import S3Uri, source_problem

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
    from airflow_provider_modelslab.batch.results.bill import PriceOf
    from airflow_provider_modelslab.batch.results.tracker import BatchTracker
    from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings
    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.ledger.model import LedgerPolicy

__all__ = ["BatchArguments"]

_ON_EMPTY = ("skip", "fail", "succeed")


class BatchArguments(SpendingArguments, BatchReport, RequestArguments):
    """Many clips with common attributes; each clip can also have its own.

    :param source: the clips (templated), as one of: ``s3://bucket/prefix/``; a manifest file, in S3 or local,
        ``.jsonl`` or ``.csv`` (also ``.gz``); a list of links, of ``s3://`` objects or of mappings; the return value of
        another task, such as the summary of a batch. A line of a manifest, or a mapping, has ``init_video``. Optional
        are ``destination``, ``clip_version`` (the same text means the same clip, whatever its link, ETag or content is)
        and any attribute for this clip only.
    :param pattern: use only objects below the prefix that match this glob (templated), such as ``*.mp4`` or
        ``cam1/**``, or one glob of a list; all videos by default.
    :param recursive: search below the prefix at any depth.
    :param limit: do only this many clips, from the first one on (templated), 1 or more; all by default. The other clips
        are checked and named too. The selection does not change the identity of a clip: a later run of all clips finds
        the earlier results and pays only for the remaining clips.
    :param sample: do only this many clips, spread evenly over all clips (templated), 1 or more; not with ``limit``.
    :param sample_seed: choose the sample at random, with this text or number as seed (templated). A larger sample with
        the same seed contains the smaller one.
    :param key_template: names the results below ``destination`` (templated): ``{stem}``, ``{name}``, ``{path}``,
        ``{ext}``, ``{seed}``, ``{model_id}``, ``{hash}``, ``{index}``.
    :param max_failed: how many clips may fail before the task fails: a number, or a share such as ``0.05`` or ``"5%"``;
        ``None`` is any number. When more have failed, the other clips are still made, unless 20 in a row have failed.
    :param on_empty: what to do if there are no clips (templated): ``"skip"`` this task, and so the tasks after it;
        ``"fail"``; or ``"succeed"`` with a summary of 0 clips. The log says what is there
        instead: what a pattern leaves out, and prefixes with a similar name.
    :param asset_per_clip: give an ``AssetAlias`` in ``outlets`` one asset for each result that this run landed, if
        there are at most 100, the most that Airflow accepts in one call; otherwise one asset for the prefix.
    :param attributes: see :class:`~airflow_provider_modelslab.operators.arguments.RequestArguments`.
    """

    _empty: str = ""
    batch_fields: Sequence[str] = (
        "source",
        "pattern",
        "limit",
        "sample",
        "sample_seed",
        "key_template",
        "max_failed",
        "on_empty",
    )

    def __init__(
        self,
        *,
        source: Any,
        pattern: str | Sequence[str] | None = None,
        recursive: bool = True,
        limit: int | str | None = None,
        sample: int | str | None = None,
        sample_seed: int | str | None = None,
        key_template: str = DEFAULT_TEMPLATE,
        max_failed: float | str | None = 0,
        on_empty: Literal["skip", "fail", "succeed"] = "skip",
        asset_per_clip: bool = False,
        **attributes: Any,
    ) -> None:
        super().__init__(**attributes)
        self.source = source
        self.pattern = pattern
        self.recursive = recursive
        self.limit = limit
        self.sample = sample
        self.sample_seed = sample_seed
        self.key_template = key_template
        self.max_failed = max_failed
        self.on_empty = on_empty
        self.asset_per_clip = asset_per_clip
        if isinstance(source, str) and is_literal(source) and (problem := source_problem(source)) is not None:
            raise InvalidRequestError.of("source", problem)
        if key_template != DEFAULT_TEMPLATE and is_literal(key_template):
            from airflow_provider_modelslab.batch.planning.naming import KeyTemplate

            KeyTemplate(key_template)
        Selection.of(limit if is_literal(limit) else None, sample if is_literal(sample) else None)
        if is_literal(max_failed):
            FailureLimit.of(max_failed)
        if is_literal(on_empty):
            _check_on_empty(on_empty)
        if is_literal(self.destination):
            check_prefix(self.destination)

    def _plan(self, conn_id: str) -> BatchPlan:
        """Find the clips and check all that can be checked for free.

        :param conn_id: what stands for the connection in fingerprints.
        """
        from airflow_provider_modelslab.batch.planning.naming import KeyTemplate
        from airflow_provider_modelslab.batch.planning.plan import make_plan
        from airflow_provider_modelslab.batch.sources.discovery import find_clips
        from airflow_provider_modelslab.batch.sources.empty import explain_empty

        whole = self._whole_settings()
        output, selection = self._output(), Selection.of(self.limit, self.sample, self.sample_seed)
        clips = find_clips(
            self.source, self.hook.get_s3_client, pattern=self.pattern, recursive=self.recursive, output=output
        )
        self.log.info("Found %s", clips.describe())
        if not clips.clips:
            self._empty = explain_empty(clips, self.hook.get_s3_client)
            self.log.warning("THERE ARE NO CLIPS. %s", self._empty)
        plan = make_plan(
            clips,
            self._common(),
            output=output,
            conn_id=conn_id,
            s3_factory=self.hook.get_s3_client,
            check=self._check_request,
            identify_request=whole.identify if whole else None,
            template=KeyTemplate(self.key_template),
            selection=selection,
        )
        if (left_out := plan.ignored.get(selection.left_out)) is not None:
            self.log.info("Only %d clips are used: %d are %s", len(plan), left_out, selection.left_out)
        if plan.duplicate_count:
            self.log.warning(
                "%d clips are in the source more than once. Each is made only once: %s",
                plan.duplicate_count,
                "; ".join(plan.duplicates),
            )
        for note in plan.notes:
            self.log.warning("%s", note)
        return plan

    def _end_if_empty(self, plan: BatchPlan) -> None:
        """End the task if there are no clips, unless ``on_empty`` is ``succeed``.

        :raises AirflowSkipException: with ``skip``.
        :raises InvalidRequestError: with ``fail``.
        """
        _check_on_empty(self.on_empty)
        if len(plan) or self.on_empty == "succeed":
            return
        if self.on_empty == "fail":
            raise InvalidRequestError.of("source", f"has no clips. {self._empty}")
        raise AirflowSkipException(f"There are no clips. {self._empty} To fail instead, set on_empty='fail'")

    def _check_request(self, request: Video2VideoRequest) -> None:
        """Refuse, before anything is paid for, what the clips' jobs are known to be refused for.

        :raises InvalidRequestError: naming each attribute at fault.
        """
        self.hook.check_request(request)
        if (whole := self._whole_settings()) is not None:
            whole.check_request(request)

    def _whole_settings(self) -> WholeClipSettings | None:
        """How whole clips are made; ``None`` for samples."""
        return None

    def _log_estimate(
        self,
        tracker: BatchTracker,
        todo: Sequence[ClipPlan],
        policy: LedgerPolicy,
        attempt: AttemptId,
        *,
        reads: int = 0,
    ) -> dict[str, Any]:
        """Log what will be done and what it will cost.

        :param reads: ledgers that are read where names alone do not tell.
        :return: the same as plain JSON.
        """
        from airflow_provider_modelslab.batch.planning.estimate import estimate
        from airflow_provider_modelslab.jobs.stretch import stretched_clips

        whole = self._whole_settings()
        found = estimate(
            tracker,
            todo,
            self._price_of(tracker.plan),
            policy=policy,
            attempt=attempt,
            reads=reads,
            most_jobs=whole.max_segments if whole else 1,
        )
        has_fallback = getattr(self, "fallback", None) is not None
        self.log.info("%s%s", found.line(), ". Jobs at the places in fallback are not counted" if has_fallback else "")
        if getattr(self, "on_stretch", "warn") == "warn" and (note := stretched_clips(tracker.plan, todo, self.hook)):
            self.log.warning("%s", note)
        return found.to_dict()

    def _price_of(self, plan: BatchPlan) -> PriceOf:
        """The price of a clip's job; of a whole clip, that of a segment's."""
        from airflow_provider_modelslab.jobs.budgets import price_of_jobs, prices_of

        prices, timeout = prices_of(self.hook, self.prices), getattr(self, "timeout", 3600.0)
        return price_of_jobs(prices, plan, self._whole_settings(), timeout=timeout)

    def _common(self) -> dict[str, Any]:
        given = {**texts_again(self._attributes()), "extra_parameters": self.extra_parameters}
        return {name: value for name, value in given.items() if value is not None}

    def _output(self) -> S3Uri:
        """The prefix that all results lie below.

        :raises StorageConfigurationError: when neither the task nor the connection names a bucket.
        """
        output = resolve_output(self.destination, self.hook.s3_profile)
        if output is None:
            raise StorageConfigurationError(
                f"destination: neither the task nor the connection {self.modelslab_conn_id!r} names a bucket; give "
                "s3://bucket/prefix/"
            )
        return output

    def _require_writable(self, clips: Iterable[ClipPlan]) -> None:
        """Make sure, before anything is paid for or made, that results can be put into each bucket that is named.

        :raises StorageConfigurationError: when S3 refuses.
        """
        from airflow_provider_modelslab.storage.checks import require_writable

        for destination in {clip.destination.bucket: clip.destination for clip in clips}.values():
            require_writable(self.hook.get_s3_client(), destination)

    def _open_tracker(self, context: Context, plan: BatchPlan, **options: Any) -> BatchTracker:
        from airflow_provider_modelslab.batch.results.tracker import BatchTracker
        from airflow_provider_modelslab.ledger.attempt import AttemptId

        root = self.hook.s3_profile.ledger_root(plan.output)
        assert root is not None  # noqa: S101 - there is a bucket
        self._tracker = BatchTracker(
            self.hook.get_s3_client(),
            root,
            plan,
            name=result_name(context),
            limit=FailureLimit.of(self.max_failed),
            attempt=AttemptId.of_task(context["ti"]),
            price_of=self._price_of(plan),
            **options,
        )
        push_links(
            context,
            self,
            source=self.source if isinstance(self.source, str) else None,
            manifest=str(self._tracker.folder.child(f"{result_name(context)}.jsonl")),
            conn_id=self.modelslab_conn_id,
        )
        return self._tracker

    def _conclude(self, context: Context, tracker: BatchTracker, stopped: str | None) -> dict[str, Any]:
        """Write the report; see :meth:`.BatchTracker.finish`. The page Videos shows what landed, also if it raises."""
        try:
            return tracker.finish(stopped=stopped)
        finally:
            if tracker.summary is not None:
                push_batch_video(context, self, tracker.summary, tracker.plan.common)


def _check_on_empty(given: object) -> None:
    if given not in _ON_EMPTY:
        raise InvalidRequestError.of("on_empty", f"must be one of {', '.join(_ON_EMPTY)}; got {given!r:.200}")
