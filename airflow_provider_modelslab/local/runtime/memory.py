"""How much memory there is for models, how much one is going to take, and how to tell that it did not suffice."""

from __future__ import annotations

import json
import math
import os
import struct
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.local.models.specs import ModelSpec
from airflow_provider_modelslab.local.models.weights import weight_files

__all__ = ["default_budget", "estimate_bytes", "is_out_of_memory"]

_GIB = 1 << 30
_GPU_SHARE = 0.8
_GPU_HEADROOM = 4 * _GIB
_CPU_SHARE = 0.5
_PARTS = ("unet", "transformer", "vae", "text_encoder", "motion_adapter")
# Of CUDA, of torch on the CPU, of cuDNN and cuBLAS, of C++.
_SHORT = ("out of memory", "can't allocate memory", "alloc_failed", "std::bad_alloc")
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def default_budget(device: str) -> int:
    """Bytes that models may take together on a device, where the caller names no number.

    On a GPU four fifths of what is free when this is asked, less 4 GiB (but at least half of it): a clip's own tensors
    need that room, 2 to 6 GB at the page's sizes, and the allocator loses some to fragments. What other processes hold
    is not counted as ours. Elsewhere half of the machine's memory, or of the container's limit: float32 weights are
    mapped from their files there, so the rest keeps the system's file cache useful.
    """
    if device.startswith("cuda"):
        import torch

        free, _total = torch.cuda.mem_get_info(device)
        return max(int(_GPU_SHARE * free) - _GPU_HEADROOM, free // 2)
    return int(_CPU_SHARE * _machine_memory())


def estimate_bytes(spec: ModelSpec, dtype: Any, *, allow_pickle: bool = False) -> int:
    """Bytes that a model's weights are going to take as ``dtype``, by its files; nothing is loaded.

    Motion modules and LoRAs that a request names are not part of it.

    :param spec: with its files on this machine.
    :raises InvalidRequestError: for ``model_id``, when a part has no weights that may be read.
    """
    folders = [folder for folder in (spec.folder / name for name in _PARTS) if folder.is_dir()]
    files = [file for folder in folders for file in weight_files(folder, "model_id", allow_pickle=allow_pickle)]
    return sum(_file_bytes(file, dtype.itemsize) for file in files)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had too little memory."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or any(words in text for words in _SHORT)


def _file_bytes(file: Path, itemsize: int) -> int:
    """A safetensors file by its header, which names every tensor's type and shape; any other by its length."""
    if file.suffix != ".safetensors":
        return file.stat().st_size
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(length))
    header.pop("__metadata__", None)
    return sum(_tensor_bytes(entry, itemsize) for entry in header.values())


def _tensor_bytes(entry: dict[str, Any], itemsize: int) -> int:
    if entry["dtype"].startswith(("F", "BF")):
        return int(math.prod(entry["shape"])) * itemsize
    start, end = entry["data_offsets"]
    return int(end - start)


def _machine_memory() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        return min(physical, int(_CGROUP.read_text()))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return physical
