"""The devices of this machine, by name."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

__all__ = ["current", "split_devices"]

_ALL = ("auto", "cuda")


def split_devices(text: str) -> tuple[str, ...]:
    """The devices that a text stands for, each with its number.

    ``auto`` is every GPU that torch finds, or ``cpu`` where it finds none; ``cuda`` is every GPU; ``cpu``, ``cuda:1``
    and ``cuda:0,cuda:1`` are what they say. Any other name goes to torch as it is.

    :raises ValueError: for a GPU that is not there, and for what cannot be split.
    """
    names = tuple(name.strip() for name in text.split(","))
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"device must be auto, cpu, cuda, cuda:1 or cuda:0,cuda:1, each once; got {text!r}")
    if len(names) > 1 and set(names) & set(_ALL):
        raise ValueError(f"device: auto and cuda cannot be combined with other devices; got {text!r}")
    if not any(name in _ALL or name.startswith("cuda:") for name in names):
        return names
    found = _gpus()
    if names[0] in _ALL:
        if names[0] == "cuda" and not found:
            raise ValueError("device: torch finds no GPU here; use auto or cpu")
        return tuple(f"cuda:{number}" for number in range(found)) or ("cpu",)
    there = [f"cuda:{number}" for number in range(found)]
    for name in names:
        if name.startswith("cuda:") and name not in there:
            raise ValueError(f"device: there is no {name}; torch finds {', '.join(there) or 'no GPU'}")
    return names


def current(device: str) -> AbstractContextManager[object]:
    """Make a GPU the one that this thread works on; compiled kernels run where the thread is, not where tensors are."""
    if not device.startswith("cuda"):
        return nullcontext()
    import torch

    return torch.cuda.device(device)


def _gpus() -> int:
    try:
        import torch
    except ImportError:  # a job says then which extra is to be installed
        return 0
    return torch.cuda.device_count()
