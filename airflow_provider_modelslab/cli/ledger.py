"""``ledger``: what was paid for, what became of it, and what the next attempt would do."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_modelslab.api.errors import (
    RequestValidationError,
    StorageConfigurationError,
    SubmissionUnknownError,
)
from airflow_provider_modelslab.batch.ledgers import ClipLedgers
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.places import read_entries
from airflow_provider_modelslab.cli.running import command, print_rows, program, tell
from airflow_provider_modelslab.operators.task_ledger import SUBMISSIONS_VARIABLE, submission_name
from airflow_provider_modelslab.storage.ledger import (
    Attach,
    Entry,
    Fingerprint,
    Hold,
    LedgerPolicy,
    Reuse,
    TaskKey,
    decide,
    entry_name,
    last_take,
)
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow.sdk import Context

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.storage.ledger import Entries

__all__ = ["ledger"]

_LEDGER_NAME = re.compile("[0-9a-f]{64}")
_ORDER = {kind.value: position for position, kind in enumerate(Entry)}


@command
def ledger(args: Namespace) -> None:
    """Print the entries, and in words what they mean."""
    hook = open_hook(args.conn_id)
    folder, result = _find(hook, args)
    entries = read_entries(hook, folder)
    if not entries:
        raise StorageConfigurationError(
            f"There is no ledger at {folder}: nothing was submitted for it, or it is kept elsewhere (--root), or in "
            "Airflow's task state alone, as it is where neither connection nor task name a bucket"
        )
    times = _written_at(hook, folder)
    rows = [_row(name, entries[name], times.get(name)) for name in sorted(entries, key=_position)]
    meaning = _meaning(entries, result, program(args))
    if args.output in {"json", "yaml"}:
        whole = {"ledger": str(folder), "entries": rows, "next": meaning}
        print_rows([whole], args.output)
        return
    print_rows(rows, args.output)
    tell(f"{folder}\n{meaning}")


def _find(hook: ModelsLabHook, args: Namespace) -> tuple[S3Uri, S3Uri | None]:
    """The ledger's folder; and the result, where it is the ledger of one result."""
    task = (args.dag_id, args.run_id, args.task_id)
    if (args.place is None) == (not any(task)) or (any(task) and not all(task)):
        raise RequestValidationError.of("URI", "give the result's URI, or all of --dag-id, --run-id and --task-id")
    place = None if args.place is None else S3Uri.parse(args.place.rstrip("/"))
    if place is not None and "/_modelslab/ledger/" in f"/{place.key}":
        if not _LEDGER_NAME.fullmatch(place.key.rpartition("/")[2]):
            raise RequestValidationError.of(
                "URI", "is a folder of many ledgers; a ledger's own ends with 64 hex digits"
            )
        return place, None
    root = S3Uri.parse(args.root.rstrip("/")) if args.root else hook.s3_profile.ledger_root(place)
    if root is None:
        raise RequestValidationError.of("--root", f"is needed: the connection {args.conn_id!r} names no bucket")
    if place is not None:
        return ClipLedgers(hook.get_s3_client(), root).folder(place), place
    key = TaskKey(args.dag_id, args.task_id, args.run_id, args.map_index)
    return root.child(key.digest()), None


def _position(name: str) -> tuple[str, int]:
    take, _, kind = name.partition("-")
    return take, _ORDER.get(kind, len(_ORDER))


def _written_at(hook: ModelsLabHook, folder: S3Uri) -> dict[str, str]:
    """When S3 got each entry; not all of them hold a time of their own."""
    pages = hook.get_s3_client().get_paginator("list_objects_v2")
    prefix = f"{folder.key}/"
    return {
        item["Key"].removeprefix(prefix).removesuffix(".json"): _iso(item["LastModified"])
        for page in pages.paginate(Bucket=folder.bucket, Prefix=prefix)
        for item in page.get("Contents", [])
    }


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _row(name: str, entry: Mapping[str, Any], at: str | None) -> dict[str, Any]:
    take, _, kind = name.partition("-")
    return {"take": int(take), "entry": kind, "at": at, "what": _what(kind, entry)}


def _what(kind: str, entry: Mapping[str, Any]) -> str:
    if kind == Entry.CLAIM:
        owner = entry.get("owner") or {}
        who = ".".join(str(entry[name]) for name in ("dag_id", "task_id") if entry.get(name))
        run = f" in {entry['run_id']}" if entry.get("run_id") else ""
        place = f" on {owner.get('host')}, pid {owner.get('pid')}" if owner else ""
        return f"{who or 'somebody'}{run}, try {entry.get('try_number')}{place}; track_id {entry.get('track_id')}"
    if kind == Entry.JOB:
        adopted = ", found by a person" if entry.get("adopted") else ""
        return f"job {entry.get('job_id') or '(done at once, no id)'}, connection {entry.get('conn_id')}{adopted}"
    if kind == Entry.LANDED:
        return f"{entry.get('uri')}, {entry.get('bytes')} bytes, sha256 {str(entry.get('sha256'))[:12]}..."
    if kind == Entry.ABANDONED:
        return str(entry.get("why"))
    return ": ".join(str(entry[name]) for name in ("code", "message") if entry.get(name))


def _meaning(entries: Entries, result: S3Uri | None, name: str) -> str:
    """What an attempt with the same request would do, policies as they are by default."""
    take = last_take(entries)
    claim = entries.get(entry_name(take, Entry.CLAIM), {}) if take is not None else {}
    fingerprint = Fingerprint(str(claim.get("request")), None)
    try:
        choice = decide(entries, fingerprint, LedgerPolicy(), now=time.time())
    except SubmissionUnknownError as error:
        return f"{error.message}. {_advice(claim, error.take or 1, result, name)}"
    if isinstance(choice, Reuse):
        return f"The next attempt pays nothing: take {choice.take} has landed at {choice.manifest.get('uri')}"
    if isinstance(choice, Attach):
        job = choice.job.get("job_id") or "that was done at once"
        return f"The next attempt pays nothing: it waits for job {job} (see it with: {name} show {job}) and lands it"
    if isinstance(choice, Hold):
        left = max(choice.until - time.time(), 0)
        return (
            f"Take {choice.take} is being submitted right now; an attempt waits for its outcome, {left:.0f} s at most "
            "unless its process is seen to have ended"
        )
    return f"The next attempt submits and pays for take {choice.take}: {choice.why}"


def _advice(claim: Mapping[str, Any], take: int, result: S3Uri | None, name: str) -> str:
    """What a person does about a submission of unknown outcome."""
    if claim.get("dag_id") == "airflow modelslab":
        return (
            f"If the job is there, run the same {name} submit again with --adopt <the job's id>; if it is not, with "
            "--resubmit"
        )
    ti = SimpleNamespace(**{field: claim.get(field) for field in ("dag_id", "task_id", "run_id", "map_index")})
    submission = submission_name(cast("Context", {"ti": ti}), take, result.key if result is not None else None)
    found, none = (json.dumps({submission: answer}) for answer in ("<the job's id>", "resubmit"))
    return (
        f"If the job is there, set the Airflow Variable {SUBMISSIONS_VARIABLE} to {found}; if it is not, to {none} "
        "(beside what it has already). Then clear the task"
    )
