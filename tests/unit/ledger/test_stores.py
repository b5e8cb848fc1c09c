"""The stores that need no server: memory, Airflow's task state, and the mirror of two."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import pytest

from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore, MirroredLedgerStore, TaskStateLedgerStore
from tests.support.task_state import TaskState


class BrokenStore(MemoryLedgerStore):
    """Fails where it is told to."""

    def __init__(self, *, reads: bool = True, writes: bool = True) -> None:
        super().__init__()
        self.reads = reads
        self.writes = writes

    def load(self) -> dict[str, dict[str, Any]]:
        if not self.reads:
            raise ConnectionError("cannot be read")
        return super().load()

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        if not self.writes:
            raise ConnectionError("cannot be written")
        return super().create(name, entry)


def test_memory_keeps_the_first() -> None:
    store = MemoryLedgerStore()
    entry = {"a": 1}
    assert store.create("0001-claim", entry)
    assert not store.create("0001-claim", {"a": 2})
    entry["a"] = 3
    assert store.load() == {"0001-claim": {"a": 1}}


def test_the_task_state_keeps_the_first() -> None:
    state = TaskState()
    store = TaskStateLedgerStore(state)
    assert (store.load(), list(store.names())) == ({}, [])
    assert store.create("0001-claim", {"a": 1})
    assert not store.create("0001-claim", {"a": 2})
    assert store.create("0001-job", {"job_id": "7"})
    again = TaskStateLedgerStore(state)  # of the next try
    assert again.load() == {"0001-claim": {"a": 1}, "0001-job": {"job_id": "7"}}
    assert set(again.names()) == {"0001-claim", "0001-job"}


def test_ledgers_with_different_keys_are_kept_apart_in_the_task_state() -> None:
    state = TaskState()
    one, other = TaskStateLedgerStore(state, "one"), TaskStateLedgerStore(state, "other")
    assert one.create("0001-claim", {"a": 1})
    assert other.create("0001-claim", {"a": 2})
    assert (one.load(), other.load()) == ({"0001-claim": {"a": 1}}, {"0001-claim": {"a": 2}})


def test_the_mirror_writes_to_both() -> None:
    first, second = MemoryLedgerStore(), MemoryLedgerStore()
    mirror = MirroredLedgerStore(first, second)
    assert mirror.create("0001-claim", {"a": 1})
    assert not mirror.create("0001-claim", {"a": 2})
    assert first.entries == second.entries == {"0001-claim": {"a": 1}}
    assert list(mirror.names()) == ["0001-claim"]


@pytest.mark.parametrize("lost", ["first", "second"])
def test_what_was_written_survives_the_loss_of_either(lost: str) -> None:
    stores = {"first": MemoryLedgerStore(), "second": MemoryLedgerStore()}
    mirror = MirroredLedgerStore(stores["first"], stores["second"])
    mirror.create("0001-claim", {"a": 1})
    mirror.create("0001-job", {"job_id": "7"})
    stores[lost].entries.clear()
    assert mirror.load() == {"0001-claim": {"a": 1}, "0001-job": {"job_id": "7"}}


def test_the_first_is_right_where_they_differ() -> None:
    first, second = MemoryLedgerStore(), MemoryLedgerStore()
    first.create("0001-claim", {"by": "me"})
    second.create("0001-claim", {"by": "you"})
    assert MirroredLedgerStore(first, second).load() == {"0001-claim": {"by": "me"}}


def test_a_claim_needs_the_first() -> None:
    second = MemoryLedgerStore()
    with pytest.raises(ConnectionError):
        MirroredLedgerStore(BrokenStore(writes=False), second).create("0001-claim", {})
    assert second.entries == {}


def test_the_second_does_not_decide_a_claim() -> None:
    first, second = MemoryLedgerStore(), MemoryLedgerStore()
    second.create("0001-claim", {"by": "you"})
    assert MirroredLedgerStore(first, second).create("0001-claim", {"by": "me"})


def test_an_id_is_kept_when_the_first_refuses_it(caplog: pytest.LogCaptureFixture) -> None:
    second = MemoryLedgerStore()
    assert MirroredLedgerStore(BrokenStore(writes=False), second).create("0001-job", {"job_id": "7"})
    assert second.entries == {"0001-job": {"job_id": "7"}}
    assert ["0001-job" in record.getMessage() for record in caplog.records] == [True]


def test_an_id_is_kept_when_the_second_refuses_it(caplog: pytest.LogCaptureFixture) -> None:
    first = MemoryLedgerStore()
    mirror = MirroredLedgerStore(first, BrokenStore(reads=False, writes=False))
    assert mirror.create("0001-job", {"job_id": "7"})
    assert mirror.load() == {"0001-job": {"job_id": "7"}}
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_an_entry_that_neither_takes_is_an_error() -> None:
    with pytest.raises(ConnectionError):
        MirroredLedgerStore(BrokenStore(writes=False), BrokenStore(writes=False)).create("0001-job", {})


def test_a_first_that_cannot_be_read_is_an_error_whatever_the_second_has() -> None:
    second = MemoryLedgerStore()
    second.create("0001-job", {"job_id": "7"})
    with pytest.raises(ConnectionError):
        MirroredLedgerStore(BrokenStore(reads=False), second).load()
