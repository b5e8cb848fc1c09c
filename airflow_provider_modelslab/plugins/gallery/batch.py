"""The gallery's view of a batch: each clip's outcome from the results manifest, or from the checkpoint while it waits.

Answers are compact: columns and rows, with the common prefix of all URIs sent once, so that ten thousand clips are one
response of some hundred kilobytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.operators.arguments import instance_name
from airflow_provider_modelslab.plugins.authorization.locations import is_results_manifest, manifest_folder
from airflow_provider_modelslab.plugins.authorization.records import NOT_SUBMITTED, is_below, is_in_s3
from airflow_provider_modelslab.plugins.gallery.data import attributes_of
from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage, read_json
from airflow_provider_modelslab.plugins.gallery.unreported import with_unreported
from airflow_provider_modelslab.plugins.json_values import as_mapping, sound_fields
from airflow_provider_modelslab.plugins.task_results import ENDED, TaskResult
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from airflow_provider_modelslab.storage.s3_profile import S3Profile

__all__ = ["COLUMNS", "MAX_CHOSEN", "BatchView", "compact", "read_batch", "retry_lines", "why_source_is_hidden"]

COLUMNS = ("index", "status", "source", "uri", "job_id", "seed", "bytes", "seconds", "code", "message")

MAX_CHOSEN = 1000
"""Clips that landed and can be chosen for one list: each costs a read of its sidecar."""

_SUMMARY = ("found", "landed", "skipped", "failed", "pending", "duplicates", "bytes", "seconds", "manifest", "retry")
_STATUSES = ("landed", "skipped", "failed", "pending")
_OF_OUTCOME = (
    "job_id",
    "seed",
    "bytes",
    "sha256",
    "seconds",
    "cost",
    "currency",
    "jobs",
    "code",
    "message",
    "http_status",
)
_DONE = frozenset({"landed", "skipped"})
_READERS = 8


@dataclass(frozen=True, slots=True)
class BatchView:
    """The clips of one batch as far as they are known.

    :param rows: results lines by their index.
    :param source: the object that this was read from; ``None`` if there is none yet.
    :param version: changes when the rows do.
    :param live: the rows are from a checkpoint, and the batch is still running.
    """

    rows: dict[int, dict[str, Any]]
    common: dict[str, Any]
    summary: dict[str, Any]
    source: str | None
    version: str
    modified: str | None
    live: bool


def read_batch(task: TaskResult, store: GalleryStorage) -> BatchView:
    """Read the results manifest that the task returned, that of its last try, or its checkpoint.

    :raises StorageConfigurationError: when S3 refuses, or the named manifest is not where this task writes.
    """
    common = attributes_of(task.fields)
    running = task.state not in ENDED
    named = task.manifest.get("manifest")
    folder = None if named else manifest_folder(task, store.profile)
    candidates: list[tuple[S3Uri, bool]] = []
    if named:
        uri = S3Uri.parse(named)
        if not is_results_manifest(task, store.profile, uri):
            raise StorageConfigurationError(
                f"Only an XCom names {uri}. By its arguments and its connection, the task writes its results manifest "
                "to another location, so it is not shown"
            )
        candidates.append((uri, False))
    elif folder is not None:
        name = instance_name(task, task.loop_index)
        states = [(folder.child(f"{name}.try{task.try_number}.state.json.gz"), True)]
        results = [(folder.child(f"{name}.jsonl"), False)]
        candidates = states + results if running else results + states
    for uri, is_state in candidates:
        found = store.read(uri, read_state if is_state else read_results)
        if found is None:
            continue
        rows, stored, began = found.content
        version = found.version.strip('"')
        if is_state:
            rows = with_unreported(rows, began, store)
            version += f"-{sum(row['status'] == 'landed' for row in rows.values())}"
        returned = {key: task.manifest.get(key) for key in _SUMMARY}
        summary: dict[str, Any] = {key: value for key, value in returned.items() if value is not None}
        summary |= _count(rows.values()) | ({} if is_state else {"manifest": str(uri)})
        summary.pop("retry", None)
        if not is_state and any(summary[status] for status in ("failed", "pending")):
            summary["retry"] = str(uri).removesuffix(".jsonl") + ".retry.jsonl"
        return BatchView(
            rows=rows,
            common=common | attributes_of(stored),
            summary=summary,
            source=str(uri),
            version=version,
            modified=found.modified.isoformat(timespec="seconds"),
            live=running and is_state,
        )
    return BatchView({}, common, {}, None, "", None, running)


def compact(view: BatchView) -> dict[str, Any]:
    """The batch as one JSON object: ``columns``, ``rows`` (lists), and ``heads``, the common prefixes of the URIs."""
    rows = view.rows.values()
    heads = {name: _head(row[name] for row in rows) for name in ("source", "uri")}
    cut = {name: len(head) for name, head in heads.items()}
    return {
        "columns": COLUMNS,
        "rows": [[str(row[name])[cut[name] :] if name in cut else row.get(name) for name in COLUMNS] for row in rows],
        "heads": heads,
        "summary": view.summary,
        "common": view.common,
        "version": view.version,
        "modified": view.modified,
        "live": view.live,
        "read_from": view.source,
    }


def retry_lines(
    view: BatchView, store: GalleryStorage, chosen: Iterable[int] | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Lines of an input manifest that retries clips, for use as a batch's ``source``; and how many clips were left out.

    Lines that the batch itself stored for a retry are returned unchanged, with each clip's own attributes. A clip
    without a stored line had a signed link, which is never stored. For a clip that landed the line is its whole
    request, from its sidecar.

    :param chosen: indices; ``None`` for all that failed or were not reached.
    :raises InvalidRequestError: for an index that does not exist, or too many that landed.
    """
    if chosen is None:
        wanted = [row for row in view.rows.values() if row["status"] not in _DONE]
    else:
        chosen = list(chosen)
        unknown = [index for index in chosen if index not in view.rows]
        if unknown:
            raise InvalidRequestError.of("clips", f"this batch has no clip {unknown[0]}")
        wanted = [view.rows[index] for index in chosen]
    landed = sum(row["status"] in _DONE for row in wanted)
    if landed > MAX_CHOSEN:
        raise InvalidRequestError.of("clips", f"at most {MAX_CHOSEN} that landed can be chosen; got {landed}")
    stored = _stored_retries(view, store)

    def line(row: Mapping[str, Any]) -> dict[str, Any] | None:
        if row["status"] not in _DONE:
            return stored.get(row["uri"])
        try:
            uri = S3Uri.parse(row["uri"])
        except StorageConfigurationError:
            return None
        request = store.sidecar(uri).get("request")
        if not request:
            return None
        given = {name: value for name, value in request.items() if value not in (None, "", {}) and name != "track_id"}
        return {**given, "init_video": row["source"], "destination": row["uri"]}

    with ThreadPoolExecutor(_READERS) as pool:
        lines = [found for found in pool.map(line, wanted) if found is not None]
    return lines, len(wanted) - len(lines)


