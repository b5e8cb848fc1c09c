"""What a stage needs to go on after it was stopped: weights, the optimizer's state and the steps made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tools.demo_model.budget import Budget

__all__ = ["Checkpoint"]


class Checkpoint:
    """One file; a write replaces it whole."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self, budget: Budget, *parts: Any) -> bool:
        """Bring the parts and the budget to where they were saved; ``False`` where nothing was."""
        if not self._path.is_file():
            return False
        kept = torch.load(self._path, map_location="cpu", weights_only=True)
        for part, state in zip(parts, kept["parts"], strict=True):
            part.load_state_dict(state)
        budget.resume(kept["steps"], kept["seconds"])
        return True

    def save(self, budget: Budget, *parts: Any) -> None:
        """Save the parts, in the order in which :meth:`load` takes them."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        beside = self._path.with_suffix(".new")
        state = {
            "parts": [part.state_dict() for part in parts], "steps": budget.steps, "seconds": budget.seconds
        }  # fmt: skip
        torch.save(state, beside)
        beside.replace(self._path)
