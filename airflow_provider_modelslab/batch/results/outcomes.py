"""What became of each clip, and counts that reconcile: found = landed + skipped + failed + not reached."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import ModelsLabError
from airflow_provider_modelslab.api.redaction import hide_queries, scrub
from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
from airflow_provider_modelslab.ledger.chain import failure_at

if TYPE_CHECKING:
    from airflow_provider_modelslab.storage.result_manifest import Job

__all__ = ["Outcome", "Outcomes", "Status"]

_MAX_MESSAGE = 2000


class Status(StrEnum):
    """What became of a clip. The values stand in manifests, so they never change."""

    LANDED = "landed"
    SKIPPED = "skipped"
    FAILED = "failed"
    PENDING = "pending"

    def outweighs(self, other: Status) -> bool:
        """Whether it says more than another of the same clip in the same try: that it landed says most."""
        order = tuple(Status)
        return order.index(self) < order.index(other)


_DONE = frozenset({Status.LANDED, Status.SKIPPED})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one clip.

    :param status: ``landed`` in this Dag run, by this try or an earlier one; ``skipped`` because it had landed before;
        ``failed``; or ``pending``: not reached when the batch was given up.
    :param job_id: of the job that made it, or that failed.
    :param seed: in force.
    :param bytes: size of the result.
    :param sha256: of the result.
    :param etag: of the result, without quotes.
    :param seconds: from the submission (or the start of the work) until it was there.
    :param generation_s: seconds that the model worked, as the endpoint says.
    :param cost: of its job, as text; ``None`` where it is not known.
    :param currency: of the cost.
    :param code: why it failed: an :class:`ErrorCode`, or the exception's name where it is none of this package.
    :param message: the same for people.
    :param made_by: the place that made it, of a batch with places to fall back to.
    :param fallback_from: the places that came to nothing, in order, with ``code``, ``message`` and ``job_id`` of what
        happened there; of a failed clip the last one too. Not known of results that had landed before.
    """

    status: Status
    job_id: str | None = None
    seed: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    etag: str | None = None
    seconds: float | None = None
    generation_s: float | None = None
    cost: str | None = None
    currency: str | None = None
    code: str | None = None
    message: str | None = None
    made_by: Mapping[str, Any] | None = None
    fallback_from: Sequence[Mapping[str, Any]] | None = None

    @classmethod
    def landed(cls, manifest: Mapping[str, Any], *, seconds: float | None = None) -> Outcome:
        """From the manifest that :meth:`ModelsLabHook.land` returned."""
        return cls(
            Status.LANDED, **_of_result(manifest), seconds=seconds, fallback_from=manifest.get("fallback_from") or None
        )

    @classmethod
    def skipped(cls, manifest: Mapping[str, Any]) -> Outcome:
        """From the manifest in the ledger, or the entry of the index, of a result that was there before."""
        return cls(Status.SKIPPED, **_of_result(manifest))

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Outcome | None:
        """From a line of a results manifest, or a checkpoint; ``None`` where its status is not known here."""
        if record.get("status") not in tuple(Status):
            return None
        known = {field.name: record[field.name] for field in fields(cls) if field.name in record}
        return cls(**{**known, "status": Status(record["status"])})

    @classmethod
    def failed(cls, error: BaseException, *, job: Job | None = None, seconds: float | None = None) -> Outcome:
        """From what was raised.

        :param job: that failed, or whose result was not landed.
        """
        known = error if isinstance(error, ModelsLabError) else None
        code = known.code.value if known else type(error).__name__
        text = hide_queries(known.message if known else str(error))[:_MAX_MESSAGE]
        job_id = (job and job.job_id) or (known.job_id if known else None)
        chain = (job and job.chain) or (known and known.chain)
        failures: list[dict[str, Any]] = []
        if chain:
            last = {"code": code, "message": text, "job_id": job_id}
            record = {"price": job.price} if job else {}
            failures = [*chain.get("fallback_from", ()), failure_at(chain["made_by"], last, record)]
            text += "".join(
                f". Before that, at {_place_text(one)}: {one['code']}: {one['message']}" for one in failures[:-1]
            )
        return cls(
            Status.FAILED,
            job_id=job_id,
            seconds=seconds,
            code=code,
            message=text[:_MAX_MESSAGE],
            fallback_from=scrub(failures) or None,
        )


PENDING = Outcome(Status.PENDING)


class Outcomes:
    """One outcome for each clip of a plan; safe to use from several threads.

    A clip without one is pending. A result that is there outweighs a failure, whichever comes first; otherwise
    the last outcome counts.
    """

    def __init__(self, plan: BatchPlan) -> None:
        self.plan = plan
        self._told: list[Outcome] = [PENDING] * len(plan)
        self._counts = dict.fromkeys(Status, 0) | {Status.PENDING: len(plan)}
        self._lock = threading.Lock()

    def tell(self, clip: ClipPlan, outcome: Outcome) -> None:
        """What became of a clip."""
        with self._lock:
            before = self._told[clip.index]
            if before.status in _DONE and outcome.status not in _DONE:
                return
            self._told[clip.index] = outcome
            self._counts[before.status] -= 1
            self._counts[outcome.status] += 1

    def __getitem__(self, clip: ClipPlan) -> Outcome:
        return self._told[clip.index]

    def __iter__(self) -> Iterator[tuple[ClipPlan, Outcome]]:
        return iter(list(zip(self.plan.clips, self._told, strict=True)))

    def counts(self) -> dict[str, int]:
        """``found``, ``landed``, ``skipped``, ``failed``, ``pending``; the last four add up to the first."""
        with self._lock:
            return {"found": len(self._told), **{status.value: count for status, count in self._counts.items()}}

    def with_status(self, *statuses: Status) -> list[tuple[ClipPlan, Outcome]]:
        """The clips of these statuses, in order."""
        return [(clip, outcome) for clip, outcome in self if outcome.status in statuses]


def _of_result(manifest: Mapping[str, Any]) -> dict[str, Any]:
    names = ("job_id", "seed", "bytes", "sha256", "etag", "cost", "currency", "made_by")
    facts = {name: manifest.get(name) for name in names}
    return {**facts, "generation_s": manifest.get("generation_time_s")}


def _place_text(place: Mapping[str, Any]) -> str:
    where = "this worker" if place["run_on"] == "local" else place["modelslab_conn_id"]
    return f"{where} ({place['model_id']})"
