"""Airflow's task state (3.3 and later), as much of it as the ledger uses."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["TaskState"]


class TaskState:
    """``context["task_state_store"]``: values by key, as the JSON that they are stored as."""

    def __init__(self) -> None:
        self.stored: dict[str, str] = {}

    def get(self, key: str) -> Any:
        """The value; ``None`` for none."""
        return json.loads(self.stored[key]) if key in self.stored else None

    def set(self, key: str, value: Any) -> None:
        """Store a value."""
        self.stored[key] = json.dumps(value)
