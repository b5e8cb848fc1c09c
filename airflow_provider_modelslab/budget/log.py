"""A budget's state in S3: a chain of numbered objects, each the whole state after one change.

The next number is created with ``If-None-Match: *``, so of all processes that change the same state exactly one wins;
the others read its object and try again. Nothing is ever overwritten or deleted, so a process that stood still for
hours finds its number taken. Keys count down: the newest object is the first of a listing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.budget.model import BudgetState
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.s3_errors import S3_ERRORS, storage_error
from airflow_provider_modelslab.storage.uri import S3Uri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["BudgetLog", "MemoryBudgetLog", "S3BudgetLog"]

FORMAT_VERSION = 1
"""Of the objects; each holds it as ``version``."""

_LAST = 10**9


class BudgetLog(Protocol):
    """Where a budget's state is kept."""

    def load(self) -> tuple[int, BudgetState]:
        """The newest state and its number; 0 and nothing before the first."""

    def append(self, number: int, state: BudgetState, about: Mapping[str, Any]) -> bool:
        """Write the state with this number; ``False`` where somebody else has, ``True`` for exactly one caller.

        :param about: of the budget, for people who read the object.
        """


class MemoryBudgetLog:
    """For tests, and for one process."""

    def __init__(self) -> None:
        self.states: list[BudgetState] = []

    def load(self) -> tuple[int, BudgetState]:
        """The newest state."""
        return len(self.states), self.states[-1] if self.states else BudgetState()

    def append(self, number: int, state: BudgetState, about: Mapping[str, Any]) -> bool:
        """Write the next one."""
        if number != len(self.states) + 1:
            return False
        self.states.append(BudgetState.from_record(state.record()))
        return True


class S3BudgetLog:
    """One object for each state below ``folder``.

    :param s3: a boto3 client.
    """

    def __init__(self, s3: S3Client, folder: S3Uri) -> None:
        self._s3 = s3
        self._folder = folder
        self._store = S3LedgerStore(s3, folder)

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
        name = found[0]["Key"].removeprefix(prefix).removesuffix(".json")
        entry = self._store.load_one(name)
        if entry is None or entry.get("version") != FORMAT_VERSION:
            raise StorageConfigurationError(
                f"{self._folder}/{name}.json is no state of a budget that this version can read; nothing was submitted"
            )
        return _LAST - int(name), BudgetState.from_record(entry["state"])

    def append(self, number: int, state: BudgetState, about: Mapping[str, Any]) -> bool:
        """Write the next state: one put, and one read that makes sure whose it is.

        :raises StorageConfigurationError: when the store cannot be written.
        :raises StorageUnavailableError: when it has trouble.
        """
        entry = {"version": FORMAT_VERSION, "number": number, **about, "state": state.record()}
        return self._store.create(f"{_LAST - number:010d}", entry, is_verified=True)
