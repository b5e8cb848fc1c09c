"""Which job belongs to which clip of a batch: a job makes the result of one of them alone."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import SubmissionUnknownError
from airflow_provider_modelslab.ledger.model import Entry, entry_name, kind_of, number_of
from airflow_provider_modelslab.storage.result_manifest import LINK_LIFETIME

if TYPE_CHECKING:
    from airflow_provider_modelslab.batch.results.index_entry import IndexEntry
    from airflow_provider_modelslab.ledger.listing import LedgerListing, LedgerRoot
    from airflow_provider_modelslab.storage.uri import S3Uri

__all__ = ["KnownJobs"]

_READERS = 16
_LIFETIME = LINK_LIFETIME.total_seconds()


class KnownJobs:
    """The jobs of a batch's clips. Safe to use from several threads.

    An endpoint that answers two submits with one id would have the first clip's result land under the second clip's
    name as well. The id of a result whose links are dead (after 24 hours) may be given out again: an endpoint of your
    own that has lost its state counts from 1.
    """

    def __init__(self) -> None:
        self._owners: dict[str, tuple[str, float]] = {}  # the destination, and until when the id is its alone
        self._lock = threading.Lock()

    def claim(self, job_id: str, destination: S3Uri, *, submitted_at: float | None, conn_id: str | None = None) -> None:
        """Note whose job it is; without effect for a job without an id.

        :param submitted_at: seconds since the epoch; ``None`` counts as now.
        :param conn_id: where it is not the batch's own connection.
        :raises SubmissionUnknownError: when it is another destination's.
        """
        at = time.time() if submitted_at is None else submitted_at
        owner = self._take(_key(job_id, conn_id), str(destination), at)
        if owner is not None:
            raise SubmissionUnknownError(
                f"Two clips have the same job {job_id}, but a job makes the result of only one clip. The job is kept "
                f"for {owner}. The submission for {destination} may be running and billed under another job id",
                job_id=job_id,
            )

    def learn_landed(self, entries: Iterable[IndexEntry], *, conn_id: str | None = None) -> None:
        """Note the jobs of results that have landed, as the index names them.

        :param conn_id: the batch's own connection.
        """
        for entry in sorted(entries, key=lambda entry: entry.landed_at):
            made_at = (entry.made_by or {}).get("modelslab_conn_id", conn_id)
            key = _key(entry.job_id or "", None if made_at == conn_id else made_at)
            self._take(key, entry.uri, entry.landed_at, entry.landed_at + _LIFETIME)

    def learn_recorded(
        self,
        ledgers: LedgerRoot,
        listing: LedgerListing,
        destinations: Iterable[S3Uri],
        *,
        conn_id: str,
        landed: Collection[str] = (),
    ) -> None:
        """Note the jobs that ledgers name, one read for each.

        Where two ledgers name the same job, it belongs to the result that has landed, else to the earlier submission;
        an id that a person gave comes last.

        :param conn_id: the batch's own connection.
        :param landed: destinations whose landed jobs are known, so that they are not read.
        :raises StorageConfigurationError: when a ledger cannot be read.
        """
        wanted = [
            (uri, name, has_landed)
            for uri in destinations
            for name, has_landed in _jobs_of(ledgers, listing, uri)
            if not (has_landed and str(uri) in landed)
        ]
        if not wanted:
            return

        def read(job: tuple[S3Uri, str, bool]) -> dict[str, Any]:
            uri, name, _ = job
            return ledgers.store(ledgers.folder(uri)).load_one(name) or {}

        with ThreadPoolExecutor(_READERS, thread_name_prefix="modelslab-jobs") as pool:
            entries = list(pool.map(read, wanted))
        found = [
            (not has_landed, bool(entry.get("adopted")), float(entry.get("submitted_at") or 0), str(uri), entry)
            for (uri, _, has_landed), entry in zip(wanted, entries, strict=True)
            if entry
        ]
        for runs, _, submitted_at, uri, entry in sorted(found, key=lambda job: job[:4]):
            until = math.inf if runs else submitted_at + _LIFETIME
            other = None if entry.get("conn_id") == conn_id else entry.get("conn_id")
            self._take(_key(str(entry["job_id"]), other), uri, submitted_at, until)

    def state(self) -> dict[str, Sequence[Any]]:
        """Plain JSON from which :meth:`restore` goes on, in the process after a deferral."""
        with self._lock:
            owners = dict(self._owners)
        return {job_id: [uri, None if math.isinf(until) else until] for job_id, (uri, until) in owners.items()}

    def restore(self, state: Mapping[str, Sequence[Any]]) -> None:
        """Go on where :meth:`state` was taken."""
        for job_id, (uri, until) in state.items():
            self._take(job_id, uri, 0.0, math.inf if until is None else until)

    def _take(self, job_id: str, uri: str, submitted_at: float, until: float = math.inf) -> str | None:
        """Note it unless it is another destination's, which is returned then."""
        if not job_id:
            return None
        with self._lock:
            owner, known_until = self._owners.get(job_id, (uri, 0.0))
            if owner != uri and submitted_at < known_until:
                return owner
            self._owners[job_id] = uri, max(until, known_until) if owner == uri else until
            return None


def _key(job_id: str, conn_id: str | None) -> str:
    """Two connections may lead to endpoints that give out the same ids."""
    return job_id if conn_id is None or not job_id else f"{conn_id}\0{job_id}"


def _jobs_of(ledgers: LedgerRoot, listing: LedgerListing, uri: S3Uri) -> list[tuple[str, bool]]:
    """The names of the ``job`` entries that count in a ledger, each with whether its result has landed."""
    names: Collection[str] | None = listing.names(uri)
    if names is None:
        names = ledgers.store(ledgers.folder(uri)).names()
    jobs = []
    for name in names:
        landed, failed = (entry_name(number_of(name), kind) in names for kind in (Entry.LANDED, Entry.FAILED))
        if kind_of(name) == Entry.JOB and (landed or not failed):
            jobs.append((name, landed))
    return jobs
