"""What a batch leaves behind: a results manifest in S3, a manifest of what to try again, and a summary for XCom."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import BatchFailedError
from airflow_provider_modelslab.api.redaction import holds_secret
from airflow_provider_modelslab.batch.planning.plan import ClipPlan
from airflow_provider_modelslab.batch.results.bill import PriceOf, bill_of
from airflow_provider_modelslab.batch.results.outcomes import Outcome, Outcomes, Status
from airflow_provider_modelslab.batch.running.circuit_breaker import cause_of
from airflow_provider_modelslab.batch.running.limits import FailureLimit
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.ledger.attempt import AttemptId

__all__ = [
    "RESULTS_SCHEMA_VERSION",
    "clip_line",
    "failure_of",
    "result_line",
    "retry_line",
    "write_results",
]

RESULTS_SCHEMA_VERSION = 1

log = logging.getLogger(__name__)

_FIRST_ERRORS = 5
_PLACE = ("modelslab_conn_id", "model_id", "run_on")
_REST = (
    "Landed results stay. A retry does only the remaining clips, and pays for a new job for each clip whose job "
    "failed. Another Dag run pays for all clips again, unless reuse is 'always'."
)
_MAX_ERROR = 800  # the advice for a submission of unknown outcome is about 700 long


def write_results(
    s3: S3Client,
    folder: S3Uri,
    name: str,
    outcomes: Outcomes,
    *,
    seconds: float | None = None,
    attempt: AttemptId | None = None,
    price_of: PriceOf | None = None,
) -> dict[str, Any]:
    """Write ``<name>.jsonl``, and ``<name>.retry.jsonl`` when something failed or was not reached; return the summary.

    The summary is small plain JSON: ``found``, ``landed``, ``skipped``, ``failed``, ``pending`` (the last four add up
    to the first), ``duplicates``, ``ignored`` by reason, ``bytes`` of what landed or was there, ``seconds``, ``jobs``,
    ``generation_s``, ``cost``, ``currency`` and ``saved`` (see :func:`bill_of`), ``manifest`` and ``retry`` (URIs;
    ``retry`` is ``None`` when there is nothing to try again), ``errors`` (the first few). ``retry_left_out`` counts
    clips of which a link has a query, or that have a webhook of their own: either may be a secret, so it is not stored,
    and without it the line means something else; running the same batch again reaches them. ``places``, of a batch with
    places to fall back to: each of them with the number of results that ``landed`` there now, and ``failed``, the
    failures there by code.

    :param folder: where the manifests go.
    :param name: the same for each try of a batch, so that the last one's manifest stands.
    :param seconds: of the whole batch.
    :param price_of: the price of a clip's job, where there are prices.
    :param attempt: the attempt that ends; what a later one has written is not replaced, and what another process of the
        same try has written is joined with the outcomes. Without it, anything is replaced.
    :raises BatchSupersededError: when a later attempt has written them.
    :raises StorageConfigurationError: when S3 refuses.
    """
    from airflow_provider_modelslab.batch.results.put_if_newer import put_if_newer

    manifest, retry = folder.child(f"{name}.jsonl"), folder.child(f"{name}.retry.jsonl")

    def lines() -> list[dict[str, Any]]:
        return [result_line(*pair) for pair in outcomes]

    def join(theirs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        _learn(outcomes, theirs)
        return lines()

    first = put_if_newer(s3, manifest, lines(), attempt, join=join)
    open_clips = outcomes.with_status(Status.FAILED, Status.PENDING)
    again = [line for clip, _ in open_clips if (line := retry_line(clip)) is not None]
    if again:
        put_if_newer(s3, retry, again, attempt, probably_new=first)
    failed = outcomes.with_status(Status.FAILED)
    return {
        "schema_version": RESULTS_SCHEMA_VERSION,
        **outcomes.counts(),
        "duplicates": outcomes.plan.duplicate_count,
        "ignored": dict(outcomes.plan.ignored),
        "bytes": sum(outcome.bytes or 0 for _, outcome in outcomes),
        "seconds": None if seconds is None else round(seconds, 1),
        "manifest": str(manifest),
        "retry": str(retry) if again else None,
        "retry_left_out": len(open_clips) - len(again),
        **bill_of(outcomes, price_of),
        **_by_place(outcomes),
        "errors": [_error(clip, outcome) for clip, outcome in failed[:_FIRST_ERRORS]],
    }


def _learn(outcomes: Outcomes, lines: Iterable[Mapping[str, Any]]) -> None:
    """Learn from the manifest of another process of the same try what this process does not know."""
    by_uri, learned = {str(line.get("uri")): line for line in lines}, 0
    for clip, outcome in outcomes:
        line = by_uri.get(str(clip.destination), {})
        other = Outcome.from_record(line) if line.get("fingerprint") == _fingerprint(clip) else None
        if other is not None and other.status.outweighs(outcome.status):
            outcomes.tell(clip, other)
            learned += 1
    if learned:
        log.info("Another process of this try has handled %d of the clips; they are counted in the results", learned)


def _by_place(outcomes: Outcomes) -> dict[str, Any]:
    """``places``; nothing where there was no other place to fall back to."""
    landed: Counter[tuple[Any, ...]] = Counter()
    failed: dict[tuple[Any, ...], Counter[str]] = {}

    def location_of(record: Mapping[str, Any]) -> tuple[Any, ...]:
        place = tuple(record[name] for name in _PLACE)
        failed.setdefault(place, Counter())
        return place

    for _, outcome in outcomes:
        for failure in outcome.fallback_from or ():
            failed[location_of(failure)][str(failure["code"])] += 1
        if outcome.made_by and outcome.status == Status.LANDED:
            landed[location_of(outcome.made_by)] += 1
    if not failed:
        return {}
    return {
        "places": [
            {**dict(zip(_PLACE, place, strict=True)), "landed": landed[place], "failed": dict(codes)}
            for place, codes in failed.items()
        ]
    }


def result_line(clip: ClipPlan, outcome: Outcome) -> dict[str, Any]:
    """One clip's line of the results manifest. It holds no secret."""
    return {
        "schema_version": RESULTS_SCHEMA_VERSION,
        "index": clip.index,
        "status": outcome.status.value,
        "source": clip.safe_source,
        "uri": str(clip.destination),
        "job_id": outcome.job_id,
        "seed": outcome.seed,
        "bytes": outcome.bytes,
        "sha256": outcome.sha256,
        "etag": outcome.etag,
        "seconds": None if outcome.seconds is None else round(outcome.seconds, 3),
        "generation_s": outcome.generation_s,
        "cost": outcome.cost,
        "currency": outcome.currency,
        "code": outcome.code,
        "message": outcome.message,
        "fingerprint": _fingerprint(clip),
        **({"made_by": outcome.made_by} if outcome.made_by else {}),
        **({"fallback_from": outcome.fallback_from} if outcome.fallback_from else {}),
    }


