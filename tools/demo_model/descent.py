"""One step of a training."""

from __future__ import annotations

from typing import Any

import torch

from tools.demo_model.budget import Budget

__all__ = ["descend"]


def descend(budget: Budget, optimizer: Any, loss: Any) -> None:
    """Take one step down the loss, with gradients of at most norm 1, and note it."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([one for group in optimizer.param_groups for one in group["params"]], 1.0)
    optimizer.step()
    budget.note(loss.item())
