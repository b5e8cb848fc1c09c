"""A budget's state in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_modelslab.budget.model import BudgetState

__all__ = ["MemoryBudgetLog"]


class MemoryBudgetLog:
    """A :class:`~airflow_provider_modelslab.budget.log.BudgetLog` whose states pass through JSON's types.

    :ivar is_overtaken: somebody else is always quicker.
    """

    def __init__(self) -> None:
        self.states: list[BudgetState] = []
        self.is_overtaken = False

    def load(self) -> tuple[int, BudgetState]:
        return len(self.states), self.states[-1] if self.states else BudgetState()

    def append(self, number: int, state: BudgetState, about: Mapping[str, Any]) -> bool:
        if self.is_overtaken or number <= len(self.states):
            return False
        self.states.append(BudgetState.from_record(state.record()))
        return True
