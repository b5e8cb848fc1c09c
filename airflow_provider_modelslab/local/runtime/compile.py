"""``torch.compile`` for a model's denoiser: kept on disk, and never a reason to fail."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_modelslab.local.cache_dir import default_cache_dir
from airflow_provider_modelslab.local.runtime.memory import is_out_of_memory

__all__ = ["compile_forward", "keep_on_disk"]

log = logging.getLogger(__name__)

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_SHAPES = 64  # torch's own limit of 8 would end compiling at the ninth size


def keep_on_disk() -> str:
    """Have compiled code kept in the user's cache folder, unless the environment already names another; its path.

    Call it before anything is compiled.
    """
    return os.environ.setdefault(_CACHE, str(default_cache_dir() / "inductor"))


def compile_forward(module: Any, name: str, *, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile a module's ``forward``, once for every shape that it is called with, at that call.

    Weights may be assigned anew later on: they are inputs of the compiled code. When something cannot be compiled, one
    warning says so, and it runs uncompiled.

    :param name: for the log.
    :param backend: a backend of ``torch.compile``.
    """
    module.forward = _Compiled(module.forward, name, backend)


class _Compiled:
    def __init__(self, plain: Callable[..., Any], name: str, backend: str | Callable[..., Any]) -> None:
        import torch

        keep_on_disk()
        limits: Any = torch._dynamo.config
        limits.recompile_limit = max(limits.recompile_limit, _SHAPES)
        self._plain = plain
        self._name = name
        self._run: Callable[..., Any] = torch.compile(plain, fullgraph=True, dynamic=False, backend=backend)
        self._seen: set[tuple[Any, ...]] = set()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        if self._run is self._plain:
            return self._plain(*arguments, **options)
        key = tuple(tuple(value.shape) for value in (*arguments, *options.values()) if hasattr(value, "shape"))
        started = time.monotonic()
        try:
            result = self._run(*arguments, **options)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            problem = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        else:
            if key not in self._seen:
                self._seen.add(key)
                seconds = time.monotonic() - started
                log.info("%s: the first step with %s took %.1f s, including the compilation", self._name, key, seconds)
            return result
        log.warning("%s cannot be compiled, so it runs without compilation: %s", self._name, problem)
        self._run = self._plain
        return self._plain(*arguments, **options)