def _fingerprint(clip: ClipPlan) -> dict[str, Any]:
    return {"request": clip.fingerprint.request, "source": clip.fingerprint.source}


def clip_line(clip: ClipPlan) -> dict[str, Any]:
    """A line of a manifest for the batch operators: the clip, its destination, and what is its own."""
    version = {} if clip.clip_version is None else {"clip_version": clip.clip_version}
    return {"init_video": clip.source, "destination": str(clip.destination), **version, **clip.overrides}


def retry_line(clip: ClipPlan) -> dict[str, Any] | None:
    """The same to be written down; ``None`` where it would hold a secret."""
    line = clip_line(clip)
    return None if holds_secret(line) else line


def failure_of(
    summary: Mapping[str, Any], limit: FailureLimit, *, stopped: str | None = None
) -> BatchFailedError | None:
    """The error of a batch in which more clips failed than allowed, or were not reached; ``None`` when it may pass.

    :param summary: of :func:`write_results`.
    :param stopped: why clips were not reached, when some were not.
    """
    if limit.exceeded(summary["failed"], summary["found"]):
        return _too_many(summary, limit, stopped)
    return _given_up(summary, stopped) if summary["pending"] else None


def _too_many(summary: Mapping[str, Any], limit: FailureLimit, stopped: str | None) -> BatchFailedError:
    first = "".join(f"\n  {error['source']}: {error['code']}: {error['message']}" for error in summary["errors"])
    more = summary["failed"] - len(summary["errors"])
    retry = f"; only the clips to try again: {summary['retry']}" if summary["retry"] else ""
    return BatchFailedError(
        f"{summary['failed']} of {summary['found']} clips failed (max_failed: {limit}); {summary['landed']} landed, "
        f"{summary['skipped']} were already stored, {summary['pending']} were not reached. {_REST} "
        f"The outcome of each clip: {summary['manifest']}{retry}. The first failures:{first}"
        + (f"\n  ... and {more} more" if more > 0 else ""),
        cause=cause_of(stopped),
    )


def _given_up(summary: Mapping[str, Any], stopped: str | None) -> BatchFailedError:
    return BatchFailedError(
        f"The batch was aborted: {stopped or 'some clips have no outcome'}. {summary['landed']} clips landed, "
        f"{summary['skipped']} were already stored, {summary['failed']} failed, {summary['pending']} were not reached. "
        f"{_REST} The outcome of each clip: {summary['manifest']}",
        cause=cause_of(stopped),
    )


def _error(clip: ClipPlan, outcome: Outcome) -> dict[str, Any]:
    return {
        "source": clip.safe_source,
        "job_id": outcome.job_id,
        "code": outcome.code,
        "message": (outcome.message or "")[:_MAX_ERROR],
    }
