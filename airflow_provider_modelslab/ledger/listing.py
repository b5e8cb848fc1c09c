"""The folder of a result's ledger, and a listing that shows which of many ledgers have entries.

The ledger of a result is named after its destination, so every run, Dag, task, batch or command with the same
destination uses the same ledger and the result is paid for once. Its folder is
``<root>/results/<digest of the bucket>/<digest of each folder of the key>/.../<digest of the URI>/``: a tree like that
of the results, with names of equal length. So one listing covers all ledgers below a prefix, and a result whose ledger
is empty needs no read of its own before it is claimed. A result without a destination has a ledger named after its task
instance: ``<root>/tasks/<digest>/``.
"""

from __future__ import annotations

import hashlib
import os.path
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.ledger.attempt import is_provably_dead
from airflow_provider_modelslab.ledger.model import LedgerStore, TaskKey, is_entry_name
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import S3LedgerStore, honours_conditional_puts
from airflow_provider_modelslab.storage.s3_objects import list_pages, listing_budget
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["LedgerListing", "LedgerRoot", "result_folder", "task_folder"]

_RESULTS, _TASKS = "results", "tasks"
_DEPTH = 16  # levels of folders that get their own digest; deeper ones share the last one


def result_folder(root: S3Uri, destination: S3Uri) -> S3Uri:
    """The folder of a result's ledger.

    :param root: the folder of all ledgers, see ``S3Profile.ledger_root``.
    """
    folders = [destination.bucket, *destination.key.split("/")[:-1]][:_DEPTH]
    steps = [_RESULTS, *(_digest(folder)[:8] for folder in folders), _digest(str(destination))]
    return root.child("/".join(steps))


def task_folder(root: S3Uri, task: TaskKey) -> S3Uri:
    """The folder of the ledger of a task instance whose result has no destination."""
    return root.child(f"{_TASKS}/{task.digest()}")


class LedgerListing:
    """The entries of ledgers at the time of a listing.

    :param names: the entries of each listed ledger, by the result's URI.
    :param unlisted: results whose ledgers were not listed.
    :param requested: all results whose ledgers were requested.
    """

    _VALID = 60.0  # seconds

    def __init__(
        self, names: Mapping[S3Uri, frozenset[str]], unlisted: frozenset[S3Uri], requested: frozenset[S3Uri]
    ) -> None:
        self._names = names
        self._unlisted = unlisted
        self._requested = requested
        self._valid_until = time.monotonic() + self._VALID

    @property
    def is_fresh(self) -> bool:
        """Whether the listing is recent enough to be used."""
        return time.monotonic() < self._valid_until

    def names(self, destination: S3Uri) -> frozenset[str] | None:
        """The entries' names, such as ``0001-claim``; empty if nothing was written yet, ``None`` if unknown."""
        if destination in self._unlisted or destination not in self._requested:
            return None
        return self._names.get(destination, frozenset())

    def is_new(self, destination: S3Uri) -> bool:
        """Whether the ledger was certainly empty at the time of the listing."""
        return self.names(destination) == frozenset()


class LedgerRoot:
    """The ledgers below a root. Safe to use from several threads.

    :param s3: a boto3 client.
    :param root: the folder of all ledgers, see ``S3Profile.ledger_root``. When the first ledger is opened, conditional
        puts are tested there once.
    """

    def __init__(self, s3: S3Client, root: S3Uri) -> None:
        self._s3 = s3
        self._root = root
        self._conditional: bool | None = None
        self._lock = threading.Lock()

    @property
    def conditional(self) -> bool:
        """Whether the store honours conditional puts; without them two attempts in the same instant may both pay.

        :raises StorageConfigurationError: when the root cannot be read or written.
        """
        with self._lock:
            if self._conditional is None:
                self._conditional = honours_conditional_puts(self._s3, self._root)
            return self._conditional

    def folder(self, destination: S3Uri) -> S3Uri:
        """The folder of a result's ledger."""
        return result_folder(self._root, destination)

    def store(self, folder: S3Uri) -> S3LedgerStore:
        """The entries of one ledger.

        :param folder: see :func:`result_folder` and :func:`task_folder`.
        """
        return S3LedgerStore(self._s3, folder, conditional=self.conditional)

    def open(
        self,
        destination: S3Uri,
        listing: LedgerListing | None = None,
        *,
        claims: bool = True,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        is_dead: Callable[[Mapping[str, Any]], bool] = is_provably_dead,
    ) -> Ledger:
        """The ledger of a result.

        :param listing: for a minute after it was made, no ledger is listed again, and an empty one is not read again.
        :param claims: whether the caller claims a submission before it does anything else. A claim is created, never
            overwritten, so it detects another process that was faster. An empty ledger is then not read, however old
            the listing is.
        """
        store: LedgerStore = self.store(self.folder(destination))
        if listing is not None and (names := listing.names(destination)) is not None:
            store = _ListedStore(store, listing, names, claims=claims and self.conditional)
        return Ledger(store, clock=clock, sleep=sleep, is_dead=is_dead)

    def list(self, destinations: Iterable[S3Uri]) -> LedgerListing:
        """List the ledger entries of these results with one listing of their common folder.

        If that folder contains far more ledgers than requested, it is not listed to its end; the entries of the others
        are unknown, and their ledgers are read one by one when they are opened.

        :raises StorageConfigurationError: when the store refuses.
        """
        wanted = {f"{self.folder(uri).key}/": uri for uri in destinations}
        if not wanted:
            return LedgerListing({}, frozenset(), frozenset())
        common = os.path.commonprefix(list(wanted))  # noqa: RUF071 - of texts, which is what a key prefix is
        shared = S3Uri(self._root.bucket, common[: common.rfind("/") + 1])
        entries: dict[S3Uri, set[str]] = defaultdict(set)
        left = listing_budget(len(wanted))
        last: str | None = None
        for page in list_pages(self._s3, shared):
            for item in page:
                parent, slash, name = item.key.rpartition("/")
                uri = wanted.get(parent + slash)
                if uri is not None and name.endswith(".json") and is_entry_name(name.removesuffix(".json")):
                    entries[uri].add(name.removesuffix(".json"))
            left -= len(page)
            if left <= 0 and page:
                last = page[-1].key
                break
        # The page may have ended within a ledger.
        unlisted = {uri for folder, uri in wanted.items() if last and (folder > last or last.startswith(folder))}
        names = {uri: frozenset(found) for uri, found in entries.items()}
        return LedgerListing(names, frozenset(unlisted), frozenset(wanted.values()))


class _ListedStore:
    """A store with listed names: they are not read again while the listing is recent and nothing is created."""

    def __init__(self, store: LedgerStore, listing: LedgerListing, names: frozenset[str], *, claims: bool) -> None:
        self._store = store
        self._listing = listing
        self._names = names
        self._claims = claims
        self._untouched = True

    def load(self) -> dict[str, dict[str, Any]]:
        was_empty = self._untouched and not self._names
        return {} if was_empty and (self._claims or self._listing.is_fresh) else self._store.load()

    def names(self) -> Collection[str]:
        return self._names if self._untouched and self._listing.is_fresh else self._store.names()

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        self._untouched = False
        return self._store.create(name, entry)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
