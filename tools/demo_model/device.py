"""Where the training runs: a CUDA card if there is one, else the CPU."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

__all__ = ["find_device", "mixed_precision"]


def find_device() -> str:
    """``cuda`` or ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def mixed_precision(device: str) -> AbstractContextManager[object]:
    """Convolutions and products in bfloat16; the weights stay in float32."""
    return torch.autocast(device, torch.bfloat16)
