"""Budgets that share a state, each with a copy of it that may be old."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import BudgetExhaustedError
from airflow_provider_modelslab.budget.definition import Caps
from airflow_provider_modelslab.budget.model import Change
from airflow_provider_modelslab.budget.service import Budget, Wanted
from tests.support.budgets import MemoryBudgetLog


class Processes:
    """Processes with one budget."""

    def __init__(self, max_jobs: int) -> None:
        self.log = MemoryBudgetLog()
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
            sleep=sleep,
            process={"name": name},
            is_dead=lambda process: process.get("name") in self.dead,
        )

    def _read_ledger(self, uri: str) -> Mapping[str, Mapping[str, Any]]:
        self.ledgers_read.append(uri)
        return {}


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
