"""Budgets that share a state, each with a copy of it that may be old."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import BudgetExhaustedError, StorageUnavailableError
from airflow_provider_modelslab.budget.definition import Caps
from airflow_provider_modelslab.budget.model import Change
from airflow_provider_modelslab.budget.service import Budget, Wanted
from tests.support.budgets import MemoryBudgetLog


class Processes:
    """Processes with one budget."""

    def __init__(self, max_jobs: int) -> None:
        self.log = MemoryBudgetLog()
        self.now = 1_000_000.0
        self.unreadable = False
        self.ledgers: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        self.dead: set[str] = set()
        self.ledgers_read: list[str] = []
        self._max_jobs = max_jobs

    def budget(self, name: str, sleep: Callable[[float], None] = lambda seconds: None) -> Budget:
        return Budget(
            self.log,
            Caps(self._max_jobs),
            title="the budget",
            how_to_raise="Raise it",
            user=name,
            read_ledger=self._read_ledger,
            clock=lambda: self.now,
            sleep=sleep,
            process={"name": name},
            is_dead=lambda process: process.get("name") in self.dead,
        )

    def _read_ledger(self, uri: str) -> Mapping[str, Mapping[str, Any]]:
        self.ledgers_read.append(uri)
        if self.unreadable:
            raise StorageUnavailableError("slow down")
        return self.ledgers.get(uri, {})

    def hold(self, count: int, name: str = "holder") -> None:
        """So many jobs whose outcome is unknown."""
        budget = self.budget(name)
        for number in range(count):
            uri = f"s3://ledger/held{number}"
            slot_id = budget.reserve(Wanted(uri))
            self.ledgers[uri] = {"0001-claim": {"budget": [slot_id]}, "0001-unknown": {}}
            budget.settle(Change(slot_id, "held"))
        budget.close()

    def is_full(self, name: str) -> int:
        """How many ledgers this process reads before it finds that there is no room."""
        before = len(self.ledgers_read)
        with pytest.raises(BudgetExhaustedError):
            self.budget(name).reserve(Wanted(f"s3://ledger/{name}"))
        return len(self.ledgers_read) - before


@pytest.mark.parametrize("max_jobs", [2, 10])
def test_what_a_process_wrote_before_it_ended_is_not_looked_up(max_jobs: int) -> None:
    processes = Processes(max_jobs)
    first, second = processes.budget("first"), processes.budget("second")
    slot_id = first.reserve(Wanted("s3://ledger/a"))
    second.reserve(Wanted("s3://ledger/b"))  # from now on it knows the slot of the first one
    first.settle(Change(slot_id, "spent"))
    first.close()
    processes.dead.add("first")
    if max_jobs == 2:
        with pytest.raises(BudgetExhaustedError):
            second.reserve(Wanted("s3://ledger/c"))
    else:
        second.reserve(Wanted("s3://ledger/c"))
    assert processes.ledgers_read == []


def test_what_a_dead_process_had_reserved_is_looked_up() -> None:
    processes = Processes(1)
    processes.budget("first").reserve(Wanted("s3://ledger/a"))
    processes.dead.add("first")
    processes.budget("second").reserve(Wanted("s3://ledger/b"))
    assert processes.ledgers_read == ["s3://ledger/a"]


def test_who_pauses_after_a_lost_race_catches_up_with_all_that_others_wrote_meanwhile() -> None:
    processes = Processes(1000)
    others = iter(range(1000))

    def busy(count: int) -> None:
        for _ in range(count):
            name = f"other{next(others)}"
            processes.budget(name).reserve(Wanted(f"s3://ledger/{name}"))

    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        busy(3)

    slow = processes.budget("slow", sleep)
    slow.reserve(Wanted("s3://ledger/a"))
    busy(3)
    slow.reserve(Wanted("s3://ledger/b"))
    assert len(pauses) == 1


def test_what_one_process_has_looked_up_the_next_ones_do_not() -> None:
    processes = Processes(40)
    processes.hold(40)
    assert [processes.is_full(name) for name in ("first", "second", "third")] == [40, 0, 0]
    assert len(set(processes.ledgers_read)) == 40


def test_unknown_outcomes_are_looked_up_again_after_a_minute() -> None:
    processes = Processes(3)
    processes.hold(3)
    assert processes.is_full("first") == 3
    processes.now += 61
    assert processes.is_full("second") == 3
    processes.now += 61
    uri = processes.ledgers_read[0]
    processes.ledgers[uri] = {**processes.ledgers[uri], "0001-resolved": {}}  # a person: it was not submitted
    processes.budget("third").reserve(Wanted("s3://ledger/third"))


def test_an_old_unknown_outcome_is_looked_up_every_ten_minutes() -> None:
    processes = Processes(1)
    processes.hold(1)
    processes.now += 7200
    assert [processes.is_full(name) for name in ("first", "second")] == [1, 0]
    processes.now += 599
    assert processes.is_full("third") == 0
    processes.now += 2
    assert processes.is_full("fourth") == 1


def test_what_a_person_just_said_of_the_same_result_counts_at_once() -> None:
    processes = Processes(30)
    processes.hold(30)
    assert processes.is_full("first") == 30
    uri = "s3://ledger/held7"
    processes.ledgers[uri] = {**processes.ledgers[uri], "0001-resolved": {}}
    processes.now += 1
    del processes.ledgers_read[:]
    processes.budget("second").reserve(Wanted(uri))
    assert processes.ledgers_read == [uri]


def test_very_many_unknown_outcomes_are_looked_up_a_part_at_a_time() -> None:
    processes = Processes(700)
    processes.hold(700)  # the state is large, so reservations look some up as well
    processes.now += 61
    del processes.ledgers_read[:]
    counts = [processes.is_full(name) for name in ("first", "second", "third")]
    assert (max(counts), sum(counts), len(set(processes.ledgers_read))) == (320, 700, 700)


def test_processes_that_look_at_the_same_time_look_at_different_ledgers() -> None:
    processes = Processes(200)
    processes.hold(200)
    found = len(processes.log.states)
    first: list[set[str]] = []
    for name in ("first", "second"):
        del processes.log.states[found:], processes.ledgers_read[:]  # the second one did not see what the first wrote
        processes.is_full(name)
        first.append({*processes.ledgers_read[:16]})
    assert len(first[0] & first[1]) < 8


def test_a_ledger_that_cannot_be_read_keeps_its_reservation_and_is_not_read_by_all() -> None:
    processes = Processes(2)
    processes.hold(2)
    processes.unreadable = True
    assert [processes.is_full(name) for name in ("first", "second")] == [2, 0]


def test_closing_ends_although_others_are_always_quicker() -> None:
    processes = Processes(1000)
    slow = processes.budget("slow")
    slot_id = slow.reserve(Wanted("s3://ledger/a"))
    slow.settle(Change(slot_id, "spent"))
    processes.log.is_overtaken = True
    slow.close()
    assert slot_id in processes.log.load()[1].open
