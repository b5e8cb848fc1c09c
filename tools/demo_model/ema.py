"""The running average of a model's weights, which is better than the last ones."""

from __future__ import annotations

import copy
from typing import Any

import torch

__all__ = ["Average"]


class Average:
    """Keeps ``model``: a copy whose weights follow those of the model that is trained.

    :param horizon: over about how many steps it averages in the end; shorter at the beginning.
    """

    def __init__(self, model: Any, horizon: int = 400) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._horizon = horizon
        self._steps = 0

    @torch.no_grad()
    def update(self, model: Any) -> None:
        """After each step of the optimizer."""
        self._steps += 1
        weight = max(1 / self._horizon, 1 / (1 + self._steps / 4))
        for kept, new in zip(self.model.state_dict().values(), model.state_dict().values(), strict=True):
            kept.lerp_(new, weight) if kept.is_floating_point() else kept.copy_(new)

    def copy(self) -> Any:
        """A copy of the averaged model."""
        return copy.deepcopy(self.model)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"model": self.model.state_dict(), "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """From a checkpoint."""
        self.model.load_state_dict(state["model"])
        self._steps = state["steps"]
