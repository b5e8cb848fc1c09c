"""What has landed below an output prefix, remembered in a few objects, so that a rerun reads little and pays nothing.

The index only saves reads. What counts is each clip's ledger: a clip that is missing here is asked for there, and one
that stands here is skipped only when its result is in S3 as it was when it landed.

Each run adds segments, objects of their own, so runs beside one another never overwrite. When there are many, one that
holds them all is written and the others are deleted.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import logging
import os.path
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import STORAGE_ERRORS
from airflow_provider_modelslab.batch.planning.plan import ClipPlan
from airflow_provider_modelslab.batch.results.index_entry import IndexEntry, newest, pack, unpack
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS
from airflow_provider_modelslab.storage.s3_objects import Listed, list_pages, listing_budget, put_object, read_object
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["LandedIndex"]

log = logging.getLogger(__name__)

_READ = 64  # segments: the newest of these are read
_MANY = 8  # segments beside a whole one, from which they are joined
_KEPT = 50_000  # entries of a whole one, the newest
_WHOLE = "-whole.jsonl.gz"
_PART = ".jsonl.gz"


class LandedIndex:
    """The index of one output prefix. Safe to use from several threads.

    Segments are written by a thread of its own, one at a time, so :meth:`add` never waits for S3; :meth:`flush` and
    :meth:`close` do.

    :param s3: a boto3 client.
    :param root: where ledgers are kept; the index lies beside them.
    :param output: the output prefix.
    :param every: results after which a segment is written.
    :param seconds: time after which one is written with the next result.
    """

    def __init__(
        self,
        s3: S3Client,
        root: S3Uri,
        output: S3Uri,
        *,
        every: int = 500,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._s3 = s3
        self._output = output.folder()
        self._place = root.child("index").child(hashlib.sha256(str(self._output).encode()).hexdigest()[:16])
        self._every = every
        self._seconds = seconds
        self._clock = clock
        self._waiting: list[IndexEntry] = []
        self._written = clock()
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="modelslab-index")
        self._writing: Future[bool] | None = None

    def known(self, clips: Iterable[ClipPlan]) -> dict[str, IndexEntry]:
        """What has landed for the same request and the same clip, by URI; it may be gone since.

        One listing of the index, one read for each of its few segments. What cannot be read is left out, with a
        warning: the ledgers know it too.
        """
        wanted = {str(clip.destination): clip for clip in clips}
        landed = newest(entry for entry in self._entries() if entry.uri in wanted)
        return {uri: entry for uri, entry in landed.items() if entry.is_for(wanted[uri].fingerprint)}

    def find(self, clips: Iterable[ClipPlan], known: Mapping[str, IndexEntry] | None = None) -> dict[int, IndexEntry]:
        """The clips, by their index in the plan, whose results are in S3 for the same request and the same clip.

        One listing of the results that the index names; what cannot be listed is left out, with a warning.

        :param known: of :meth:`known`, where it was asked for already.
        """
        clips = tuple(clips)
        known = self.known(clips) if known is None else known
        there = self._there(known)
        found = {}
        for clip in clips:
            uri = str(clip.destination)
            entry, item = known.get(uri), there.get(uri)
            if entry and item and item.bytes == entry.bytes and entry.etag in {None, item.etag}:
                found[clip.index] = entry
        return found

    def add(
        self, clip: ClipPlan, manifest: Mapping[str, Any], *, batch: str | None = None, seconds: float | None = None
    ) -> None:
        """Remember a result that has landed, or was found landed by its ledger.

        While a segment is being written no other is begun. What the write before it raised is raised here; that the
        store refused is no error.

        :param batch: see :class:`IndexEntry`; likewise ``seconds``.
        """
        if manifest.get("bytes") is None:
            return  # nothing to compare the object with
        entry = IndexEntry.of(
            clip.fingerprint, {**manifest, "uri": str(clip.destination)}, at=self._clock(), batch=batch, seconds=seconds
        )
        with self._lock:
            self._waiting.append(entry)
            is_due = len(self._waiting) >= self._every or self._clock() - self._written >= self._seconds
            before = self._writing
            if not is_due or (before is not None and not before.done()):
                return
            self._writing = self._writer.submit(self._write, self._taken(), _PART)
        if before is not None:
            before.result()

    def flush(self) -> None:
        """Write what is not written yet. A store that refuses is no error: the ledgers have it."""
        with self._lock:
            entries, before, self._writing = self._taken(), self._writing, None
        if before is not None:
            before.result()
        if entries:
            self._write(entries, _PART)

    def close(self, *, keep: int = 0) -> None:
        """Write what is not written yet, and join the segments when there are many.

        :param keep: entries that a joined one must be able to hold, at least 50,000; give twice the batch's clips.
        """
        self.flush()
        try:
            names = self._names()
        except STORAGE_ERRORS as error:
            log.warning("The index segments below %s were not merged: %s", self._place, error)
            return
        since_whole = list(itertools.takewhile(lambda name: not name.endswith(_WHOLE), reversed(names)))
        if len(since_whole) >= _MANY:
            self._join(names[-_READ:], max(keep, _KEPT))

    def _taken(self) -> list[IndexEntry]:
        entries, self._waiting = self._waiting, []
        self._written = self._clock()
        return entries

    # -- segments -------------------------------------------------------------------------------------------------

    def _entries(self) -> Iterator[IndexEntry]:
        try:
            names = self._names()[-_READ:]
        except STORAGE_ERRORS as error:
            log.warning("The index of %s cannot be listed, so the ledger of each clip is read: %s", self._output, error)
            return
        for _, entries in self._read(names):
            yield from entries

    def _read(self, names: list[str]) -> Iterator[tuple[str, list[IndexEntry]]]:
        """The segments that can be read; one that another run has joined in the meantime is in the one it wrote."""
        with ThreadPoolExecutor(8, thread_name_prefix="modelslab-index") as pool:
            for name, body in zip(names, pool.map(self._body, names), strict=True):
                if body is None:
                    continue
                try:
                    yield name, list(unpack(body))
                except ValueError as error:
                    log.warning("The index segment %s/%s is ignored: it %s", self._place, name, error)

    def _body(self, name: str) -> bytes | None:
        try:
            return read_object(self._s3, self._place.child(name))
        except STORAGE_ERRORS as error:
            log.warning("The index segment %s/%s is ignored: %s", self._place, name, error)
            return None

    def _names(self) -> list[str]:
        """Of all segments, oldest first."""
        start = f"{self._place.key}/"
        pages = list_pages(self._s3, S3Uri(self._place.bucket, start))
        return [item.key[len(start) :] for page in pages for item in page if item.key.endswith(_PART)]

    def _write(self, entries: Iterable[IndexEntry], suffix: str) -> bool:
        name = f"{int(self._clock() * 1000):014d}-{uuid.uuid4().hex[:8]}{suffix}"
        try:
            put_object(self._s3, self._place.child(name), pack(entries), "application/gzip")
        except STORAGE_ERRORS as error:
            log.warning(
                "The index of %s was not written; the next run reads the ledgers instead: %s", self._output, error
            )
            return False
        return True

    def _join(self, names: list[str], keep: int) -> None:
        read = list(self._read(names))
        entries = newest(entry for _, segment in read for entry in segment).values()
        kept = heapq.nlargest(keep, entries, key=lambda entry: entry.landed_at)
        if not self._write(kept, _WHOLE):
            return
        for name, _ in read:  # what could not be read is not deleted
            where = self._place.child(name)
            try:
                self._s3.delete_object(Bucket=where.bucket, Key=where.key)
            except S3_ERRORS as error:
                log.info(
                    "The old index segments were not deleted (this needs s3:DeleteObject below %s): %s",
                    self._place,
                    error,
                )
                return

    # -- results --------------------------------------------------------------------------------------------------

    def _there(self, entries: Mapping[str, IndexEntry]) -> dict[str, Listed]:
        """What is in S3 of these results; a prefix that holds far more than them is not listed to its end."""
        if not entries:
            return {}
        head = f"s3://{self._output.bucket}/"
        keys = sorted(uri[len(head) :] for uri in entries)
        common = os.path.commonprefix([keys[0], keys[-1]])  # noqa: RUF071 - of texts, which is what a key prefix is
        place = S3Uri(self._output.bucket, common)
        left = listing_budget(len(keys))
        found = {}
        try:
            for page in list_pages(self._s3, place):
                found.update({uri: item for item in page if (uri := head + item.key) in entries})
                left -= len(page)
                if left <= 0 or (page and page[-1].key >= keys[-1]):
                    break
        except STORAGE_ERRORS as error:
            log.warning(
                "The results below %s cannot be listed, so the ledger of each clip is read: %s", self._output, error
            )
        return found
