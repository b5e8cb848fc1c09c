"""Models that stay in memory between clips, within a budget; the one that was used least recently goes first."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_modelslab.local.families.base import LoadedModel
from airflow_provider_modelslab.local.models.specs import ModelSpec
from airflow_provider_modelslab.local.runtime.devices import free_memory
from airflow_provider_modelslab.local.runtime.memory import is_out_of_memory

__all__ = ["ModelCache"]

log = logging.getLogger(__name__)

_GB = 1e9


@dataclass(slots=True)
class _Entry:
    model: LoadedModel
    bytes: int
    last_used: float


class ModelCache:
    """The loaded models of one device.

    One thread at a time loads and uses models; :meth:`loaded` and ``len`` may be asked from any meanwhile.

    :param budget: bytes for all models together; asked when the first one is loaded.
    """

    def __init__(self, budget: Callable[[], int]) -> None:
        self._find_budget = budget
        self._budget: int | None = None
        self._entries: OrderedDict[ModelSpec, _Entry] = OrderedDict()  # the one used last is at the end
        self._guard = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def loaded(self) -> list[dict[str, Any]]:
        """For each model ``model_id``, ``bytes`` and ``last_used`` (seconds since the epoch), the last one first."""
        with self._guard:
            return [
                {"model_id": spec.id, "bytes": entry.bytes, "last_used": entry.last_used}
                for spec, entry in reversed(self._entries.items())
            ]

    def get(self, spec: ModelSpec, *, estimate: Callable[[], int], load: Callable[[], LoadedModel]) -> LoadedModel:
        """The model: the one that is here, else a new one for which others make room.

        When there is too little memory for it all the same, every other model goes, and it is tried once more.

        :param estimate: bytes that it is going to take.
        :param load: makes it.
        """
        with self._guard:
            entry = self._entries.get(spec)
            if entry is not None:
                entry.last_used = time.time()
                self._entries.move_to_end(spec)
                return entry.model
        if self._budget is None:
            self._budget = self._find_budget()
        size = estimate()
        if size > self._budget:
            log.warning(
                "%s needs %.2f GB, more than the memory budget of %.2f GB. It is loaded alone",
                spec.id, size / _GB, self._budget / _GB,
            )  # fmt: skip
        self._shrink(self._budget - size)
        model = self._try(spec, load)
        if model is None:
            self.clear()
            model = load()
        with self._guard:
            self._entries[spec] = _Entry(model, model.bytes, time.time())
        return model

    def settle(self, spec: ModelSpec) -> None:
        """Count a model again after parts were put into it or taken out; others go where it has grown too large."""
        with self._guard:
            entry = self._entries[spec]
            entry.bytes = entry.model.bytes
        if self._budget is not None:
            self._shrink(self._budget, keep=spec)

    def drop_others(self, spec: ModelSpec) -> bool:
        """Let every model go but this one; returns whether there were others."""
        return self._shrink(0, keep=spec)

    def clear(self) -> None:
        """Let every model go."""
        with self._guard:
            self._entries.clear()
        free_memory()

    def _shrink(self, most: int, keep: ModelSpec | None = None) -> bool:
        """Let models go until the others take ``most`` bytes; returns whether any went."""
        gone: list[str] = []
        with self._guard:
            for spec in list(self._entries):
                if sum(entry.bytes for entry in self._entries.values()) <= most:
                    break
                if spec != keep:
                    del self._entries[spec]
                    gone.append(spec.id)
        if gone:
            log.info("Removed %s from memory to make room", ", ".join(gone))
            free_memory()
        return bool(gone)

    def _try(self, spec: ModelSpec, load: Callable[[], LoadedModel]) -> LoadedModel | None:
        """The model; ``None`` when memory was too small. The error must be gone then: it holds on to tensors."""
        try:
            return load()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            log.warning("Too little memory to load %s: %s. All other models are removed from memory", spec.id, error)
            return None
