"""Budgets that share a state, each with a copy of it that may be old."""

from __future__ import annotations

from collections.abc import Mapping
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

    def budget(self, name: str) -> Budget:
        return Budget(
            self.log,
            Caps(self._max_jobs),
            title="the budget",
            how_to_raise="Raise it",
            user=name,
            read_ledger=self._read_ledger,
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
