"""One ledger for each result of a batch, named after where the result goes.

Whatever run, Dag or task wants the same object finds the same ledger, so it is paid for once. A ledger's folder is
``<root>/clips/<digest of the bucket>/<digest of each folder of the key>/.../<digest of the result's URI>/``: a tree
like that of the results, with names of one length. So one listing tells which results below a prefix have entries at
all, and those that have none need no read of their own before they are claimed.
"""

from __future__ import annotations

import hashlib
import os.path
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.batch.objects import list_pages, listing_budget
from airflow_provider_modelslab.storage.ledger import LedgerStore
from airflow_provider_modelslab.storage.ledger_stores import S3LedgerStore, honours_conditional_puts
from airflow_provider_modelslab.storage.owner import is_provably_dead
from airflow_provider_modelslab.storage.purchase import Ledger
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["ClipLedgers", "Survey"]

_CLIPS = "clips"
_DEPTH = 16  # folders that are kept apart; those below share the last one


class Survey:
    """Which ledgers have entries, as one look told.

    :param names: the entries of each ledger that was seen, by the result's URI.
    :param unseen: results whose ledgers the look did not reach.
    """

    _BELIEVED = 60.0  # seconds

    def __init__(
        self, names: Mapping[S3Uri, frozenset[str]], unseen: frozenset[S3Uri], asked: frozenset[S3Uri]
    ) -> None:
        self._names = names
        self._unseen = unseen
        self._asked = asked
        self._believed_until = time.monotonic() + self._BELIEVED

    @property
    def is_believed(self) -> bool:
        """Whether the look is so young that what it told still holds."""
        return time.monotonic() < self._believed_until

    def names(self, destination: S3Uri) -> frozenset[str] | None:
        """The entries' names, such as ``0001-claim``; empty where nothing was written yet, ``None`` where unknown."""
        if destination in self._unseen or destination not in self._asked:
            return None
        return self._names.get(destination, frozenset())

    def is_new(self, destination: S3Uri) -> bool:
        """Whether surely nothing had been written when the look was taken."""
        return self.names(destination) == frozenset()


class ClipLedgers:
    """The ledgers of clips below a root.

    :param s3: a boto3 client; used from several threads.
    :param root: where ledgers are kept, see ``S3Profile.ledger_root``. Whether the store honours
        conditional puts is found out there once, when the first ledger is opened.
    :param wrap: what to put around a clip's store, for a second copy.
    """

    def __init__(
        self, s3: S3Client, root: S3Uri, *, wrap: Callable[[LedgerStore, S3Uri], LedgerStore] | None = None
    ) -> None:
        self._s3 = s3
        self._root = root
        self._wrap = wrap
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
        """Where the ledger of a result is."""
        folders = [destination.bucket, *destination.key.split("/")[:-1]][:_DEPTH]
        steps = [_CLIPS, *(_digest(folder)[:8] for folder in folders), _digest(str(destination))]
        return self._root.child("/".join(steps))

    def open(
        self,
        destination: S3Uri,
        survey: Survey | None = None,
        *,
        claims: bool = True,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        is_dead: Callable[[Mapping[str, Any]], bool] = is_provably_dead,
    ) -> Ledger:
        """The ledger of a result.

        :param survey: for a minute after it was taken, no ledger is listed again, and one that was empty then is not
            read again.
        :param claims: whether a take is claimed before anything is done. The claim is created, never overwritten, so
            somebody who was quicker is seen by it, and a ledger that was empty is not read before, however long ago
            that was seen.
        """
        folder = self.folder(destination)
        store: LedgerStore = S3LedgerStore(self._s3, folder, conditional=self.conditional)
        if survey is not None and (names := survey.names(destination)) is not None:
            store = _Surveyed(store, survey, names, claims=claims and self.conditional)
        if self._wrap is not None:
            store = self._wrap(store, destination)
        return Ledger(store, clock=clock, sleep=sleep, is_dead=is_dead)

    def survey(self, destinations: Iterable[S3Uri]) -> Survey:
        """Tell with one listing, of the folder that they share, which of these results have ledger entries.

        Where that folder holds far more ledgers than are asked for, it is not listed to its end; what was not reached
        is unknown, and its ledgers are read one by one when they are opened.

        :raises StorageConfigurationError: when the store refuses.
        """
        wanted = {f"{self.folder(uri).key}/": uri for uri in destinations}
        if not wanted:
            return Survey({}, frozenset(), frozenset())
        common = os.path.commonprefix(list(wanted))  # noqa: RUF071 - of texts, which is what a key prefix is
        place = S3Uri(self._root.bucket, common[: common.rfind("/") + 1])
        entries: dict[S3Uri, set[str]] = defaultdict(set)
        left = listing_budget(len(wanted))
        last: str | None = None
        for page in list_pages(self._s3, place):
            for item in page:
                folder, slash, name = item.key.rpartition("/")
                uri = wanted.get(folder + slash)
                if uri is not None and name.endswith(".json"):
                    entries[uri].add(name.removesuffix(".json"))
            left -= len(page)
            if left <= 0 and page:
                last = page[-1].key
                break
        # The page may have ended within a ledger.
        unseen = {uri for folder, uri in wanted.items() if last and (folder > last or last.startswith(folder))}
        names = {uri: frozenset(found) for uri, found in entries.items()}
        return Survey(names, frozenset(unseen), frozenset(wanted.values()))


class _Surveyed:
    """A store whose names were seen: while that is believed, and nothing is created, it is not asked for them."""

    def __init__(self, store: LedgerStore, survey: Survey, names: frozenset[str], *, claims: bool) -> None:
        self._store = store
        self._survey = survey
        self._names = names
        self._claims = claims
        self._untouched = True

    def load(self) -> dict[str, dict[str, Any]]:
        was_empty = self._untouched and not self._names
        return {} if was_empty and (self._claims or self._survey.is_believed) else self._store.load()

    def names(self) -> Collection[str]:
        return self._names if self._believed else self._store.names()

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        self._untouched = False
        return self._store.create(name, entry)

    @property
    def _believed(self) -> bool:
        return self._untouched and self._survey.is_believed


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
