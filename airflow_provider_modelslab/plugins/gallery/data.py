"""What the gallery shows of a task that makes one video: the manifest, the sidecar, and the ledger while it waits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_provider_modelslab.api.errors import (
    STORAGE_ERRORS,
    ModelsLabError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.api.links import is_http_link
from airflow_provider_modelslab.api.redaction import scrub
from airflow_provider_modelslab.api.request import ATTRIBUTES
from airflow_provider_modelslab.ledger.model import Entries, Entry, entry_name, last_submission
from airflow_provider_modelslab.plugins.authorization.locations import is_result
from airflow_provider_modelslab.plugins.authorization.records import (
    NOT_SUBMITTED,
    is_in_s3,
    may_expose_source,
    read_ledger,
)
from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage
from airflow_provider_modelslab.plugins.json_values import as_mapping
from airflow_provider_modelslab.plugins.task_results import ENDED, TaskResult
from airflow_provider_modelslab.storage.sidecar import sidecar_uri
from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["Media", "attributes_of", "describe_clip", "describe_single", "media_of", "task_facts"]

_FACTS = (
    "job_id",
    "model_id",
    "seed",
    "generation_time_s",
    "cost",
    "currency",
    "submitted_at",
    "expires_at",
    "eta_s",
    "conn_id",
)
_OF_A_SEGMENT: dict[str, type | tuple[type, ...]] = {
    "number": int,
    "frames": int,
    "seconds": list,
    "job_id": (str, int),
    "generation_time_s": (int, float),
    "cost": str,
    "currency": str,
    "uri": str,
}
_MAX_SEGMENTS = 1000
_COSTS = ("cost", "currency")
_RESULT = ("uri", "sidecar_uri", "bytes", "sha256", "content_type")


@dataclass(frozen=True, slots=True)
class Media:
    """A clip that can be shown.

    :param where: as it was recorded: ``s3://bucket/key``, an http(s) link without its query, or a path.
    :param why: the reason why there is no link to it.
    """

    where: str
    why: str | None = None

    @property
    def uri(self) -> S3Uri | None:
        """The object that may be shown; ``None`` if it may not, and for what is not in S3.

        :raises StorageConfigurationError: for an invalid URI.
        """
        return S3Uri.parse(self.where) if is_in_s3(self.where) and not self.why else None

    def link(self, store: GalleryStorage, *, renew: bool = False, streamed: str | None = None) -> dict[str, Any]:
        """``url`` and ``type`` (``video`` or ``image``), or ``why`` there is none.

        :param renew: make a new signed link, because the last did not work.
        :param streamed: the address at the API server for an object in S3; ``None`` for a signed link.
        """
        if self.why:
            return {"why": self.why}
        kind = "image" if self.where.partition("?")[0].lower().endswith(".gif") else "video"
        scheme = self.where.partition("://")[0].lower()
        if is_in_s3(self.where):
            try:
                uri = S3Uri.parse(self.where)
                if streamed:
                    return {"url": streamed, "type": kind}
                public = None if renew else store.profile.public_link(uri)
                return {"url": public or store.link(uri, renew=renew), "type": kind}
            except ModelsLabError as error:
                return {"why": str(error)}
        if scheme in {"http", "https"}:
            return {"url": self.where, "type": kind}
        return {"why": "This is a file on the worker's disk; it cannot be shown here."}


def media_of(task: TaskResult, single: Mapping[str, Any]) -> dict[str, Media]:
    """``result`` and ``source`` of :func:`describe_single`, if a source other than an XCom confirms them.

    An object is signed only if it is the result at a location that this task writes to, or the task's own source (see
    :func:`~airflow_provider_modelslab.plugins.authorization.records.may_expose_source`). A source that only the task's
    arguments name comes with the reason why there is no link.
    """
    found = {}
    result, source, hidden = (single.get("result") or {}).get("uri"), single.get("source"), single["source_hidden"]
    if result and (is_http_link(result) or single["verified"]):
        found["result"] = Media(result)
    if source and (hidden is None or source == task.argument("init_video")):
        found["source"] = Media(source, hidden)
    return found


def describe_single(task: TaskResult, store: GalleryStorage | None) -> dict[str, Any]:
    """The task's media and facts, as plain JSON without secrets.

    ``outcome`` is ``landed``, ``finished`` (not copied to S3), ``submitted`` (nobody has waited for it), ``waiting``,
    ``retrying`` (a try failed and another follows), ``failed`` or ``nothing``. Besides it
    there are ``request``, ``source``, ``result``, ``facts``, ``error``, ``notes``, ``verified`` (the result is where
    this task writes, and its sidecar confirms it), ``source_hidden`` (why the source has no link) and ``segments`` (of
    a whole clip, with the job and the cost of each).

    :param store: of the connection; ``None`` where it cannot be read.
    """
    notes: list[str] = []
    manifest, request = task.manifest, attributes_of(task.fields)
    facts = {name: manifest.get(name) for name in _FACTS if manifest.get(name) is not None}
    outcome: str = manifest.get("status") or ("waiting" if task.state not in ENDED else "nothing")
    result: dict[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    sidecar: dict[str, Any] = {}
    entries: Entries | None = None
    if outcome == "landed":
        result = {name: manifest.get(name) for name in _RESULT} if manifest.get("uri") else None
        sidecar = _own_sidecar(task, store, manifest.get("uri"), notes)
        request |= as_mapping(sidecar.get("request"))
        facts |= _sidecar_facts(sidecar)
    elif manifest:
        request |= as_mapping(manifest.get("request"))
        links = manifest.get("links") or []
        result = {"uri": scrub(str(links[0]))} if links else None
    else:
        entries = _ledger(task, store, notes)
        number = last_submission(entries)
        if number is not None:
            job = entries.get(entry_name(number, Entry.JOB), {})
            request |= as_mapping(job.get("request"))
            facts |= _job_facts(job, entries.get(entry_name(number, Entry.CLAIM), {}))
            kinds = (Entry.FAILED, Entry.UNKNOWN, Entry.RELEASED)
            ends = (entries.get(entry_name(number, kind)) for kind in kinds)
            error = next((as_mapping(end.get("error")) for end in ends if end), None)
        if task.state in {"failed", "upstream_failed"}:
            outcome = "failed"
        elif task.state == "up_for_retry":
            outcome = "retrying"
    facts.setdefault("model_id", request.get("model_id"))
    clip = request.get("init_video")
    source = clip if isinstance(clip, str) else None
    return {
        "outcome": outcome,
        "request": request,
        "source": source,
        "result": result,
        "facts": {name: value for name, value in facts.items() if value is not None},
        "error": None if error is None else _error(error),
        "notes": notes,
        "segments": _segments(sidecar.get("segments")),
        "verified": bool(sidecar),
        "source_hidden": _why_hidden(task, store, source, sidecar, entries),
    }


def describe_clip(store: GalleryStorage, row: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """The same for one clip of a batch.

    :param row: its line of the results manifest.
    :param common: attributes that all clips share, for a clip without a sidecar.
    """
    notes: list[str] = []
    done = row["status"] in {"landed", "skipped"}
    sidecar = _sidecar(store, S3Uri.parse(row["uri"]), notes) if done else {}
    result = {name: sidecar.get(name, row.get(name)) for name in _RESULT} if done else None
    if result:
        result |= {"uri": row["uri"], "sidecar_uri": str(sidecar_uri(S3Uri.parse(row["uri"])))}
    facts = {name: row.get(name) for name in ("job_id", "seed", "seconds", *_COSTS)} | _sidecar_facts(sidecar)
    request = {**common, **as_mapping(sidecar.get("request")), "init_video": row["source"]}
    facts.setdefault("model_id", request.get("model_id"))
    return {
        "outcome": row["status"],
        "request": request,
        "source": row["source"],
        "result": result,
        "facts": {name: value for name, value in facts.items() if value is not None},
        "error": _error(row) if row.get("code") or row.get("message") else None,
        "notes": notes,
        "segments": _segments(sidecar.get("segments")) or _segments([{"job_id": job} for job in row.get("jobs") or ()]),
    }


def attributes_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The endpoint's attributes among rendered template fields; links lose their queries."""
    names = (*ATTRIBUTES, "extra_parameters")
    return {name: scrub(fields[name]) for name in names if name in fields}


