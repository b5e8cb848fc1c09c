"""Many clips on a GPU of your own, in one task: the model is loaded once, and no disk or network keeps it waiting."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow_provider_modelslab.api.errors import JobTimeoutError
from airflow_provider_modelslab.lineage.report import reported
from airflow_provider_modelslab.links.media import ModelsLabManifestLink, ModelsLabSourceLink
from airflow_provider_modelslab.operators.batch_arguments import BatchArguments
from airflow_provider_modelslab.operators.local_arguments import LocalArguments

if TYPE_CHECKING:
    from datetime import timedelta

    from airflow.sdk import Context

    from airflow_provider_modelslab.api.request import Video2VideoRequest
    from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
    from airflow_provider_modelslab.batch.results.bill import PriceOf
    from airflow_provider_modelslab.batch.results.tracker import BatchTracker
    from airflow_provider_modelslab.ledger.model import Stored
    from airflow_provider_modelslab.local.stage_types import Prepared, Rendered

__all__ = ["LocalVideo2VideoBatchOperator"]

_TELL_EVERY = 5.0
"""Seconds between two lines about the steps of a clip."""


class LocalVideo2VideoBatchOperator(LocalArguments, BatchArguments):
    """Restyle many clips with diffusers on this worker and land them in S3.

    To switch a Dag from the endpoint to your own GPU, or back, change only the class: the arguments, the summary, the
    manifests, the sidecars and the ledgers are those of
    :class:`~airflow_provider_modelslab.operators.batch.ModelsLabVideo2VideoBatchOperator`. One task loads a model once
    for all clips that use it, and makes these clips one after the other. While the model works, the next clip is
    downloaded and decoded, and the last one is encoded and uploaded. Each clip is landed and recorded separately, so
    finished clips are kept if the task fails. A bad clip does not end the batch.

    Arguments: the attributes of :class:`~airflow_provider_modelslab.operators.arguments.RequestArguments`, those of
    :class:`~airflow_provider_modelslab.operators.batch_arguments.BatchArguments` and of
    :class:`~airflow_provider_modelslab.operators.local_arguments.LocalArguments`. Other arguments:

    :param max_in_flight: this and the next three are arguments of the remote operator; accepted, but have no effect
        here.
    :param defer_after: see ``max_in_flight``.
    :param resume_threshold: see ``max_in_flight``.
    :param fallback: see ``max_in_flight``.
    :raises InvalidRequestError: with each invalid clip and the reason; nothing was made.
    :raises BatchFailedError: when more clips failed than ``max_failed``, or the batch was aborted.
    """

    __supports_durable_execution: ClassVar[bool] = True

    operator_extra_links = (ModelsLabManifestLink(), ModelsLabSourceLink())
    template_fields: Sequence[str] = (
        *BatchArguments.template_fields,
        *BatchArguments.batch_fields,
        *LocalArguments.machine_fields,
    )

    def __init__(
        self,
        *,
        max_in_flight: int | str = 10,
        defer_after: float | str | timedelta = 15.0,
        resume_threshold: float | str = 0.5,
        fallback: Sequence[Mapping[str, Any]] | None = None,
        reuse: Literal["run", "always", "never"] = "always",
        **arguments: Any,
    ) -> None:
        super().__init__(reuse=reuse, **arguments)

    @reported
    def execute(self, context: Context) -> dict[str, Any]:
        """Plan the batch, skip what is there, make the rest and return the summary."""
        from airflow_provider_modelslab.jobs.task_ledger import attempt_of, policy_in_force
        from airflow_provider_modelslab.storage.s3_objects import is_gone

        plan = self._plan(self._made_by())
        self._end_if_empty(plan)
        tracker = self._open_tracker(context, plan)
        policy = policy_in_force(self._ledger_policy(), context)
        todo = tracker.begin(reuse=policy.reuse)
        self._require_writable(todo)
        attempt = attempt_of(context, retries=self.retries)
        s3 = self.hook.get_s3_client()

        def landed_before(clip: ClipPlan) -> Stored | None:
            stored = tracker.ledger(clip, claims=False).find_stored(clip.fingerprint, policy, attempt)
            return None if stored is None or is_gone(s3, stored.manifest) else stored

        with tempfile.TemporaryDirectory(prefix="modelslab-") as folder:
            stages = _Stages(self, tracker, Path(folder), landed_before, attempt)
            stopped = self._work(tracker, self._in_order(plan, todo), stages)
        return self._conclude(context, tracker, stopped)

    def _price_of(self, plan: BatchPlan) -> PriceOf:
        """What a clip costs is only known once it is made."""
        return lambda clip: None

    def _work(self, tracker: BatchTracker, todo: list[ClipPlan], stages: _Stages) -> str | None:
        """Run the stages; why it was given up, if it was."""
        from airflow_provider_modelslab.batch.running.pipeline import run_in_stages
        from airflow_provider_modelslab.ledger.model import Stored

        ending = run_in_stages(todo, read=stages.read, make=stages.make, write=stages.write)
        try:
            for clip, done in ending:
                self._refuse_if_killed()
                if isinstance(done, Exception):
                    tracker.failed(clip, done, None)
                elif isinstance(done, Stored):
                    tracker.stored(clip, done)
                else:
                    tracker.landed(clip, done)
                    self.log.info("Landed %s. %s", done["uri"], tracker.progress.line())
                if (why := tracker.too_many()) is not None:
                    return why
        finally:
            ending.close()
        return None

    def _refuse_if_killed(self) -> None:
        if self._killed.is_set():
            raise InterruptedError("The task was killed. Landed results stay; a retry makes the remaining clips")

    def _in_order(self, plan: BatchPlan, todo: list[ClipPlan]) -> list[ClipPlan]:
        """Clips that share a model, its parts and a size come together."""
        from airflow_provider_modelslab.batch.planning.plan import variant_of

        keys: dict[str, tuple[Any, ...]] = {}

        def key(clip: ClipPlan) -> tuple[Any, ...]:
            variant = variant_of(clip.overrides)
            if variant not in keys:
                keys[variant] = self._engine.model_key(plan.request(clip))
            return keys[variant]

        return sorted(todo, key=key)

    def _check_request(self, request: Video2VideoRequest) -> None:
        """Ask the engine: the limits are those of the model's family."""
        self._check_local(request)


