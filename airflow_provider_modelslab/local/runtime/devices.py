"""Where a model runs, in which type of numbers, and what its failure means."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_modelslab.local.runtime.memory import is_out_of_memory

__all__ = [
    "DTYPES",
    "explain_failure",
    "free_memory",
    "lay_out",
    "pick_device",
    "pick_dtype",
    "storage_bytes",
    "vae_chunk",
]

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


def vae_chunk(device: str) -> int:
    """How many frames the VAE takes at once where memory is plenty.

    16 is diffusers' number. A CPU is up to twice as fast with 4, whose tensors fit into its caches.
    """
    return 4 if device == "cpu" else 16


def lay_out(weights: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Weights in the order of memory that the device computes with: on a GPU a convolution's channels come last.

    cuDNN's fast convolutions want them so, and else turn every input round. On a CPU it does not pay, and the weights
    would no longer be those of the mapped file.
    """
    import torch

    if not device.startswith("cuda"):
        return dict(weights)
    last = torch.channels_last
    return {name: w.contiguous(memory_format=last) if w.dim() == 4 else w for name, w in weights.items()}


def explain_failure(error: Exception, frames: int, size: tuple[int, int]) -> str:
    """What an error of the model means, and what to do next.

    :param frames: that the model had to do at once.
    :param size: their width and height in pixels.
    """
    width, height = size
    kind, text = type(error).__name__, str(error)
    if is_out_of_memory(error):
        return f"out of memory for {frames} frames of {width}x{height}; ask for fewer frames or a smaller size"
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


def storage_bytes(tensors: Iterable[Any]) -> int:
    """The memory behind these tensors. What several of them share counts once; those on ``meta`` have none."""
    storages = (tensor.untyped_storage() for tensor in tensors if tensor.device.type != "meta")
    return sum({(storage.device, storage.data_ptr()): storage.nbytes() for storage in storages}.values())
