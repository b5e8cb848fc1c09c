"""What ``clean`` removes, found page by page: nothing is remembered but what an answer has to name.

Keys are compared with strict patterns, so an object that this package has not written is never touched.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_provider_modelslab.api.errors import STORAGE_ERRORS, InvalidRequestError
from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.ledger.model import Entry, entry_name, kind_of, last_submission, number_of
from airflow_provider_modelslab.ledger.retention import Closed, Open, State, forbids_payment, state_of
from airflow_provider_modelslab.ledger.scan import ListedLedger, list_ledgers
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.s3_objects import is_gone, list_pages
from airflow_provider_modelslab.storage.s3_removal import DatedObject, UnfinishedUpload, list_dated, list_uploads
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["SEGMENTS_READ", "OldLedger", "Sweep"]

T = TypeVar("T")
R = TypeVar("R")

SEGMENTS_READ = 64
"""Of an index, only so many segments, the newest, are ever read: see ``batch.index``."""

_THREADS = 16
_CHUNK = 500  # ledgers that are looked at together

_LEDGERS = "_modelslab/ledger"
_INPUT = re.compile(r"inputs/(?P<sha256>[0-9a-f]{64})\.(?:mp4|gif)")
_CHECKPOINT = re.compile(r"(?:.*/)?_modelslab/batches/.+\.try[0-9]+\.state\.json\.gz")
_SEGMENT = re.compile(r"(?P<folder>[0-9a-f]{16})/[0-9]{14}-[0-9a-f]{8}(?:-whole)?\.jsonl\.gz")


@dataclass(frozen=True)
class OldLedger:
    """A ledger that may be deleted.

    :param billed: whether its last submission was paid for.
    :param name: of that submission, for people.
    :param uri: where its result was; ``None`` where none has landed.
    """

    listed: ListedLedger
    state: State
    billed: bool
    name: str | None
    uri: str | None

    def keys(self) -> tuple[list[str], list[str]]:
        """Its objects: first those without which the rest still means the same, then what says how it ended."""
        ends = {Entry.LANDED, Entry.FAILED, Entry.RELEASED, Entry.RESOLVED}
        split: tuple[list[str], list[str]] = [], []
        for name, item in self.listed.entries.items():
            split[kind_of(name) in ends].append(item.key)
        return split

    @property
    def bytes(self) -> int:
        """Of all entries."""
        return sum(item.bytes for item in self.listed.entries.values())


class Sweep:
    """What is older than a time, below the folder in which a root of ledgers lies.

    :param root: where ledgers are kept.
    :param before: seconds since the epoch.
    :param warn: told of what cannot be read, and stays.
    :raises InvalidRequestError: for a root that tells no folder, so that nothing else is taken for ours.
    """

    def __init__(self, s3: S3Client, root: S3Uri, before: float, warn: Callable[[str], object]) -> None:
        self._s3 = s3
        self.root = root
        self.before = before
        self._warn = warn
        if not f"/{root.key}".endswith(f"/{_LEDGERS}"):
            raise InvalidRequestError.of(
                "--root", f"must end with /{_LEDGERS}, like the ledger folder of a connection; got {root}"
            )
        self._base = S3Uri(root.bucket, root.key.removesuffix(_LEDGERS))
        self.kept = dict.fromkeys(("open", "result is there", "clip cannot be read", "young", "unreadable"), 0)
        """How many ledgers stay, and why."""

    def uploads(self) -> Iterator[UnfinishedUpload]:
        """Uploads of results that a ledger knows, and of staged inputs, that were begun before and never ended."""
        for page in list_uploads(self._s3, self._base):
            for upload in page:
                if upload.begun < self.before and self._is_ours(upload.key):
                    yield upload

    def _is_ours(self, key: str) -> bool:
        if _INPUT.fullmatch(key, len(self._base.key)):
            return True
        folder = result_folder(self.root, S3Uri(self.root.bucket, key))
        return any(page for page in itertools.islice(list_pages(self._s3, S3Uri(folder.bucket, f"{folder.key}/")), 1))

    def checkpoints(self) -> Iterator[DatedObject]:
        """States of deferred batches."""
        for page in list_dated(self._s3, self._base):
            for item in page:
                if item.modified < self.before and _CHECKPOINT.fullmatch(item.key, len(self._base.key)):
                    yield item

    def segments(self) -> Iterator[DatedObject]:
        """Segments of an index that are never read any more, because so many newer ones are beside them."""
        start = len(f"{self.root.key}/index/")
        folder, newest = "", deque[DatedObject]()
        for page in list_dated(self._s3, S3Uri(self.root.bucket, f"{self.root.key}/index/")):
            for item in page:
                found = _SEGMENT.fullmatch(item.key, start)
                if found is None:
                    continue
                if found["folder"] != folder:
                    folder, newest = found["folder"], deque()
                newest.append(item)
                if len(newest) > SEGMENTS_READ and (oldest := newest.popleft()).modified < self.before:
                    yield oldest

    def inputs(self) -> Iterator[DatedObject]:
        """Staged local files that no job which may still be queued is to read."""
        old = self._old_inputs()
        first = next(old, None)
        if first is None:
            return
        in_use = self._sources_in_use()
        for item in itertools.chain([first], old):
            found = _INPUT.fullmatch(item.key, len(self._base.key))
            assert found is not None  # noqa: S101 - it was matched when it was listed
            # As identify_input names them: a local file by its SHA-256, an object by its URI and ETag.
            identities = (found["sha256"], f"s3://{self.root.bucket}/{item.key}#{item.etag}")
            if in_use.isdisjoint(_digest(identity) for identity in identities):
                yield item

    def _old_inputs(self) -> Iterator[DatedObject]:
        for page in list_dated(self._s3, S3Uri(self._base.bucket, f"{self._base.key}inputs/")):
            for item in page:
                if item.modified < self.before and _INPUT.fullmatch(item.key, len(self._base.key)):
                    yield item

    def _sources_in_use(self) -> set[str]:
        """Digests of the clips of all jobs that may be running, as their claims have them."""
        open_ledgers = (
            (listed, number)
            for listed in list_ledgers(self._s3, self.root)
            if isinstance(state := state_of(listed.entries), Open)
            for number in state.numbers
        )

        def source(found: tuple[ListedLedger, int]) -> str | None:
            listed, number = found
            claim = S3LedgerStore(self._s3, listed.folder).load_one(entry_name(number, Entry.CLAIM))
            told = (claim or {}).get("source")
            return None if told is None else str(told)

        return {digest for digest in _in_threads(source, open_ledgers) if digest is not None}

    def ledgers(self) -> Iterator[OldLedger]:
        """Closed ledgers whose last entry is old, and none of whose results is in S3."""
        self.kept = dict.fromkeys(self.kept, 0)

        def candidates() -> Iterator[tuple[ListedLedger, Closed]]:
            for listed in list_ledgers(self._s3, self.root):
                state = state_of(listed.entries)
                if isinstance(state, Open):
                    self.kept["open"] += 1
                elif max(item.modified for item in listed.entries.values()) >= self.before:
                    self.kept["young"] += 1
                else:
                    yield listed, state

        for old in _in_threads(self._looked_at, candidates()):
            if isinstance(old, OldLedger):
                yield old
            else:
                self.kept[old] += 1

    def _looked_at(self, found: tuple[ListedLedger, Closed]) -> OldLedger | str:
        listed, closed = found
        store, uri = S3LedgerStore(self._s3, listed.folder), None
        last = last_submission(listed.entries) or max(map(number_of, listed.entries))
        try:
            for number in closed.landed:
                manifest = (store.load_one(entry_name(number, Entry.LANDED)) or {})["manifest"]
                uri = str(manifest["uri"])
                if not is_gone(self._s3, manifest):
                    return "result is there"
            for number in closed.failed:
                if forbids_payment(store.load_one(entry_name(number, Entry.FAILED))):
                    return "clip cannot be read"
            claim: Mapping[str, Any] = store.load_one(entry_name(last, Entry.CLAIM)) or {}
        except (*STORAGE_ERRORS, KeyError, TypeError) as error:
            self._warn(f"warning: {listed.folder} is not removed, because it cannot be read: {error}")
            return "unreadable"
        name = claim.get("name")
        return OldLedger(listed, closed.state, claim.get("billed") is not False, name and str(name), uri)


def _in_threads(call: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Like ``map``, a chunk at a time."""
    left = iter(items)
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="modelslab-clean") as pool:
        while chunk := list(itertools.islice(left, _CHUNK)):
            yield from pool.map(call, chunk)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
