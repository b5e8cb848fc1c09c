"""For mapped tasks: the clips below a prefix as one task's arguments each, or as chunks for the batch operator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import conf

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.quantities import Whole
from airflow_provider_modelslab.api.redaction import holds_secret
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.operators.arguments import is_literal, result_name
from airflow_provider_modelslab.operators.batch_arguments import BatchArguments
from airflow_provider_modelslab.operators.whole_arguments import WholeClipArguments

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_provider_modelslab.batch.planning.plan import BatchPlan

__all__ = ["ModelsLabPlanClipsOperator"]

_READS = 500  # ledgers that are read for the estimate; with more clips that are paid for it is an upper bound
_STAND_IN = "given by the mapped task"
_NEEDS_THE_REQUEST = {"model_id", "seed", "hash"}


class ModelsLabPlanClipsOperator(WholeClipArguments, BatchArguments):
    """Find clips, check them, name their results, and return arguments for ``expand_kwargs``. It submits nothing.

    Without ``clips_per_task``, it returns ``{"init_video": ..., "destination": ..., <its own attributes>}`` for each
    clip, for the operators of one clip. With ``clips_per_task``, it writes a manifest for each chunk of clips and
    returns ``{"source": "s3://.../chunk-0001.jsonl"}``, for the batch operators. Use chunks to spread more clips than
    ``[core] max_map_length`` (1,024) over workers::

        clips = ModelsLabPlanClipsOperator(task_id="clips", source="s3://in/{{ ds }}/", destination="s3://out/")
        ModelsLabVideo2VideoOperator.partial(task_id="restyle", model_id=..., prompt=...).expand_kwargs(clips.output)

    Attributes given here are checked and used in names, but not passed on: give them to the mapped task too. If this
    task also has the ``model_id`` and ``prompt`` of the mapped tasks, the log and the XCom ``estimate`` contain the
    number of jobs to submit and their cost, for tasks that use all stored results (``reuse="always"``).

    :param destination: the prefix for the results (templated), as for the batch operators.
    :param modelslab_conn_id: the Airflow connection with the S3 profile (templated).
    :param extra_args: arguments of ``put_object`` for every write to S3 (templated), see
        :class:`~airflow_provider_modelslab.operators.destination_arguments.DestinationArguments`.
    :param clips_per_task: number of clips in a chunk (templated), 1 or more.
    :param arguments: see :class:`~airflow_provider_modelslab.operators.batch_arguments.BatchArguments`, and
        :class:`~airflow_provider_modelslab.operators.whole_arguments.WholeClipArguments` for the estimate.
    :raises InvalidRequestError: with each invalid clip and the reason, or for too many clips for mapped tasks.
    """

    template_fields: Sequence[str] = (
        *BatchArguments.template_fields,
        *BatchArguments.batch_fields,
        *BatchArguments.destination_fields,
        *BatchArguments.spending_fields,
        *WholeClipArguments.whole_fields,
        "clips_per_task",
    )

    clips_per_task = Whole(least=1)

    def __init__(
        self,
        *,
        destination: str | None = None,
        modelslab_conn_id: str = DEFAULT_CONN_NAME,
        clips_per_task: int | str | None = None,
        **arguments: Any,
    ) -> None:
        super().__init__(destination=destination, modelslab_conn_id=modelslab_conn_id, **arguments)
        self.clips_per_task = clips_per_task
        if is_literal(self.clip_mode):
            self._is_whole()

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return the arguments of the mapped tasks."""
        from airflow_provider_modelslab.batch.results.report import clip_line

        self._check_names()
        plan = self._plan(self.modelslab_conn_id)
        self._end_if_empty(plan)
        self._estimate(context, plan)
        tasks = len(plan) if self.clips_per_task is None else math.ceil(len(plan) / self.clips_per_task)
        most = conf.getint("core", "max_map_length", fallback=1024)
        if tasks > most:
            fewest = math.ceil(len(plan) / most)
            raise InvalidRequestError.of(
                "clips_per_task",
                f"{len(plan)} clips make {tasks} mapped tasks, but [core] max_map_length is {most}; set "
                f"clips_per_task to {fewest} or more, and map a batch operator over the chunks",
            )
        lines = [clip_line(clip) for clip in plan]
        if self.clips_per_task is None:
            return lines
        return self._chunks(context, plan, lines, self.clips_per_task)

    def _estimate(self, context: Context, plan: BatchPlan) -> None:
        """Log what the mapped tasks will cost, where this task knows their request; push it as XCom ``estimate``."""
        from airflow_provider_modelslab.batch.results.tracker import BatchTracker
        from airflow_provider_modelslab.batch.running.limits import FailureLimit
        from airflow_provider_modelslab.jobs.task_ledger import attempt_of
        from airflow_provider_modelslab.ledger.model import LedgerPolicy

        if self.model_id is None or self.prompt is None:
            self.log.info(
                "No cost estimate. To get one, give this task the model_id and the prompt of the mapped tasks too"
            )
            return
        root = self.hook.s3_profile.ledger_root(plan.output)
        assert root is not None  # noqa: S101 - there is a bucket
        tracker = BatchTracker(
            self.hook.get_s3_client(), root, plan, name=result_name(context), limit=FailureLimit.of(self.max_failed)
        )
        policy, attempt = LedgerPolicy("always"), attempt_of(context, retries=self.retries)
        found = self._log_estimate(tracker, tracker.begin(), policy, attempt, reads=_READS)
        context["ti"].xcom_push("estimate", found)

    def _common(self) -> dict[str, Any]:
        common = super()._common()
        return {"model_id": _STAND_IN, "prompt": _STAND_IN, **common}

    def _check_names(self) -> None:
        """A name made of what only the mapped task knows would not be the name that it uses."""
        from airflow_provider_modelslab.batch.planning.naming import KeyTemplate

        fields = KeyTemplate(self.key_template).fields & _NEEDS_THE_REQUEST
        missing = [name for name in ("model_id", "prompt") if getattr(self, name) is None]
        if fields and missing:
            raise InvalidRequestError.of(
                "key_template",
                f"uses {', '.join(sorted(fields))}, so give this task the {' and '.join(missing)} of "
                "the mapped tasks too",
            )

    def _chunks(
        self, context: Context, plan: BatchPlan, lines: list[dict[str, Any]], size: int
    ) -> list[dict[str, Any]]:
        from airflow_provider_modelslab.storage.s3_objects import put_lines

        secret = [
            (clip, names)
            for clip, line in zip(plan, lines, strict=True)
            if (names := [name for name, value in line.items() if holds_secret({name: value})])
        ]
        if secret:
            clip, names = secret[0]
            raise InvalidRequestError.of(
                "source",
                f"{len(secret)} of {len(plan)} clips have a link with a query, or their own webhook. It may contain a "
                f"secret, so it is not written to a chunk. The first is {clip.safe_source} ({', '.join(names)}). Use "
                "s3:// objects, set the webhook in the mapped task, or do all clips in one task",
            )
        s3, folder = self.hook.get_s3_client(), plan.output.child(f"_modelslab/chunks/{result_name(context)}")
        chunks = []
        for number, start in enumerate(range(0, len(lines), size), 1):
            place = folder.child(f"chunk-{number:04d}.jsonl")
            put_lines(s3, place, lines[start : start + size])
            chunks.append({"source": str(place)})
        self.log.info("%d clips in %d chunks below %s", len(lines), len(chunks), folder)
        return chunks