def task_facts(task: TaskResult) -> dict[str, Any]:
    """The task instance's names and times, for the head of the page."""
    until = task.ended_at or (datetime.now(UTC) if task.started_at else None)
    return {
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
        "loop_index": task.loop_index,
        "iterations": list(task.iterations),
        "loop_id": task.loop_id,
        "operator": task.operator,
        "state": task.state,
        "try_number": task.try_number,
        "started_at": None if task.started_at is None else task.started_at.isoformat(),
        "ended_at": None if task.ended_at is None else task.ended_at.isoformat(),
        "duration_s": None if not task.started_at or not until else (until - task.started_at).total_seconds(),
        "ended": task.state in ENDED,
    }


def _own_sidecar(task: TaskResult, store: GalleryStorage | None, where: str | None, notes: list[str]) -> dict[str, Any]:
    if store is None or not where or not where.startswith("s3://"):
        return {}
    try:
        uri = S3Uri.parse(where)
    except StorageConfigurationError as error:
        notes.append(str(error))
        return {}
    if not is_result(task, store.profile, uri):
        notes.append(
            "Only an XCom names this result. By its arguments and its connection, the task writes to another location, "
            "so it is not shown."
        )
        return {}
    return _sidecar(store, uri, notes)


def _sidecar(store: GalleryStorage, result: S3Uri, notes: list[str]) -> dict[str, Any]:
    try:
        content = store.sidecar(result)
    except STORAGE_ERRORS as error:
        notes.append(f"The sidecar of the result cannot be read. {error}")
        return {}
    if not content:
        notes.append("The sidecar of the result is missing, or it is not the sidecar of this result.")
    return content