def why_source_is_hidden(task: TaskResult, profile: S3Profile, row: Mapping[str, Any]) -> str | None:
    """Why a clip of a batch has no link; ``None`` if it has one. A clip that was only planned may be any object.

    A link is shown if the Dag names the clips, or the clip was checked when its job was submitted, or it lies in the
    connection's own bucket below its prefix.

    :param row: its line of the results manifest.
    """
    if row["status"] in _DONE or row.get("job_id") or task.declared.chooses_clips():
        return None
    source = row["source"]
    try:
        return NOT_SUBMITTED if is_in_s3(source) and not is_below(profile, S3Uri.parse(source)) else None
    except StorageConfigurationError as error:
        return str(error)


def read_results(body: bytes) -> tuple[dict[int, dict[str, Any]], dict[str, Any], None]:
    """The rows of a results manifest; lines that are no results are skipped."""
    rows = {}
    for line in map(read_json, body.splitlines()):
        index, uri = line.get("index"), line.get("uri")
        if type(index) is int and index >= 0 and line.get("status") in _STATUSES and isinstance(uri, str):
            rows[index] = _row(line, index, str(line.get("source") or ""), uri)
    return rows, {}, None


def read_state(body: bytes) -> tuple[dict[int, dict[str, Any]], dict[str, Any], Any]:
    """The rows, the attributes, and when the try began, of a running batch from its checkpoint."""
    saved = read_json(body)
    state = as_mapping(saved.get("state"))
    outcomes = as_mapping(state.get("outcomes"))
    clips = saved.get("clips")
    rows = {}
    for index, clip in enumerate(map(as_mapping, clips if isinstance(clips, list) else [])):
        source, uri = clip.get("source"), clip.get("destination")
        if not isinstance(source, str) or not isinstance(uri, str):
            continue
        rows[index] = _row(as_mapping(outcomes.get(str(index))), index, source, uri)
        if not clip.get("secret"):
            rows[index]["again"] = {"init_video": source, **as_mapping(clip.get("overrides")), "destination": uri}
    return rows, dict(as_mapping(saved.get("common"))), state.get("started")


def _row(outcome: Mapping[str, Any], index: int, source: str, uri: str) -> dict[str, Any]:
    """The row of a clip. A clip without an outcome is pending."""
    known = sound_fields({name: outcome[name] for name in _OF_OUTCOME if name in outcome})
    if not isinstance(known.get("jobs"), list):
        known.pop("jobs", None)
    status = outcome["status"] if outcome.get("status") in _STATUSES else "pending"
    return {**known, "index": index, "status": status, "source": source, "uri": uri}


def read_lines(body: bytes) -> list[dict[str, Any]]:
    """JSON lines."""
    return [line for line in map(read_json, body.splitlines()) if line]


def _stored_retries(view: BatchView, store: GalleryStorage) -> dict[str, dict[str, Any]]:
    """The retry lines that the batch stored, or would store, by the clips' destinations."""
    uri = view.summary.get("retry")
    found = store.read(S3Uri.parse(uri), read_lines) if uri else None
    lines = found.content if found else [row["again"] for row in view.rows.values() if "again" in row]
    return {str(line.get("destination")): line for line in lines}


def _count(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    rows = list(rows)
    counts = Counter(row["status"] for row in rows)
    return {
        "found": len(rows),
        **{status: counts[status] for status in _STATUSES},
        "bytes": sum(row.get("bytes") or 0 for row in rows),
    }


def _head(texts: Iterable[str]) -> str:
    """The common prefix of all texts, up to its last slash."""
    found = list(texts)
    if len(found) < 2:
        return ""
    first, last = min(found), max(found)
    shared = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[: first.rfind("/", 0, shared) + 1]
