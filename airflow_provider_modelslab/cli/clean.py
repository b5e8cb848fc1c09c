"""``clean``: removes what is old and of no use any more, and says what the next runs pay for."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.cli.common import FAILED, command, confirm, echo_line, print_rows
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.destinations import root_of
from airflow_provider_modelslab.cli.sweep import OldLedger, Sweep
from airflow_provider_modelslab.ledger.retention import State
from airflow_provider_modelslab.storage.s3_removal import MAX_DELETED, abort_upload, delete_keys

if TYPE_CHECKING:
    from argparse import Namespace

    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.storage.s3_removal import DatedObject

__all__ = ["clean"]

_NAMED = 1000  # ledgers, and errors, that an answer names
_SHOWN = 20  # of them, where no JSON is asked for
_LEDGERS_AT_ONCE = 250

_PAYS = "pays for a new job"
_NEXT_RUN = {
    "unfinished uploads": ("is not affected; but the store bills their parts", "is not affected"),
    "checkpoints of batches": (
        "continues a deferred batch from it",
        "plans a deferred batch again, continues from the ledgers, and pays for nothing twice",
    ),
    "index segments": ("is not affected; they are never read", "is not affected"),
    "staged inputs": ("uses this copy of the local file", "uploads the file again, which is free"),
    "ledgers, landed, result gone": (
        f"fails once if the job id is known, because ModelsLab has deleted the result; the run after it {_PAYS}",
        f"{_PAYS} at once",
    ),
    "ledgers, made locally, result gone": ("makes it again, which is free", "makes it again, which is free"),
    "ledgers, failed": (_PAYS, _PAYS),
    "ledgers, refused": (_PAYS, _PAYS),
    "ledgers, resolved by a person": (_PAYS, _PAYS),
}
"""What is removed, and what the next run or clear does with it and without it."""

_STATES = {
    State.LANDED: "ledgers, landed, result gone",
    State.FAILED: "ledgers, failed",
    State.REFUSED: "ledgers, refused",
    State.RESOLVED: "ledgers, resolved by a person",
}


@dataclass
class Tally:
    """What was found, and what became of it."""

    counts: dict[str, list[int]] = field(default_factory=lambda: {kind: [0, 0, 0] for kind in _NEXT_RUN})
    """Found, bytes and removed of each kind."""
    pays: list[dict[str, Any]] = field(default_factory=list)
    paying: int = 0
    errors: list[dict[str, str]] = field(default_factory=list)
    failed: int = 0

    def found(self, kind: str, size: int = 0) -> None:
        """One more."""
        self.counts[kind][0] += 1
        self.counts[kind][1] += size

    def removed(self, kind: str, count: int = 1) -> None:
        """So many are gone."""
        self.counts[kind][2] += count

    def problem(self, key: str, text: str) -> None:
        """One that stays."""
        self.failed += 1
        if len(self.errors) < _NAMED:
            self.errors.append({"key": key, "problem": text})

    def ledger(self, old: OldLedger) -> str:
        """One more ledger; its kind."""
        kind = _STATES[old.state] if old.billed else "ledgers, made locally, result gone"
        self.found(kind, old.bytes)
        if old.billed:
            self.paying += 1
            if len(self.pays) < _NAMED:
                self.pays.append({"name": old.name, "uri": old.uri, "ledger": str(old.listed.folder), "was": old.state})
        return kind

    def rows(self) -> list[dict[str, Any]]:
        """A line for each kind."""
        return [
            {
                "what": kind,
                "found": found,
                "bytes": size,
                "removed": removed,
                "next_run_before": _NEXT_RUN[kind][0],
                "next_run_after": _NEXT_RUN[kind][1],
            }
            for kind, (found, size, removed) in self.counts.items()
        ]


@command
def clean(args: Namespace) -> int | None:
    """Find what is old; ask; remove it, with what its absence means checked anew right before."""
    hook = open_hook(args.conn_id)
    s3, root, before = hook.get_s3_client(), root_of(hook, args.root), time.time() - args.older_than
    sweep = Sweep(s3, root, before, echo_line)
    if args.dry_run or not args.yes:
        tally = _go(s3, root.bucket, sweep, remove=False)
        if args.dry_run:
            _print(args, sweep, tally)
            return None
        _tell(tally)
        if not any(found for found, _, _ in tally.counts.values()):
            return None
        confirm("Remove them?", yes=args.yes, undone="Nothing was removed")
    tally = _go(s3, root.bucket, sweep, remove=True)
    _print(args, sweep, tally)
    return FAILED if tally.failed else None


def _go(s3: S3Client, bucket: str, sweep: Sweep, *, remove: bool) -> Tally:
    tally = Tally()
    # Uploads first: their ledgers tell that they are ours.
    for upload in sweep.uploads():
        tally.found("unfinished uploads")
        if remove:
            problem = abort_upload(s3, bucket, upload)
            tally.removed("unfinished uploads") if problem is None else tally.problem(upload.key, problem)
    objects: tuple[tuple[str, Callable[[], Iterator[DatedObject]]], ...] = (
        ("checkpoints of batches", sweep.checkpoints),
        ("index segments", sweep.segments),
        ("staged inputs", sweep.inputs),
    )
    for kind, find in objects:
        items = find()
        while chunk := list(itertools.islice(items, MAX_DELETED)):
            for item in chunk:
                tally.found(kind, item.bytes)
            if remove:
                tally.removed(kind, len(chunk) - len(_delete(s3, bucket, [item.key for item in chunk], tally)))
    ledgers = sweep.ledgers()
    while old := list(itertools.islice(ledgers, _LEDGERS_AT_ONCE)):
        kinds = [tally.ledger(each) for each in old]
        if remove:
            _delete_ledgers(s3, bucket, list(zip(old, kinds, strict=True)), tally)
    return tally


def _delete_ledgers(s3: S3Client, bucket: str, ledgers: list[tuple[OldLedger, str]], tally: Tally) -> None:
    """Delete ledgers so that one of which a part stays still says how it ended."""
    stays = _delete(s3, bucket, [key for old, _ in ledgers for key in old.keys()[0]], tally)
    left = [(old, kind) for old, kind in ledgers if stays.isdisjoint(old.keys()[0])]
    stays = _delete(s3, bucket, [key for old, _ in left for key in old.keys()[1]], tally)
    for old, kind in left:
        if stays.isdisjoint(old.keys()[1]):
            tally.removed(kind)


def _delete(s3: S3Client, bucket: str, keys: list[str], tally: Tally) -> set[str]:
    """Delete objects; the keys of those that stay."""
    stay: set[str] = set()
    for _, problems in delete_keys(s3, bucket, keys):
        for key, text in problems.items():
            stay.add(key)
            tally.problem(key, text)
    return stay


def _print(args: Namespace, sweep: Sweep, tally: Tally) -> None:
    if args.output in {"json", "yaml"}:
        whole = {
            "older_than": datetime.fromtimestamp(sweep.before, UTC).isoformat(timespec="seconds"),
            "root": str(sweep.root),
            "rows": tally.rows(),
            "ledgers_kept": sweep.kept,
            "pays": tally.pays,
            "pays_count": tally.paying,
            "errors": tally.errors,
            "errors_count": tally.failed,
        }
        print_rows([whole], args.output)
        return
    print_rows(tally.rows(), args.output)
    _tell(tally)
    echo_line("Ledgers that are not removed: " + ", ".join(f"{count} {why}" for why, count in sweep.kept.items()))
    for error in tally.errors[:_SHOWN]:
        echo_line(f"error: {error['key']} was not removed: {error['problem']}")
    if tally.failed > _SHOWN:
        echo_line(f"  and {tally.failed - _SHOWN} more")


def _tell(tally: Tally) -> None:
    """What is removed, and which runs pay."""
    for row in tally.rows():
        if row["found"]:
            after = f"; after the removal, the next run {row['next_run_after']}; now it {row['next_run_before']}"
            echo_line(f"{row['found']} {row['what']}, {row['bytes']} bytes{after}")
    if tally.paying:
        echo_line(f"A new run pays again for {tally.paying} of these results:")
    for each in tally.pays[:_SHOWN]:
        echo_line(f"  {each['name']}: {each['uri'] or each['ledger']} ({each['was']})")
    if tally.paying > _SHOWN:
        echo_line(f"  and {tally.paying - _SHOWN} more; --output json lists up to {_NAMED}")