@dataclass
class _Stages:
    """What is done for a clip: in a thread, in the task's thread, in a thread."""

    task: LocalVideo2VideoBatchOperator
    tracker: BatchTracker
    folder: Path
    landed_before: Any
    attempt: Any

    def read(self, clip: ClipPlan) -> Stored | tuple[Video2VideoRequest, Prepared]:
        """Look whether it is there; else fetch and decode it."""
        self.task._refuse_if_killed()
        from airflow_provider_modelslab.storage.local_files import fetch_object

        found: Stored | None = self.landed_before(clip)
        if found is not None:
            return found
        request = self.tracker.plan.request(clip)
        place = self.folder / f"in-{clip.index}"
        place.mkdir()
        try:
            file = fetch_object(request.init_video, self.task.hook.get_s3_client, place)
            return request, self.task._engine.prepare(request.model_copy(update={"init_video": file}))
        finally:
            shutil.rmtree(place, ignore_errors=True)

    def make(
        self, clip: ClipPlan, read: Stored | tuple[Video2VideoRequest, Prepared]
    ) -> Stored | tuple[Video2VideoRequest, Rendered, float]:
        """Run the model."""
        from airflow_provider_modelslab.ledger.model import Stored
        from airflow_provider_modelslab.local.stage_types import GenerationInterruptedError

        if isinstance(read, Stored):
            return read
        self.task._refuse_if_killed()
        request, prepared = read
        started, told = time.time(), time.monotonic()

        def tell(done: int, steps: int) -> None:
            nonlocal told
            if done == steps or time.monotonic() - told >= _TELL_EVERY:
                told = time.monotonic()
                self.task.log.info("%s: step %d of %d", clip.safe_source, done, steps)

        def stop() -> bool:
            return self.task._killed.is_set() or time.time() - started > self.task.timeout

        try:
            return request, self.task._engine.render(prepared, on_step=tell, should_stop=stop), started
        except GenerationInterruptedError as error:
            raise JobTimeoutError(f"The clip was not done within {self.task.timeout:g} s: {error}") from error

    def write(
        self, clip: ClipPlan, made: Stored | tuple[Video2VideoRequest, Rendered, float]
    ) -> Stored | dict[str, Any]:
        """Encode, upload and write down."""
        from airflow_provider_modelslab.ledger.model import Stored

        if isinstance(made, Stored):
            return made
        # Another run may have made it since it was looked for, or a later try have asked for another one.
        found: Stored | None = self.landed_before(clip)
        if found is not None:
            return found
        request, rendered, started = made
        output = self.folder / f"out-{clip.index}.{clip.output_type}"
        try:
            done = self.task._engine.encode(rendered, output)
            manifest = self.task._land(request, done, clip.destination, started)
        finally:
            output.unlink(missing_ok=True)
        self.tracker.ledger(clip).record_stored(clip.fingerprint, self.attempt, manifest)
        return manifest
