"""From a name to a motion module, a LoRA, a motion LoRA or a domain adapter."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.models import builtin, hub
from airflow_provider_modelslab.local.models.catalog_file import CatalogFile
from airflow_provider_modelslab.local.models.hub import hub_source
from airflow_provider_modelslab.local.models.specs import LoraSpec, MotionSpec, Source
from airflow_provider_modelslab.local.models.suggestions import hint
from airflow_provider_modelslab.local.models.weights import PICKLES

__all__ = ["ID", "Components"]

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Names of folders and files: without separators and leading dots, they cannot lie elsewhere."""

Part = TypeVar("Part", MotionSpec, LoraSpec)


class Components:
    """Looks parts up; see :mod:`~.catalog` for the order."""

    def __init__(self, model_dir: Path | None, own: CatalogFile, *, offline: bool, allow_pickle: bool) -> None:
        self._model_dir = model_dir
        self._own = own
        self._offline = offline
        self._allow_pickle = allow_pickle

    def motion_module(self, name: str) -> MotionSpec:
        """The motion module of this name.

        :raises InvalidRequestError: for ``motion_module``, when there is none, or it cannot be used.
        """
        motion = self._find(
            "motion_module", "motion_modules", name, self._own.motion_modules, builtin.MOTION_MODULES, MotionSpec
        )
        return replace(motion, loras=tuple((self._lora_of(motion, lora), strength) for lora, strength in motion.loras))

    def lora(self, name: str) -> LoraSpec:
        """The LoRA of this name.

        :raises InvalidRequestError: for ``lora_models``.
        """
        return self._find("lora_models", "loras", name, self._own.loras, builtin.LORAS, LoraSpec)

    def motion_lora(self, name: str) -> LoraSpec:
        """The motion LoRA of this name: ``zoom-in``, ``zoom_in`` and ``v2_lora_ZoomIn`` are one.

        :raises InvalidRequestError: for ``motion_loras``.
        """
        return self._find("motion_loras", "motion_loras", name, self._own.motion_loras, builtin.MOTION_LORAS, LoraSpec)

    def adapter(self, name: str) -> LoraSpec:
        """The domain adapter of this name; :data:`~.builtin.NO_ADAPTER` stands for none and is no name here.

        :raises InvalidRequestError: for ``adapter_lora``.
        """
        return self._find("adapter_lora", "adapters", name, self._own.adapters, builtin.ADAPTERS, LoraSpec)

    def check_hub(self, source: Source, field: str, place: str) -> None:
        """Refuse a source on the Hub that may not be used: pickles, or an engine that is offline.

        :param place: where the user can put the files instead, under the folder of models.
        :raises InvalidRequestError: for ``field``.
        """
        place = f"{self.shown}/{place}"
        if source.path is not None:
            return
        if source.pickled and not self._allow_pickle:
            raise InvalidRequestError.of(
                field,
                f"is published only as pickles ({source}), which are refused because they can run code: "
                f"{_others(field)}put a copy in safetensors at {place}, or allow pickles (allow_pickle=True)",
            )
        if self._offline and not hub.is_cached(source, allow_pickle=self._allow_pickle):
            raise InvalidRequestError.of(field, f"{hub.offline_problem(source)}: put its files at {place}")

    @property
    def shown(self) -> str:
        """The folder of models, for messages."""
        return "<model_dir>" if self._model_dir is None else str(self._model_dir)

    def _find(
        self,
        field: str,
        folder: str,
        name: str,
        own: Mapping[str, Part],
        built_in: Mapping[str, Part],
        make: Callable[[str, Source], Part],
    ) -> Part:
        known = _by_label(built_in)
        mine = _by_label(own)
        spec = self._named(field, folder, name, mine, known, make)
        path = spec.source.path
        if path is not None and path.suffix in PICKLES and not self._allow_pickle:
            raise InvalidRequestError.of(
                field,
                f"is a pickle ({path}), which is refused because it can run code: save it as safetensors, or allow "
                "pickles (allow_pickle=True)",
            )
        self.check_hub(spec.source, field, f"{folder}/{spec.id}")
        return spec

    def _named(
        self,
        field: str,
        folder: str,
        name: str,
        mine: Mapping[str, Part],
        known: Mapping[str, Part],
        make: Callable[[str, Source], Part],
    ) -> Part:
        if name in mine:
            return mine[name]
        # Its files may lie under any of its names; what is built in of it stays.
        labels = (name, known[name].id, *known[name].aliases) if name in known else (name,)
        found = next((path for label in labels if (path := self._file(folder, label))), None)
        if found is not None:
            built_in = known[name] if name in known else make(name, Source())
            return replace(built_in, source=Source(path=found), base=None)
        if name in known:
            return known[name]
        source = hub_source(name)
        if source is None:
            raise self._unknown(field, folder, name, {*known, *mine})
        return make(name, source)

    def _lora_of(self, motion: MotionSpec, lora: LoraSpec) -> LoraSpec:
        """A LoRA that belongs to a motion module: beside it in its folder, or among the LoRAs, or on the Hub."""
        beside = motion.source.path / (lora.source.file or "") if motion.source.path is not None else None
        found = beside if beside is not None and beside.is_file() else self._file("loras", lora.id)
        if found is not None:
            return replace(lora, source=Source(path=found), base=None)
        self.check_hub(lora.source, "motion_module", f"loras/{lora.id}.safetensors")
        return lora

    def _file(self, folder: str, name: str) -> Path | None:
        """A folder, or a file in safetensors, or else a pickle, which is refused with a word later."""
        if self._model_dir is None or not ID.fullmatch(name):
            return None
        place = self._model_dir / folder
        if (place / name).is_dir():
            return place / name
        files = (place / f"{name}{suffix}" for suffix in (".safetensors", *PICKLES))
        return next((path for path in files if path.is_file()), None)

    def _unknown(self, field: str, folder: str, name: str, known: Iterable[str]) -> InvalidRequestError:
        names = sorted(known)
        listed = f"; known: {', '.join(names)}" if names else ""
        return InvalidRequestError.of(
            field,
            f"there is no {name[:100]!r} on this machine{hint(name, names)}{listed}. To add it, save it as "
            f"{self.shown}/{folder}/{name[:100]}.safetensors, or give org/name on the Hub",
        )


def _others(field: str) -> str:
    """The models of the same kind that can be taken as they are."""
    ready = [entry.id for entry in builtin.MODELS if entry.source.repo and not entry.source.pickled]
    return f"choose a model that is published as safetensors ({', '.join(ready)}), " if field == "model_id" else ""


def _by_label(specs: Mapping[str, Part]) -> dict[str, Part]:
    labelled: dict[str, Part] = dict(specs)
    for one in specs.values():
        for alias in one.aliases:
            labelled[alias] = one
    return labelled
