"""A budget's state in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_modelslab.budget.model import BudgetState

__all__ = ["MemoryBudgetLog"]


class MemoryBudgetLog:
    """A :class:`~airflow_provider_modelslab.budget.log.BudgetLog` whose states pass through JSON's types."""

    def __init__(self) -> None:
        self.states: list[BudgetState] = []

    def load(self) -> tuple[int, BudgetState]:
        return len(self.states), self.states[-1] if self.states else BudgetState()

    def append(self, number: int, state: BudgetState, about: Mapping[str, Any]) -> bool:
        if number <= len(self.states):
            return False
        self.states.append(BudgetState.from_record(state.record()))
        return True
