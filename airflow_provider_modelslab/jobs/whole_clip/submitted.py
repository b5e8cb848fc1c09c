"""A whole clip whose jobs are submitted by one task and landed by another: its manifest in XCom, and the landing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.redaction import scrub
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.budget.spending import FREE
from airflow_provider_modelslab.jobs.ledgers import ledgers_of
from airflow_provider_modelslab.jobs.timing import poll_policy
from airflow_provider_modelslab.jobs.whole_clip.clip import WholeClip
from airflow_provider_modelslab.jobs.whole_clip.run import SegmentRun
from airflow_provider_modelslab.jobs.whole_clip.settings import WholeClipSettings
from airflow_provider_modelslab.ledger.model import LedgerPolicy
from airflow_provider_modelslab.storage.result_manifest import SCHEMA_VERSION, submitted_manifest
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.batch.running.protocols import InFlight
    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.jobs.paid_job import PaidJob
    from airflow_provider_modelslab.jobs.whole_clip.clip import OpenedClip
    from airflow_provider_modelslab.ledger.attempt import AttemptId
    from airflow_provider_modelslab.local.media.whole_clip.plan import Segment
    from airflow_provider_modelslab.storage.inputs import PreparedInput

__all__ = ["land_submitted", "submitted_whole"]

_OF_A_JOB = ("job_id", "submitted_at", "expires_at", "eta_s")
_NOT_NEEDED = frozenset({"webhook", "track_id"})


def submitted_whole(clip: WholeClip, opened: OpenedClip, in_flight: Iterable[InFlight[Segment]]) -> dict[str, Any]:
    """The manifest of a task that does not wait: enough for a sensor to wait, and for a later task to land the clip.

    :param in_flight: the jobs that run; results of the other segments are in S3.
    """
    plan, request = opened.segments.plan, clip.request
    running = []
    for item in sorted(in_flight, key=lambda item: item.clip.index):
        job = submitted_manifest(item.submission.job)
        running.append({"number": item.clip.index + 1, **{name: job[name] for name in _OF_A_JOB}})
    given = {name: getattr(request, name) for name in request.model_fields_set - _NOT_NEEDED}
    settings = clip.settings
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "submitted",
        "job_id": None,
        "conn_id": clip.hook.modelslab_conn_id,
        "model_id": request.model_id,
        "submitted_at": min((job["submitted_at"] for job in running), default=None),
        "expires_at": min((job["expires_at"] for job in running), default=None),
        "clip_mode": "whole",
        "destination": str(clip.destination),
        "frames": plan.total,
        "fps": plan.fps,
        "seed": opened.segments.seed,
        "segments": len(plan.segments),
        "running": running,
        "request": scrub(request.model_dump(mode="json", include=set(given))),
        "overlap": settings.overlap,
        "audio": settings.audio,
        "max_segments": settings.max_segments,
        "source": clip.fingerprint.source,
    }


def land_submitted(manifest: Mapping[str, Any], hook: ModelsLabHook, attempt: AttemptId) -> dict[str, Any]:
    """Wait for the jobs of :func:`submitted_whole`, land their results, join them and return the clip's manifest.

    It pays for nothing, and may be done again.

    :param hook: of the manifest's connection.
    :raises InvalidRequestError: when a segment has neither a result nor a job, or the manifest is not complete.
    :raises ModelsLabError: when a job failed, or a result cannot be landed.
    """
    try:
        request = Video2VideoRequest(**manifest["request"])
        settings = WholeClipSettings.of(*(manifest[name] for name in ("overlap", "audio", "max_segments")))
        destination, source = S3Uri.parse(manifest["destination"]), manifest["source"]
    except (KeyError, TypeError) as error:
        raise InvalidRequestError.of("job", f"is not the manifest of a whole clip: {error!r}") from None
    ledgers = ledgers_of(hook, destination)
    clip = WholeClip(
        request=request,
        settings=settings,
        hook=hook,
        ledger=ledgers.open(destination),
        ledgers=ledgers,
        destination=destination,
        policy=LedgerPolicy("always"),
        attempt=attempt,
        caller=_NoSubmits(),
        spending=FREE,
        known_source=source,
    )
    stored = clip.find()
    if stored is not None:
        return dict(stored.manifest)
    opened = clip.open()
    run = SegmentRun(clip, opened, len(opened.segments.plan.segments), poll_policy(2.0, 30.0))
    asyncio.run(run.run())
    return clip.land(opened.segments, run.outcomes.manifests)


@dataclass(frozen=True)
class _NoSubmits:
    """Pays for nothing; see :class:`~airflow_provider_modelslab.jobs.paid_job.Caller`."""

    def submission_name(self, number: int, destination: S3Uri | None) -> str:
        """For people."""
        return f"{destination}/submission{number}"

    def resolution(self, name: str) -> str | None:
        """Only the task that submits decides."""
        return None

    def advice(self, name: str) -> str:
        """What a person does."""
        return "Clear the task that submitted the jobs. Its error says what to do"

    def confirm(self, job: PaidJob, clip: PreparedInput | None) -> NoReturn:
        """Refuse to pay for a job.

        :raises InvalidRequestError: in any case.
        """
        raise InvalidRequestError.of(
            "job",
            f"{job.destination} has neither a result nor a running job. This task submits nothing. Clear the task that "
            "submitted the jobs: it pays for a new job for this segment",
        )

    def before_claim(self, track_id: str) -> None:
        """Never reached."""
