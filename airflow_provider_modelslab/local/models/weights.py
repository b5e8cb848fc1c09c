"""Tensors from files: safetensors mapped into memory, pickles only when they are allowed."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError

__all__ = ["PICKLES", "Tensors", "read_metadata", "read_tensors", "weight_files"]

Tensors = dict[str, Any]
"""Tensors by name."""

PICKLES = (".bin", ".ckpt", ".pt")
"""How the names of files end that hold pickles."""

_PREFERRED = ("diffusion_pytorch_model", "pytorch_lora_weights", "model", "adapter_model")


def weight_files(path: Path, field: str, *, allow_pickle: bool) -> list[Path]:
    """The files that make up the weights of a folder (or ``path`` itself): one, or the shards that an index names.

    :param field: the attribute of the request for the error.
    :raises InvalidRequestError: when there are none that may be read, or several and none has a usual name.
    """
    if path.is_file():
        if path.suffix in PICKLES and not allow_pickle:
            raise _pickled(path, field)
        return [path]
    for suffix in (".safetensors", *(PICKLES if allow_pickle else ())):
        for name in _PREFERRED:
            for variant in ("", ".fp16"):
                file = path / f"{name}{variant}{suffix}"
                if file.is_file():
                    return [file]
                index = path / f"{name}{suffix}.index{variant}.json"
                if index.is_file():
                    names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
                    return [path / Path(shard).name for shard in sorted(names)]
        found = sorted(path.glob(f"*{suffix}"))
        if len(found) == 1:
            return found
        if found:
            names_ = ", ".join(file.name for file in found)
            raise InvalidRequestError.of(field, f"{path} has several files; give the name of one: {names_}")
    if any(file.suffix in PICKLES for file in path.glob("*")):
        raise _pickled(path, field)
    raise InvalidRequestError.of(field, f"{path} has no *.safetensors file")


def read_tensors(files: list[Path], *, device: str = "cpu", dtype: Any = None) -> Tensors:
    """All tensors of these files, on ``device``; floating ones as ``dtype``, if one is given.

    On the CPU, tensors of the right type stay in the mapped file: pages come from disk when they are first used, and
    processes share them. They are not to be changed in place.

    :raises OSError: when a file cannot be read.
    """
    tensors: Tensors = {}
    for file in files:
        if file.suffix == ".safetensors":
            load: Any = importlib.import_module("safetensors.torch").load_file
            tensors.update(load(str(file), device=device))
        else:
            tensors.update(_unpickle(file, device))
    if dtype is None:
        return tensors
    return {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}


def read_metadata(file: Path) -> dict[str, str]:
    """The texts that a safetensors file carries beside its tensors; empty for other files."""
    if file.suffix != ".safetensors":
        return {}
    opened: Any = importlib.import_module("safetensors").safe_open
    with opened(str(file), framework="pt") as content:
        return dict(content.metadata() or {})


def _unpickle(file: Path, device: str) -> Tensors:
    import torch

    loaded = torch.load(file, map_location=device, weights_only=True, mmap=device == "cpu")
    inner = loaded.get("state_dict", loaded)  # trainers wrap the weights in what they need to go on
    return {name.removeprefix("module."): value for name, value in inner.items() if isinstance(value, torch.Tensor)}


def _pickled(path: Path, field: str) -> InvalidRequestError:
    return InvalidRequestError.of(
        field,
        f"{path} contains pickles. These can contain code, so they are not read: save them as safetensors, or allow "
        "pickles "
        "(allow_pickle=True)",
    )
