"""The result manifest: small plain JSON in XCom that identifies a job and its result for later tasks.

XCom does not support typed objects (Airflow refuses to load classes that are not on its allow-list), so the classes
here are used within one process and are passed on as dicts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.prices import JobPrice, amount_text
from airflow_provider_modelslab.api.redaction import scrub

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_modelslab.api.response import Finished
    from airflow_provider_modelslab.storage.landing import LandedObject
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = [
    "LINK_LIFETIME",
    "SCHEMA_VERSION",
    "Job",
    "finished_manifest",
    "landed_manifest",
    "object_facts",
    "submitted_manifest",
]

SCHEMA_VERSION = 1

LINK_LIFETIME = timedelta(hours=24)
"""The vendor deletes results after 24 hours if no S3 settings are stored on its server."""


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted, and so possibly billed, job.

    :param job_id: the endpoint's id.
    :param conn_id: the Airflow connection whose key submitted it; only that key can fetch it.
    :param submitted_at: seconds since the epoch; ``None`` when only the id is known.
    :param eta: the endpoint's estimate at submission, in seconds.
    :param request: the request's record, without secrets.
    :param meta: what the endpoint echoed at submission, without secrets; fetch answers have no meta.
    :param price: as it was at the submission, see :meth:`JobPrice.record`; ``None`` without prices.
    :param chain: of a job with other places to fall back to: ``made_by``, its place, and ``fallback_from``, the places
        before it with ``code``, ``message`` and ``job_id`` of what happened there, and ``cost`` and ``currency`` of the
        job where there are prices.
    """

    job_id: str
    conn_id: str
    submitted_at: float | None = None
    eta: float | None = None
    request: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    price: dict[str, str] | None = None
    chain: dict[str, Any] | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the job in a batch: two endpoints may give out the same id."""
        return self.conn_id, self.job_id

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON, for the arguments of a resumed task."""
        optional = ("price", "chain")
        return {name: value for name, value in asdict(self).items() if name not in optional or value is not None}

    def cost(self, seconds: float | None) -> dict[str, str]:
        """``cost`` and ``currency``, as texts; empty if unknown.

        :param seconds: of generation.
        """
        if self.price is None:
            return {}
        price = JobPrice.from_record(self.price)
        cost = price.cost(seconds)
        return {} if cost is None else {"cost": amount_text(cost), "currency": price.currency}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The inverse; keys of other versions are ignored, so tasks deferred before an upgrade resume."""
        return cls(**{name: value for name, value in data.items() if name in cls.__dataclass_fields__})

    @classmethod
    def from_xcom(cls, value: object, *, conn_id: str) -> Self:
        """A job from an earlier task: its id, or the manifest that the operator or the sensor returned.

        :raises InvalidRequestError: when ``value`` is neither.
        """
        if isinstance(value, str) and value.strip().startswith("{"):
            raise InvalidRequestError.of(
                "job",
                "is a manifest that a template turned into text; pass the other task's .output, or let the Dag render "
                f"native objects (render_template_as_native_obj=True); got {value[:80]!r}",
            )
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return cls(job_id=str(value).strip(), conn_id=conn_id)
        # Links without an id: the submit was answered with the result. It can be landed, but not fetched again.
        if isinstance(value, dict) and (value.get("job_id") or value.get("links")):
            submitted = value.get("submitted_at")
            return cls(
                job_id=str(value.get("job_id") or ""),
                conn_id=value.get("conn_id") or conn_id,
                submitted_at=datetime.fromisoformat(submitted).timestamp() if submitted else None,
                eta=value.get("eta_s"),
                request=value.get("request") or {},
                meta=value.get("meta") or {},
            )
        raise InvalidRequestError.of(
            "job", f"needs a job id, or the manifest of the task that submitted the job; got {value!r:.200}"
        )


def _model_of(job: Job) -> Any:
    """The model that made it: as the endpoint says, where the requested name is an alias there; else as requested."""
    used = job.meta.get("model_id")
    return used if isinstance(used, str) and used else job.request.get("model_id")


def _common(job: Job, status: str) -> dict[str, Any]:
    at = datetime.fromtimestamp(job.submitted_at, UTC) if job.submitted_at is not None else None
    return {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "job_id": job.job_id,
        "conn_id": job.conn_id,
        "model_id": _model_of(job),
        "submitted_at": at.isoformat() if at else None,
        "expires_at": (at + LINK_LIFETIME).isoformat() if at else None,
        **scrub(job.chain or {}),
    }


def submitted_manifest(job: Job) -> dict[str, Any]:
    """The manifest of a task that does not wait: enough for a sensor to wait and for a later task to land."""
    return {**_common(job, "submitted"), "eta_s": job.eta, "request": scrub(job.request), "meta": scrub(job.meta)}


def finished_manifest(job: Job, finished: Finished) -> dict[str, Any]:
    """The manifest of a finished job whose result has not landed: its links work until ``expires_at``, best first."""
    return {
        **_common(job, "finished"),
        "links": list(finished.links),
        "seed": seed_of(job, finished),
        "generation_time_s": finished.generation_time,
        **job.cost(finished.generation_time),
        "request": scrub(job.request),
        "meta": scrub(job.meta | finished.meta),
    }


def landed_manifest(job: Job, finished: Finished, landed: LandedObject, sidecar: S3Uri) -> dict[str, Any]:
    """The manifest of a landed result; its sidecar has the other details."""
    return {
        **_common(job, "landed"),
        **object_facts(landed, sidecar),
        "seed": seed_of(job, finished),
        "generation_time_s": finished.generation_time,
        **job.cost(finished.generation_time),
    }


def object_facts(landed: LandedObject, sidecar: S3Uri) -> dict[str, Any]:
    """What a manifest says of the object itself."""
    return {
        "uri": str(landed.uri),
        "sidecar_uri": str(sidecar),
        "bytes": landed.bytes,
        "sha256": landed.sha256,
        "etag": landed.etag,
        "content_type": landed.content_type,
    }


def seed_of(job: Job, finished: Finished) -> int | None:
    """The effective seed: as the endpoint echoed it, else as requested."""
    for source in (finished.meta, job.meta, job.request):
        if isinstance(source.get("seed"), int):
            return int(source["seed"])
    return None
