"""A user's own models, motion modules and LoRAs, from one JSON or YAML file, or from a mapping with the same content.

For example::

    models:
      my-model: {source: my-org/my-model, revision: 1a2b3c, guidance_scale: 6}
      old-one: checkpoints/old-one              # a folder, relative to this file
      dark-sushi-mix: demo                      # another name for a built-in model
    motion_modules:
      my-motion: {source: motion/my-motion.safetensors, scheduler: lcm, steps: 8}
    loras:
      watercolour: my-org/loras/watercolour.safetensors

``source`` is ``org/name`` or ``org/name/file.safetensors`` on the Hub, or a path that exists (absolute in a mapping).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from airflow_provider_modelslab.local.families.animatediff.schedulers import PRESETS
from airflow_provider_modelslab.local.families.registry import BUILTIN_MODELS, FAMILIES
from airflow_provider_modelslab.local.models.hub import hub_source
from airflow_provider_modelslab.local.models.specs import LoraSpec, ModelEntry, MotionSpec, Source

__all__ = ["CatalogFile", "read_catalog", "read_catalog_file"]

Part = TypeVar("Part", MotionSpec, LoraSpec)

_KINDS = ("models", "motion_modules", "loras", "motion_loras", "adapters")
# What an entry may say. Its family has the defaults, and the rest is read from the files themselves.
_MODEL = {
    "family": tuple(FAMILIES), "scheduler": tuple(PRESETS), "own_motion": str, "motion_modules": tuple, "steps": int,
    "guidance_scale": float, "frames": int, "width": int, "height": int, "fps": int, "license": str,
}  # fmt: skip
_MOTION = {
    "scheduler": tuple(PRESETS), "steps": int, "guidance_scale": float, "all_steps": bool, "aliases": tuple,
    "license": str,
}  # fmt: skip
_LORA = {"aliases": tuple, "license": str}


@dataclass(frozen=True)
class CatalogFile:
    """What a file says, by kind and name."""

    models: Mapping[str, ModelEntry] = field(default_factory=dict)
    motion_modules: Mapping[str, MotionSpec] = field(default_factory=dict)
    loras: Mapping[str, LoraSpec] = field(default_factory=dict)
    motion_loras: Mapping[str, LoraSpec] = field(default_factory=dict)
    adapters: Mapping[str, LoraSpec] = field(default_factory=dict)


def read_catalog_file(path: Path) -> CatalogFile:
    """Read ``*.json``, ``*.yaml`` or ``*.yml``.

    :raises ValueError: naming the file, the entry and what is wrong with it.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix in {".yaml", ".yml"}:
            yaml: Any = importlib.import_module("yaml")  # comes with transformers, and with Airflow
            data = yaml.safe_load(text)
        else:
            data = json.loads(text)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001  # the parsers have no common base
        raise ValueError(f"{path} cannot be read: {' '.join(str(error).split())[:300]}") from None
    return read_catalog({} if data is None else data, where=str(path), folder=path.parent)


def read_catalog(data: Any, *, where: str, folder: Path | None = None) -> CatalogFile:
    """Read a mapping with the content of such a file, for example from a connection's extra.

    :param where: what errors call it.
    :param folder: what relative paths are relative to; without it they are refused.
    :raises ValueError: naming the entry and what is wrong with it.
    """
    reader = _Reader(where, folder)
    kinds = reader.mapping(data, "it" if folder is None else "the file", _KINDS)
    return CatalogFile(
        models=reader.models(kinds),
        motion_modules=reader.parts(kinds, "motion_modules", MotionSpec, _MOTION),
        loras=reader.parts(kinds, "loras", LoraSpec, _LORA),
        motion_loras=reader.parts(kinds, "motion_loras", LoraSpec, _LORA),
        adapters=reader.parts(kinds, "adapters", LoraSpec, _LORA),
    )


@dataclass(frozen=True)
class _Reader:
    name: str
    folder: Path | None

    def problem(self, where: str, text: str) -> ValueError:
        return ValueError(f"{self.name}: {where} {text}")

    def mapping(self, value: Any, where: str, allowed: tuple[str, ...] | None = None) -> Mapping[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.problem(where, f"must be an object with names as keys; got {type(value).__name__}")
        unknown = sorted(set(value) - set(allowed)) if allowed else []
        if allowed and unknown:
            raise self.problem(where, f"unknown key: {', '.join(unknown)}; allowed: {', '.join(allowed)}")
        return value

    def models(self, kinds: Mapping[str, Any]) -> dict[str, ModelEntry]:
        given = self.mapping({} if kinds.get("models") is None else kinds["models"], "models")
        aliases = {
            name: BUILTIN_MODELS[model]
            for name, model in given.items()
            if isinstance(model, str) and model in BUILTIN_MODELS
        }
        read = self.entries({"models": {k: v for k, v in given.items() if k not in aliases}}, "models", _MODEL)
        return aliases | {
            name: ModelEntry(name, source, values.pop("family", None), values)
            for name, (source, values) in read.items()
        }

    def parts(
        self, kinds: Mapping[str, Any], kind: str, make: Callable[..., Part], known: Mapping[str, Any]
    ) -> dict[str, Part]:
        read = self.entries(kinds, kind, known)
        return {name: make(name, source, **values) for name, (source, values) in read.items()}

    def entries(
        self, kinds: Mapping[str, Any], kind: str, known: Mapping[str, Any]
    ) -> dict[str, tuple[Source, dict[str, Any]]]:
        """The source and the settings of each entry of a kind."""
        given = self.mapping({} if kinds.get(kind) is None else kinds[kind], kind)
        return {name: self.entry(f"{kind}.{name}", value, known) for name, value in given.items()}

    def entry(self, where: str, entry: Any, known: Mapping[str, Any]) -> tuple[Source, dict[str, Any]]:
        entry = {"source": entry} if isinstance(entry, str) else entry
        entry = self.mapping(entry, where, ("source", "revision", *known))
        source = self.source(where, entry.get("source"), entry.get("revision"))
        return source, {key: self.value(f"{where}.{key}", entry[key], known[key]) for key in known if key in entry}

    def source(self, where: str, given: Any, revision: Any) -> Source:
        if not isinstance(given, str) or not given:
            raise self.problem(where, "must have a source: org/name on the Hub, or a path")
        if revision is not None and not isinstance(revision, str):
            raise self.problem(where, f"must have text as its revision; got {revision!r}")
        path = Path(given) if self.folder is None else (self.folder / given).resolve()  # an absolute one stays as it is
        if path.is_absolute() and path.exists():
            return Source(path=path)
        source = hub_source(given)
        if source is None:
            raise self.problem(where, f"must have a source that is org/name or an existing path; got {given!r}")
        return Source(repo=source.repo, file=source.file, revision=revision)

    def value(self, where: str, value: Any, kind: Any) -> Any:
        if isinstance(kind, tuple):
            if value not in kind:
                raise self.problem(where, f"must be one of {', '.join(kind)}; got {value!r}")
            return value
        if kind is tuple:
            if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
                raise self.problem(where, f"must be a list of names; got {value!r}")
            return tuple(value)
        number = kind is float and isinstance(value, int) and not isinstance(value, bool)
        if not (number or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool)))):
            raise self.problem(where, f"must be {kind.__name__}; got {value!r}")
        if kind in (int, float) and value < (0 if kind is float else 1):
            raise self.problem(where, f"must be at least {0 if kind is float else 1}; got {value!r}")
        return kind(value)