def _sidecar_facts(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    meta = as_mapping(sidecar.get("meta"))
    names = ("job_id", "seed", "generation_time_s", *_COSTS, "submitted_at", "landed_at", "audio")
    facts = {name: sidecar.get(name) for name in names}
    facts |= {name: meta.get(name) for name in ("width", "height", "num_frames", "fps", "device")}
    if isinstance(meta.get("model_id"), str):  # the model itself, where the request named an alias
        facts["model_id"] = meta["model_id"]
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _segments(found: Any) -> list[dict[str, Any]]:
    """The segments of a whole clip, without what is not as this provider writes it."""
    parts = map(as_mapping, found[:_MAX_SEGMENTS] if isinstance(found, list) else ())
    return [
        {name: part[name] for name, kind in _OF_A_SEGMENT.items() if isinstance(part.get(name), kind)} for part in parts
    ]


def _ledger(task: TaskResult, store: GalleryStorage | None, notes: list[str]) -> Entries:
    """The entries of the task's own ledger, for a job that has not landed."""
    try:
        return read_ledger(task, store) if store else {}
    except STORAGE_ERRORS as error:
        notes.append(f"The task's ledger cannot be read. {error}")
        return {}


def _why_hidden(
    task: TaskResult,
    store: GalleryStorage | None,
    source: str | None,
    sidecar: Mapping[str, Any],
    ledger: Entries | None,
) -> str | None:
    if store is None or source is None:
        return None
    try:
        return None if may_expose_source(task, store, source, sidecar, ledger) else NOT_SUBMITTED
    except ModelsLabError as error:
        return str(error)


def _job_facts(job: Mapping[str, Any], claim: Mapping[str, Any]) -> dict[str, Any]:
    at = job.get("submitted_at")
    try:
        submitted = datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds") if at is not None else None
    except (TypeError, ValueError, OverflowError, OSError):
        submitted = None
    return {
        "job_id": job.get("job_id"),
        "eta_s": job.get("eta"),
        "submitted_at": submitted or claim.get("claimed_at"),
        "seed": as_mapping(job.get("meta")).get("seed"),
    }


def _error(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record.get(name) for name in ("code", "message", "job_id", "http_status") if record.get(name)}
