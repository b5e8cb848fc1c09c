"""Where a model runs, in which type of numbers, and what its failure means."""

from __future__ import annotations

import gc
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DTYPES", "explain_failure", "free_memory", "pick_device", "pick_dtype"]

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


def explain_failure(error: Exception, frames: Sequence[Image]) -> str:
    """What an error of the model means, and what to do next."""
    width, height = frames[0].size
    kind, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        return f"out of memory for {len(frames)} frames of {width}x{height}; ask for fewer frames or a smaller size"
    if isinstance(error, ArithmeticError):
        return f"{text}; try dtype float32 or bfloat16"
    return f"{kind}: {text}"


def free_memory() -> None:
    """Give memory back that nothing holds any more, to the GPU as well."""
    torch = sys.modules.get("torch")  # what was never imported holds nothing
    if torch is not None:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
