"""Storage of ledgers: in S3 beside the results, copied to Airflow's task state, or in memory."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.errors import StorageConfigurationError, StorageUnavailableError
from airflow_provider_modelslab.ledger.model import Entry, is_entry_name
from airflow_provider_modelslab.ledger.model import kind_of as entry_kind_of
from airflow_provider_modelslab.storage.obstore_client import read_body
from airflow_provider_modelslab.storage.s3_errors import (
    NO_CONDITIONS,
    S3_ERRORS,
    S3ErrorKind,
    is_missing,
    kind_of,
    storage_error,
)
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from airflow_provider_modelslab.ledger.model import LedgerStore

__all__ = [
    "MemoryLedgerStore",
    "MirroredLedgerStore",
    "S3LedgerStore",
    "TaskStateLedgerStore",
    "honours_conditional_puts",
]

log = logging.getLogger(__name__)

_UNUSABLE = (*S3_ERRORS, ValueError)  # ValueError: what is there is no JSON
_CLAIM = "-claim"
_TOKEN = "entry_token"  # noqa: S105 - marks who wrote an entry, opens nothing


class MemoryLedgerStore:
    """A ledger in the memory of one process; it is lost between tries."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[str, Any]] = {}

    def load(self) -> dict[str, dict[str, Any]]:
        """All entries."""
        return dict(self.entries)

    def names(self) -> Collection[str]:
        """The names of all entries."""
        return self.load().keys()

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Write one."""
        if name in self.entries:
            return False
        self.entries[name] = dict(entry)
        return True


class TaskStateLedgerStore:
    """A ledger in Airflow's task state (3.3 and later), which persists across retries.

    It has no conditional write, so it does not decide between two simultaneous attempts. Airflow keeps it for 30 days
    by default, and from 3.4 on deletes it when a task is cleared. A trigger has no task state, and a task reads and
    writes its ledger outside of event loops, so the asynchronous calls that the state has since 3.4 are not needed.

    :param accessor: Airflow's ``context["task_state_store"]``.
    :param key: the state's name; ledgers with different keys are separate.
    """

    def __init__(self, accessor: Any, key: str = "modelslab_ledger") -> None:
        self._accessor = accessor
        self._key = key

    def load(self) -> dict[str, dict[str, Any]]:
        """All entries."""
        return dict(self._accessor.get(self._key) or {})

    def names(self) -> Collection[str]:
        """The names of all entries."""
        return self.load().keys()

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Write one."""
        entries = self.load()
        if name in entries:
            return False
        self._accessor.set(self._key, {**entries, name: dict(entry)})
        return True


