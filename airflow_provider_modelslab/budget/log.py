"""A budget's state in S3: a chain of numbered objects, each the whole state after one change.

The next number is created with ``If-None-Match: *``, so of all processes that change the same state exactly one wins;
the others read the newest one and try again. Nothing is ever overwritten or deleted, so a process that stood still for
hours finds its number taken. Keys count down: the newest object is the first of a listing.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_modelslab.api.errors import StorageConfigurationError, StorageUnavailableError
from airflow_provider_modelslab.budget.model import BudgetState
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, S3ErrorKind, kind_of, storage_error
from airflow_provider_modelslab.storage.s3_objects import read_object
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["BudgetLog", "S3BudgetLog"]

FORMAT_VERSION = 1
"""Of the objects; each holds it as ``version``."""

_LAST = 10**9


class BudgetLog(Protocol):
    """Where a budget's state is kept."""

    def load(self) -> tuple[int, BudgetState]:
        """The newest state and its number; 0 and nothing before the first."""

    def append(self, number: int, state: BudgetState, about: Mapping[str, Any]) -> bool:
        """Write the state with this number; ``True`` for exactly one caller, ``False`` if another one has written it.

        :param about: of the budget, for people who read the object.
        """


class S3BudgetLog:
    """One object for each state below ``folder``.

    :param s3: a boto3 client.
    """

    def __init__(self, s3: S3Client, folder: S3Uri) -> None:
        self._s3 = s3
        self._folder = folder

    def load(self) -> tuple[int, BudgetState]:
        """The newest state: one listing of one key, one read.

        :raises StorageConfigurationError: when the store cannot be read.
        :raises StorageUnavailableError: when it has trouble.
        """
        prefix = f"{self._folder.key}/"
        try:
            found = self._s3.list_objects_v2(Bucket=self._folder.bucket, Prefix=prefix, MaxKeys=1).get("Contents", [])
        except S3_ERRORS as error:
            raise storage_error(error, self._folder) from error
        if not found:
            return 0, BudgetState()
        number = _LAST - int(found[0]["Key"].removeprefix(prefix).removesuffix(".json"))
        entry = self._read(number)
        if entry is None:
            raise StorageUnavailableError(f"{self._place(number)} was in the listing of S3, but cannot be found")
        return number, BudgetState.from_record(entry["state"])

    def append(self, number: int, state: BudgetState, about: Mapping[str, Any]) -> bool:
        """Write the next state: one put. One more read, where somebody was quicker or the answer was lost.

        :raises StorageConfigurationError: when the store cannot be written.
        :raises StorageUnavailableError: when it has trouble; then it may have been written all the same.
        """
        place, token = self._place(number), uuid.uuid4().hex
        entry = {"version": FORMAT_VERSION, "number": number, "token": token, **about, "state": state.record()}
        body = json.dumps(entry).encode()
        lost: StorageConfigurationError | StorageUnavailableError | None = None
        for pause in (0.05, 0.2, 0.8, 0.0):
            try:
                self._s3.put_object(
                    Bucket=place.bucket, Key=place.key, Body=body, ContentType="application/json", IfNoneMatch="*"
                )
            except S3_ERRORS as error:
                lost = storage_error(error, place)
                if kind_of(error) is S3ErrorKind.CONFLICT and pause:  # another put of this key is under way
                    time.sleep(pause)
                    continue
                if kind_of(error) not in {S3ErrorKind.PRECONDITION_FAILED, S3ErrorKind.UNAVAILABLE}:
                    raise lost from error
                break
            return True
        # botocore repeats a put whose answer was lost, and then meets its own object.
        written = self._read(number)
        if written is None:
            assert lost is not None  # noqa: S101 - else it was written
            raise lost
        return bool(written.get("token") == token)

    def _read(self, number: int) -> dict[str, Any] | None:
        body = read_object(self._s3, self._place(number))
        if body is None:
            return None
        try:
            entry: dict[str, Any] = json.loads(body)
        except ValueError:
            entry = {}
        if entry.get("version") != FORMAT_VERSION:
            raise StorageConfigurationError(
                f"{self._place(number)} is not a budget state that this version can read. Nothing was submitted. "
                "Update the provider"
            )
        return entry

    def _place(self, number: int) -> S3Uri:
        return self._folder.child(f"{_LAST - number:010d}.json")
