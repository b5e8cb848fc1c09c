"""``ledger resolve``: what a person says about submissions of unknown outcome, for many of them at once."""

from __future__ import annotations

import getpass
import itertools
import socket
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import STORAGE_ERRORS, ErrorCode, InvalidRequestError
from airflow_provider_modelslab.api.response import Failed
from airflow_provider_modelslab.cli.common import FAILED, USAGE, RefusedError, command, confirm, echo_line, print_rows
from airflow_provider_modelslab.cli.connections import open_hook
from airflow_provider_modelslab.cli.destinations import root_of
from airflow_provider_modelslab.cli.ledger import find_ledger
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import LedgerRoot
from airflow_provider_modelslab.ledger.model import (
    Entry,
    Fingerprint,
    entry_name,
    last_submission,
    unresolved_submission,
)
from airflow_provider_modelslab.ledger.scan import ListedLedger, list_ledgers
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from argparse import Namespace

    from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
    from airflow_provider_modelslab.ledger.model import Entries

__all__ = ["resolve"]

_THREADS = 16
_CHUNK = 500  # ledgers that are read before they are looked at
_SHOWN = 20  # submissions that are named in the question; --dry-run prints all
_RESUBMIT = "resubmit"
_LEDGERS = "/_modelslab/ledger"
_KNOWN = (Entry.JOB, Entry.LANDED, Entry.FAILED, Entry.RESOLVED)


@dataclass(frozen=True)
class Unknown:
    """A submission of unknown outcome.

    :param folder: of its ledger.
    :param number: of the submission.
    :param claim: what was recorded before the submit.
    :param answered: what came back, in words.
    """

    folder: S3Uri
    number: int
    claim: Mapping[str, Any]
    answered: str

    def row(self, result: str) -> dict[str, Any]:
        """One line of the output."""
        return {
            "name": self.claim.get("name"),
            "track_id": self.claim.get("track_id"),
            "claimed_at": self.claim.get("claimed_at"),
            "answered": self.answered,
            "ledger": str(self.folder),
            "submission": self.number,
            "result": result,
        }


@command
def resolve(args: Namespace) -> int | None:
    """List the submissions of unknown outcome, ask, and write the decision where the next attempt finds it."""
    if args.place is None and args.since is None:
        raise InvalidRequestError.of("--since", "is needed to select the submissions; or give the URI of one result")
    hook = open_hook(args.conn_id)
    decision: str = args.decision
    found = list(_unknown(hook, args))
    if decision != _RESUBMIT and len(found) != 1:
        raise RefusedError(
            f"--as {decision} is one job, but {len(found)} submissions were found. Nothing was written. Select one "
            "submission: give the URI of its result or of its ledger, which --dry-run prints",
            code=USAGE,
        )
    if not found:
        echo_line("No submission of unknown outcome was found")
    if not found or args.dry_run:
        print_rows([each.row("unknown") for each in found], args.output)
        return None
    write = _adopting(hook, decision) if decision != _RESUBMIT else _resubmitting(args)
    confirm(_question(found, decision), yes=args.yes, undone="Nothing was written")
    ledgers = LedgerRoot(hook.get_s3_client(), _root(hook, args))
    _ = ledgers.conditional  # found out once, before there are several threads

    def decide(each: Unknown) -> dict[str, Any]:
        try:
            is_written = write(Ledger(ledgers.store(each.folder)), each)
        except STORAGE_ERRORS as error:
            return each.row(f"error: {error.message}")
        return each.row(decision if is_written else "changed in the meantime, not written")

    with ThreadPoolExecutor(_THREADS, thread_name_prefix="modelslab-resolve") as pool:
        rows = list(pool.map(decide, found))
    print_rows(rows, args.output)
    counts = Counter(row["result"].partition(":")[0] for row in rows)
    echo_line(
        f"{', '.join(f'{count} {what}' for what, count in counts.items())}. To continue, clear or retry the tasks"
    )
    return FAILED if counts["error"] else None


def _root(hook: ModelsLabHook, args: Namespace) -> S3Uri:
    place = None if args.place is None else S3Uri.parse(args.place)
    if place is not None and args.root is None:
        head, below, _ = f"/{place.key}".partition(f"{_LEDGERS}/")
        if below:
            return S3Uri(place.bucket, f"{head}{_LEDGERS}".lstrip("/"))
    return root_of(hook, args.root, place)