class S3LedgerStore:
    """One small object per entry below ``folder``, created with ``If-None-Match: *``.

    :param s3: a boto3 client.
    :param folder: the ledger's own prefix.
    :param conditional: whether the store honours conditional puts (see :func:`honours_conditional_puts`); without
        them two simultaneous attempts may both win, and no client can prevent that.
    """

    def __init__(self, s3: S3Client, folder: S3Uri, *, conditional: bool = True) -> None:
        self._s3 = s3
        self._folder = folder
        self._conditional = conditional

    def load(self, kinds: Collection[Entry] | None = None) -> dict[str, dict[str, Any]]:
        """All entries: one listing, one read for each.

        :param kinds: only these are read, the others are empty.
        :raises StorageConfigurationError: when the store cannot be read; that is never "no entries".
        """
        names = self.names()
        try:
            found = {name: self._read(name) if kinds is None or entry_kind_of(name) in kinds else {} for name in names}
        except _UNUSABLE as error:
            raise self._unusable("read", error) from error
        missing = [name for name, entry in found.items() if entry is None]
        if missing:
            raise self._unusable("read", f"{', '.join(missing)}: listed, but missing")
        # The token identifies the writer of an entry. It is removed, since manifests are copied to XCom.
        return {
            name: {key: value for key, value in entry.items() if key != _TOKEN}
            for name, entry in found.items()
            if entry is not None
        }

    def names(self) -> Collection[str]:
        """The names of all entries: one listing. Other objects in the folder are skipped, with a warning.

        :raises StorageConfigurationError: when the store cannot be read.
        """
        prefix = f"{self._folder.key}/"
        try:
            pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._folder.bucket, Prefix=prefix)
            keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        except _UNUSABLE as error:
            raise self._unusable("read", error) from error
        names = [key.removeprefix(prefix).removesuffix(".json") for key in keys if key.endswith(".json")]
        entries = [name for name in names if is_entry_name(name)]
        if len(entries) < len(names):
            strays = ", ".join(sorted({*names}.difference(entries)))
            log.warning(
                "The ledger %s contains objects that are not entries; they are ignored: %s", self._folder, strays
            )
        return entries

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Write an entry; ``True`` for exactly one caller.

        A claim whose put failed is read back, since the store may have written it before the response was lost. A claim
        without a known owner would have to be resolved by a person, though nothing was submitted.

        :raises StorageConfigurationError: when the store refuses; :class:`StorageUnavailableError` when it fails.
        """
        token = uuid.uuid4().hex
        body = json.dumps({**entry, _TOKEN: token}, indent=1, default=str).encode()
        try:
            if not self._conditional and self._read(name) is not None:
                return False
            lost: Exception | None = None
            for pause in (0.05, 0.2, 0.8, None):
                try:
                    self._put(name, body)
                    if self._conditional:
                        return True
                    break
                except S3_ERRORS as error:
                    if kind_of(error) is S3ErrorKind.PRECONDITION_FAILED:
                        break
                    if kind_of(error) is S3ErrorKind.UNAVAILABLE and name.endswith(_CLAIM):
                        lost = error
                        break
                    if kind_of(error) is not S3ErrorKind.CONFLICT or pause is None:
                        raise
                    time.sleep(pause)  # AWS: another put of this key is in progress, and may still fail
            # Read when refused: botocore repeats a put whose answer was lost, and then meets its own object.
            written = self._read_back(name) if name.endswith(_CLAIM) else self._read(name)
            if written is None and lost is not None:
                raise lost
            return (written or {}).get(_TOKEN) == token
        except _UNUSABLE as error:
            raise self._unusable("written", error) from error

    def load_one(self, name: str) -> dict[str, Any] | None:
        """One entry; ``None`` if there is none.

        :raises StorageConfigurationError: when the store cannot be read.
        """
        try:
            return self._read(name)
        except _UNUSABLE as error:
            raise self._unusable("read", error) from error

    def remove(self, name: str) -> None:
        """Delete one entry, if that is allowed; only for entries that record no payment."""
        try:
            self._s3.delete_object(Bucket=self._folder.bucket, Key=self._key(name))
        except S3_ERRORS as error:
            log.debug("%s/%s could not be deleted: %s", self._folder, name, error)

    def _put(self, name: str, body: bytes) -> None:
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if self._conditional else {}
        self._s3.put_object(
            Bucket=self._folder.bucket, Key=self._key(name), Body=body, ContentType="application/json", **condition
        )

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            body = read_body(self._s3, self._folder.bucket, self._key(name))
        except S3_ERRORS as error:
            if is_missing(error, S3Uri(self._folder.bucket, self._key(name)), self._s3):
                return None
            raise
        entry: dict[str, Any] = json.loads(body)
        if not isinstance(entry, dict):
            raise ValueError(f"{name}.json is not a JSON object")  # noqa: TRY004 - as for what is no JSON at all
        return entry

    def _read_back(self, name: str) -> dict[str, Any] | None:
        """Read an entry that this process may have written; a short outage of the store is tolerated."""
        for pause in (0.2, 1.0, 3.0):
            try:
                return self._read(name)
            except S3_ERRORS as error:
                if kind_of(error) is not S3ErrorKind.UNAVAILABLE:
                    raise
                time.sleep(pause)
        return self._read(name)

    def _key(self, name: str) -> str:
        return f"{self._folder.key}/{name}.json"

    def _unusable(self, what: str, error: Exception | str) -> StorageConfigurationError | StorageUnavailableError:
        head = f"The ledger {self._folder} could not be {what}, so it is not known what was paid for"
        if isinstance(error, S3_ERRORS):
            known = storage_error(error, self._folder)
            return type(known)(f"{head}. {known.message}", http_status=known.http_status)
        return StorageConfigurationError(
            f"{head} ({error}). Restore the deleted or damaged entries. Do not delete an entry: its job may then be "
            "paid for again"
        )


class MirroredLedgerStore:
    """A primary store that decides, and a second one that keeps a copy.

    An entry is known if either store has it, so a job's id survives the loss of one of them. Only the primary store
    decides who wins a claim.
    """

    def __init__(self, first: LedgerStore, second: LedgerStore) -> None:
        self._first = first
        self._second = second

    def load(self) -> dict[str, dict[str, Any]]:
        """The entries of both, the first's where they differ."""
        try:
            second = self._second.load()
        except Exception as error:  # noqa: BLE001 - the first store alone is enough, whatever the second has
            log.warning("The copy of the ledger in Airflow's task state could not be read: %s", error)
            second = {}
        return {**second, **self._first.load()}

    def names(self) -> Collection[str]:
        """The names of the entries of both."""
        return self.load().keys()

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        """Write to both. The primary store alone decides a claim; other entries are written if either store accepts."""
        problem: Exception | None = None
        try:
            if not self._first.create(name, entry):
                return False
        except Exception as error:
            if name.endswith(_CLAIM):
                raise
            problem = error
        try:
            self._second.create(name, entry)
        except Exception as error:
            if problem is not None:
                raise problem from error
            log.warning("The ledger entry %s could not be copied to Airflow's task state: %s", name, error)
        if problem is not None:
            log.warning("The ledger entry %s is only in Airflow's task state, not in S3: %s", name, problem)
        return True


def honours_conditional_puts(s3: S3Client, root: S3Uri) -> bool:
    """Whether the store refuses a second ``If-None-Match: *`` put; tested once per root, then read from there.

    :param root: the folder of all ledgers; the result is written to ``conditional-puts.json`` below it.
    :raises StorageConfigurationError: when the root cannot be read or written.
    """
    finding = S3LedgerStore(s3, root, conditional=False)
    known = finding.load_one("conditional-puts")
    if known is not None:
        return bool(known["honoured"])
    probe = S3LedgerStore(s3, root.child(f"probe-{uuid.uuid4().hex}"))
    try:
        honoured = probe.create("entry", {}) and not probe.create("entry", {})
    except StorageConfigurationError as error:
        # A store without this header answers 501 or 400. If these have another cause, the write below fails as well.
        cause = error.__cause__
        if not isinstance(cause, S3_ERRORS) or kind_of(cause) not in NO_CONDITIONS:
            raise
        honoured = False
    probe.remove("entry")
    finding.create("conditional-puts", {"honoured": honoured})
    return honoured
