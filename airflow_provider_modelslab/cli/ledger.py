"""``ledger show``: what was paid for, what became of it, and what the next attempt would do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import (
    ClipUnreadableError,
    InvalidRequestError,
    StorageConfigurationError,
    SubmissionUnknownError,
)
from airflow_provider_modelslab.cli.common import command, echo_line, print_rows, program, unknown_advice
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.destinations import COMMAND, root_of
from airflow_provider_modelslab.jobs.task_ledger import resolution_advice
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import result_folder, task_folder
from airflow_provider_modelslab.ledger.model import (
    Attach,
    Entry,
    Fingerprint,
    Hold,
    LedgerPolicy,
    Reuse,
    TaskKey,
    decide,
    entry_name,
    kind_of,
    last_submission,
    number_of,
)
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.operators.arguments import instance_name
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.ledger.model import Entries

__all__ = ["find_ledger", "show"]

_LEDGER_NAME = re.compile("[0-9a-f]{64}")
_ORDER = {kind.value: position for position, kind in enumerate(Entry)}


@command
def show(args: Namespace) -> None:
    """Print the entries, and in words what they mean."""
    if args.place is not None and any((args.dag_id, args.run_id, args.task_id)):
        raise InvalidRequestError.of("URI", "give either the URI of the result, or a task, not both")
    hook = open_hook(args.conn_id)
    folder, entries = find_ledger(hook, args)
    times = _written_at(hook, folder)
    rows = [_row(name, entries[name], times.get(name)) for name in sorted(entries, key=_position)]
    meaning = _meaning(entries, program(args))
    if args.output in {"json", "yaml"}:
        whole = {"ledger": str(folder), "entries": rows, "next": meaning}
        print_rows([whole], args.output)
        return
    print_rows(rows, args.output)
    echo_line(f"{folder}\n{meaning}")


def find_ledger(hook: ModelsLabHook, args: Namespace) -> tuple[S3Uri, Entries]:
    """The ledger that the options name, by a URI or by a task: its folder and its entries.

    :raises StorageConfigurationError: when there is none.
    """
    places = list(_places(hook, args))
    for folder in places:
        entries = S3LedgerStore(hook.get_s3_client(), folder).load()
        if entries:
            return folder, entries
    looked = ", ".join(map(str, places))
    raise StorageConfigurationError(
        f"There is no ledger at {looked}. Possible reasons: nothing was submitted. Or the ledgers are elsewhere: give "
        "--root. Or the task has its own destination: give the URI of the result. Or neither the connection nor the "
        "task names a bucket: then the ledger is only in Airflow's task state"
    )


def _places(hook: ModelsLabHook, args: Namespace) -> Iterator[S3Uri]:
    """Where the ledger may be."""
    task = (args.dag_id, args.run_id, args.task_id) if args.place is None else ()
    if args.place is None and not all(task):
        raise InvalidRequestError.of("URI", "give the URI of the result, or --dag-id, --run-id and --task-id together")
    place = None if args.place is None else S3Uri.parse(args.place.rstrip("/"))
    if place is not None and "/_modelslab/ledger/" in f"/{place.key}":
        if not _LEDGER_NAME.fullmatch(place.key.rpartition("/")[2]):
            raise InvalidRequestError.of(
                "URI", "is the folder of many ledgers; the folder of one ledger ends with 64 hex digits"
            )
        yield place
        return
    profile, root = hook.s3_profile, root_of(hook, args.root, place)
    if place is not None:
        yield result_folder(root, place)
        return
    if profile.bucket:
        ti = SimpleNamespace(dag_id=args.dag_id, run_id=args.run_id, task_id=args.task_id, map_index=args.map_index)
        for suffix in ("mp4", "gif"):
            yield result_folder(root, profile.uri(f"{instance_name(ti, args.loop_index)}.{suffix}"))
    yield task_folder(root, TaskKey(args.dag_id, args.task_id, args.run_id, args.map_index, args.loop_index))


def _position(name: str) -> tuple[int, int]:
    return number_of(name), _ORDER.get(kind_of(name), len(_ORDER))


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
    return {"submission": number_of(name), "entry": kind_of(name), "at": at, "what": _what(kind_of(name), entry)}


def _what(kind: str, entry: Mapping[str, Any]) -> str:
    if kind == Entry.CLAIM:
        process = entry.get("process") or {}
        place = f" on {process.get('host')}, pid {process.get('pid')}" if process else ""
        return f"{_who(entry)}{place}; track_id {entry.get('track_id')}"
    if kind == Entry.ATTACHED:
        return f"{_who(entry)} also waits for the job"
    if kind == Entry.JOB:
        adopted = ", job id given by a person" if entry.get("adopted") else ""
        return (
            f"job {entry.get('job_id') or '(finished at once, without an id)'}, connection "
            f"{entry.get('conn_id')}{adopted}"
        )
    if kind == Entry.LANDED:
        told = entry.get("manifest") or {}
        return f"{told.get('uri')}, {told.get('bytes')} bytes, sha256 {str(told.get('sha256'))[:12]}..."
    if kind == Entry.ABANDONED:
        return str(entry.get("why"))
    if kind == Entry.RESOLVED:
        return f"{entry.get('decision')}, decided by {entry.get('by')}: {entry.get('why')}"
    error = entry.get("error") or {}
    return ": ".join(str(error[name]) for name in ("code", "message") if error.get(name))


def _who(entry: Mapping[str, Any]) -> str:
    by = AttemptId.from_claim(entry)
    if by is None:
        return "somebody"
    return f"{by.dag_id}.{by.task_id} in {by.run_id}, try {by.try_number}"


def _meaning(entries: Entries, name: str) -> str:
    """What a retry with the same request would do, policies as they are by default."""
    number = last_submission(entries)
    claim = entries.get(entry_name(number, Entry.CLAIM), {}) if number is not None else {}
    fingerprint = Fingerprint(str(claim.get("request")), claim.get("source"))
    attempt = AttemptId.from_claim(claim) or AttemptId()
    try:
        choice = decide(entries, fingerprint, LedgerPolicy(), attempt, now=time.time())
    except SubmissionUnknownError as error:
        return f"{error.message}. {_advice(number or 1, claim, name)}"
    except ClipUnreadableError as error:
        return error.message
    if isinstance(choice, Reuse):
        return (
            f"A retry pays for nothing: the result of submission {choice.number} is at {choice.manifest.get('uri')}. "
            "Another Dag run submits again and pays for it, unless its reuse is 'always'"
        )
    if isinstance(choice, Attach):
        job = choice.job.get("job_id") or "(finished at once)"
        return (
            f"The next attempt pays for nothing: it waits for job {job} and lands its result. To see "
            f"the job: {name} show {job}"
        )
    if isinstance(choice, Hold):
        left = max(choice.until - time.time(), 0)
        return (
            f"Submission {choice.number} may be in progress now. The next attempt waits for its outcome, for at most "
            f"{left:.0f} s, or until the submitting process ends"
        )
    return f"The next attempt makes submission {choice.number} and pays for it. Reason: {choice.why}"


def _advice(number: int, claim: Mapping[str, Any], name: str) -> str:
    """What a person does about a submission of unknown outcome."""
    by = AttemptId.from_claim(claim)
    if by is not None and by.dag_id == COMMAND:
        return unknown_advice(number, f"the same {name} submit")
    return resolution_advice(str(claim.get("name")))