def _question(found: list[Unknown], decision: str) -> str:
    for each in found[:_SHOWN]:
        claim = each.claim
        echo_line(
            f"  {claim.get('name')}, {claim.get('claimed_at')}, track_id {claim.get('track_id')}: {each.answered}"
        )
    if len(found) > _SHOWN:
        echo_line(f"  and {len(found) - _SHOWN} more; --dry-run lists all of them")
    if decision != _RESUBMIT:
        return f"The next attempt waits for job {decision} and lands its result here. This pays for nothing. Continue?"
    return (
        f"The next attempts submit again and pay for up to {len(found)} jobs. If ModelsLab did receive the earlier "
        "submission, its clip is paid for twice. Continue?"
    )


def _resubmitting(args: Namespace) -> Callable[[Ledger, Unknown], bool]:
    by, why = _person(), f"ledger resolve --as {args.decision}"
    return lambda ledger, each: ledger.resolve(each.number, by=by, why=why)


def _adopting(hook: ModelsLabHook, job_id: str) -> Callable[[Ledger, Unknown], bool]:
    """Adopts a job that the endpoint knows.

    :raises ModelsLabError: when it does not, or cannot be asked.
    """
    answer = hook.fetch(job_id)
    if isinstance(answer, Failed) and answer.code is not ErrorCode.JOB_FAILED:
        raise answer.to_error(job_id)

    def adopt(ledger: Ledger, each: Unknown) -> bool:
        claim = each.claim
        asked = Fingerprint(str(claim.get("request")), claim.get("source"))
        return ledger.adopt(job_id, number=each.number, conn_id=hook.modelslab_conn_id, fingerprint=asked, request={})

    return adopt


def _person() -> str:
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):  # a container may have no name for its user
        return f"unknown@{socket.gethostname()}"


# -- which submissions ----------------------------------------------------------------------------------------------


def _unknown(hook: ModelsLabHook, args: Namespace) -> Iterator[Unknown]:
    """Those that the options name, without those that may still be being submitted."""
    now, live = time.time(), 0
    for folder, entries in _candidates(hook, args):
        number = unresolved_submission(entries, now=now)
        claim = entries.get(entry_name(number or last_submission(entries) or 0, Entry.CLAIM), {})
        if not _is_meant(args, claim):
            continue
        if number is not None:
            yield Unknown(folder, number, claim, _answered(entries.get(entry_name(number, Entry.UNKNOWN))))
        elif claim.get("billed") is not False and _is_open(entries):
            live += 1
    if live:
        echo_line(f"{live} more submissions may still be in progress. They are not changed")


def _candidates(hook: ModelsLabHook, args: Namespace) -> Iterator[tuple[S3Uri, Entries]]:
    """The ledgers that may hold one, with what tells: by its entries' names the last submission has no outcome."""
    if args.place is not None:
        yield find_ledger(hook, args)
        return
    s3, root = hook.get_s3_client(), _root(hook, args)

    def read(listed: ListedLedger) -> Entries:
        store, number = S3LedgerStore(s3, listed.folder), last_submission(listed.entries) or 0
        names = {entry_name(number, kind) for kind in (Entry.CLAIM, Entry.UNKNOWN)} & listed.entries.keys()
        try:
            return {name: entry for name in names if (entry := store.load_one(name)) is not None}
        except STORAGE_ERRORS as error:
            echo_line(f"warning: {error.message}")
            return {}

    found = (each for each in list_ledgers(s3, root) if _is_open(each.entries))
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="modelslab-resolve") as pool:
        while chunk := list(itertools.islice(found, _CHUNK)):
            for listed, entries in zip(chunk, pool.map(read, chunk), strict=True):
                yield listed.folder, entries


def _is_open(names: Collection[str]) -> bool:
    """Whether the last submission has neither an outcome nor a decision, by the names of the entries."""
    number = last_submission(names)
    return number is not None and not any(entry_name(number, kind) in names for kind in _KNOWN)


def _is_meant(args: Namespace, claim: Mapping[str, Any]) -> bool:
    by = AttemptId.from_claim(claim)
    if args.dag_id is not None and (by is None or by.dag_id != args.dag_id):
        return False
    try:
        at = datetime.fromisoformat(str(claim.get("claimed_at")))
    except ValueError:
        return args.since is None and args.until is None
    return (args.since is None or args.since <= at) and (args.until is None or at <= args.until)


def _answered(unknown: Mapping[str, Any] | None) -> str:
    if unknown is None:
        return "no response was recorded, because the process ended before that"
    error = unknown.get("error") or {}
    return ": ".join(str(error[name]) for name in ("code", "message") if error.get(name)) or "no response"
