"""Where a model runs, and in which type of numbers."""

from __future__ import annotations

from typing import Any

__all__ = ["DTYPES", "pick_device", "pick_dtype"]

DTYPES = ("auto", "float32", "float16", "bfloat16")


def pick_device(device: str) -> str:
    """``auto`` is the GPU where there is one, else the CPU; any other text goes to torch as it is."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def pick_dtype(dtype: str, device: str) -> Any:
    """The torch type for a name of :data:`DTYPES`: ``auto`` is float32 on the CPU, and half of that elsewhere."""
    import torch

    if dtype != "auto":
        return getattr(torch, dtype)
    if not device.startswith("cuda"):
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
