"""Loads a plan's model, and runs it where memory is short too."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from airflow_provider_modelslab.api.errors import JobFailedError, ModelsLabError
from airflow_provider_modelslab.local.families.base import LoadedModel
from airflow_provider_modelslab.local.families.registry import family_of
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.models.load_lock import GATE
from airflow_provider_modelslab.local.models.specs import ModelSpec
from airflow_provider_modelslab.local.plan import Plan
from airflow_provider_modelslab.local.progress import GenerationInterruptedError
from airflow_provider_modelslab.local.runtime.device_list import current
from airflow_provider_modelslab.local.runtime.devices import explain_failure, free_memory
from airflow_provider_modelslab.local.runtime.memory import estimate_bytes, is_out_of_memory
from airflow_provider_modelslab.local.runtime.model_cache import ModelCache
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations

__all__ = ["ModelRunner"]

log = logging.getLogger(__name__)

Done = TypeVar("Done")


class ModelRunner:
    """Runs models. One thread at a time.

    :param models: those in memory.
    :param speed: how to run them.
    """

    def __init__(self, catalog: Catalog, models: ModelCache, speed: Optimizations) -> None:
        self._catalog = catalog
        self._models = models
        self._speed = speed

    def run(
        self,
        plan: Plan,
        device: str,
        dtype: Any,
        work: Callable[[LoadedModel], Done],
        *,
        frames: int,
        size: tuple[int, int],
    ) -> Done:
        """Work with the plan's model. Where memory is short and other models hold some, it is done once more.

        :param frames: that the model has to do at once, for messages; ``size`` is theirs in pixels.
        :raises JobFailedError: when the model fails.
        """
        while True:
            try:
                with current(device):
                    model = self._load(plan.model, device, dtype)
                    with GATE.working():
                        model.prepare(plan)
                        self._models.settle(plan.model)
                        return work(model)
            except (ModelsLabError, GenerationInterruptedError):
                raise
            except Exception as error:
                log.warning("%s failed", plan.model.id, exc_info=True)
                short, problem = is_out_of_memory(error), explain_failure(error, frames, size)
            # Out of the handler: the error's traceback would hold on to the tensors.
            free_memory()
            if not (short and self._models.drop_others(plan.model)):
                raise JobFailedError(f"{plan.model.id} failed on {device}: {problem}")

    def load(self, spec: ModelSpec, device: str, dtype: Any) -> None:
        """Load a model that :meth:`run` will be asked for; nothing when it is loaded already."""
        with current(device):
            self._load(spec, device, dtype)

    def _load(self, spec: ModelSpec, device: str, dtype: Any) -> LoadedModel:
        def estimate() -> int:
            return estimate_bytes(self._catalog.prepare(spec), dtype, allow_pickle=self._catalog.allow_pickle)

        def load() -> LoadedModel:
            ready = self._catalog.prepare(spec)  # the tiny model is built here; others were downloaded before
            with GATE.loading():
                model = family_of(spec).load(ready, self._catalog, device, dtype, self._speed)
            model.make_room = lambda: self._models.drop_others(spec)
            return model

        return self._models.get(spec, estimate=estimate, load=load)
