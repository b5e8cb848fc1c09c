"""A user's own models, motion modules and LoRAs, from one JSON or YAML file, or from a mapping with the same content.

For example::

    models:
      my-model: {source: my-org/my-model, revision: 1a2b3c, guidance_scale: 6}
      old-one: checkpoints/old-one              # a folder, relative to this file
    motion_modules:
      my-motion: {source: motion/my-motion.safetensors, scheduler: lcm, steps: 8}
    loras:
      watercolour: my-org/loras/watercolour.safetensors

``source`` is ``org/name`` or ``org/name/file.safetensors`` on the Hub, or a path that exists (absolute in a mapping).
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from airflow_provider_modelslab.local.families.animatediff.schedulers import PRESETS
from airflow_provider_modelslab.local.models.specs import FAMILIES, LoraSpec, ModelSpec, MotionSpec, Source

__all__ = ["HUB_FILE", "HUB_REPO", "CatalogFile", "hub_source", "read_catalog", "read_catalog_file"]

HUB_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
"""``org/name``."""

HUB_FILE = re.compile(
    r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)/((?:[\w.-]+/)*[\w.-]+\.(?:safetensors|bin|ckpt|pt))", re.ASCII
)
"""``org/name/path/of/a/file.safetensors``."""

Spec = TypeVar("Spec", ModelSpec, MotionSpec, LoraSpec)

_KINDS = ("models", "motion_modules", "loras", "motion_loras", "adapters")
# What an entry may say; the rest of a spec is read from the files themselves.
_MODEL = {
    "family": FAMILIES, "scheduler": tuple(PRESETS), "own_motion": str, "motion_modules": tuple, "steps": int,
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

    models: Mapping[str, ModelSpec] = field(default_factory=dict)
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
        models=reader.specs(kinds, "models", ModelSpec, _MODEL),
        motion_modules=reader.specs(kinds, "motion_modules", MotionSpec, _MOTION),
        loras=reader.specs(kinds, "loras", LoraSpec, _LORA),
        motion_loras=reader.specs(kinds, "motion_loras", LoraSpec, _LORA),
        adapters=reader.specs(kinds, "adapters", LoraSpec, _LORA),
    )


def hub_source(name: str) -> Source | None:
    """The source for ``org/name`` or ``org/name/file.safetensors``, if it is one."""
    if HUB_REPO.fullmatch(name):
        return Source(repo=name)
    found = HUB_FILE.fullmatch(name)
    return Source(repo=found[1], file=found[2]) if found and ".." not in name else None


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
            raise self.problem(where, f"has no {', '.join(unknown)}; it can have {', '.join(allowed)}")
        return value

    def specs(self, kinds: Mapping[str, Any], kind: str, make: Callable[..., Spec], known: Any) -> dict[str, Spec]:
        entries = self.mapping({} if kinds.get(kind) is None else kinds[kind], kind)
        return {name: self.spec(f"{kind}.{name}", name, entry, make, known) for name, entry in entries.items()}

    def spec(self, where: str, name: str, entry: Any, make: Callable[..., Spec], known: Mapping[str, Any]) -> Spec:
        entry = {"source": entry} if isinstance(entry, str) else entry
        entry = self.mapping(entry, where, ("source", "revision", *known))
        source = self.source(where, entry.get("source"), entry.get("revision"))
        values = {key: self.value(f"{where}.{key}", entry[key], known[key]) for key in known if key in entry}
        if make is ModelSpec:  # the files say which family and sizes it has
            values = {"family": None, "base": None, **values}
        assert {f.name for f in fields(make(name, source))} >= set(values)  # noqa: S101
        return make(name, source, **values)

    def source(self, where: str, given: Any, revision: Any) -> Source:
        if not isinstance(given, str) or not given:
            raise self.problem(where, "must have a source: org/name on the Hub, or a path")
        if revision is not None and not isinstance(revision, str):
            raise self.problem(where, f"has a revision that is no text: {revision!r}")
        path = Path(given) if self.folder is None else (self.folder / given).resolve()  # an absolute one stays as it is
        if path.is_absolute() and path.exists():
            return Source(path=path)
        source = hub_source(given)
        if source is None:
            raise self.problem(where, f"names the source {given!r}, which is neither a path that exists nor org/name")
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
            raise self.problem(where, f"is too small: {value!r}")
        return kind(value)
