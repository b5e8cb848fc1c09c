"""From a name to what it stands for: a model, a motion module, a LoRA, a motion LoRA, a domain adapter.

A name is looked up in this order; the first that knows it wins:

1. the user's catalog file (:mod:`~.catalog_file`); ``catalog.json``, ``.yaml`` or ``.yml`` in ``model_dir`` by default,
2. ``model_dir``: ``<model_dir>/<model id>/`` as diffusers saves it; ``motion_modules/<name>``, ``loras/<name>``,
   ``motion_loras/<name>`` and ``adapters/<name>`` there as a folder or ``<name>.safetensors``,
3. what is built in (:mod:`~.builtin`, and each family's own models; ``demo`` and its LoRA ship with this package; and
   the ``tiny`` model),
4. ``org/name`` (or ``org/name/file.safetensors``) on the Hugging Face Hub.

Files under ``model_dir`` that bear a built-in name replace its weights; its settings stay. Nothing is loaded in a way
that could run code which came with it: no classes of a repository's own, and pickles only if they are allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.cache_dir import default_cache_dir
from airflow_provider_modelslab.local.families.registry import BUILTIN_MODELS, FAMILIES, read_model
from airflow_provider_modelslab.local.models import hub
from airflow_provider_modelslab.local.models.catalog_file import CatalogFile, read_catalog, read_catalog_file
from airflow_provider_modelslab.local.models.components import ID, Components
from airflow_provider_modelslab.local.models.demo_model import DEMO_MODEL
from airflow_provider_modelslab.local.models.hub import hub_source
from airflow_provider_modelslab.local.models.inspection import HOW_TO_ADD, HOW_TO_SPLIT
from airflow_provider_modelslab.local.models.specs import ANIMATEDIFF, ModelEntry, ModelSpec, Source
from airflow_provider_modelslab.local.models.suggestions import hint
from airflow_provider_modelslab.local.models.tiny import TINY_MAX_FRAMES, TINY_TEXT_LAYERS, build_tiny

__all__ = ["Catalog"]

_TINY = "tiny"
_TINY_VERSION = 1  # part of the cached folder's name: raise it when tiny.py makes another model


class Catalog:
    """What can be used on one machine.

    :param model_dir: the folder of models and parts; ``None`` leaves what is built in and the Hub.
    :param cache_dir: where the tiny model is built on first use; by default :func:`default_cache_dir`.
    :param catalog_file: the user's own entries, in a file or as a mapping; by default ``model_dir/catalog.json``
        (``.yaml``, ``.yml``) if it is there.
    :param offline: use nothing from the Hub but what was downloaded before.
    :param allow_pickle: read ``.bin``, ``.ckpt`` and ``.pt`` files too, by torch's loader for weights alone.
    :raises ValueError: for a catalog file that cannot be used.
    """

    def __init__(
        self,
        model_dir: Path | None = None,
        cache_dir: Path | None = None,
        *,
        catalog_file: Path | Mapping[str, Any] | None = None,
        offline: bool = False,
        allow_pickle: bool = False,
    ) -> None:
        self.model_dir = model_dir
        self.cache_dir = cache_dir or default_cache_dir()
        self.offline = offline
        self.allow_pickle = allow_pickle
        self.own = self._read_own(catalog_file)
        self._fetched: dict[Source, Path] = {}
        self._configs: dict[Source, Path] = {}
        self.parts = Components(model_dir, self.own, offline=offline, allow_pickle=allow_pickle)

    def available(self) -> list[str]:
        """The model ids that are known by name; first those that need no download, ``demo`` and ``tiny``."""
        saved: list[str] = []
        if self.model_dir is not None and self.model_dir.is_dir():
            saved = [entry.name for entry in self.model_dir.iterdir() if self._is_model(entry.name)]
        first = [DEMO_MODEL.id, _TINY]
        return [*first, *sorted({*saved, *self.own.models, *BUILTIN_MODELS}.difference(first))]

    def lookup(self, model_id: str) -> ModelSpec:
        """The model of this id, with the defaults and limits of its family. No weights are read or downloaded.

        Of a repository on the Hub that is not built in, the configuration files (a few kB) are downloaded, once: they
        say which family runs it.

        :raises InvalidRequestError: for ``model_id``, when there is none, or it cannot be used.
        :raises JobFailedError: when the Hub does not answer.
        """
        if model_id == _TINY:
            return FAMILIES[ANIMATEDIFF].spec(self._tiny())
        entry = self._entry(model_id)
        if entry.source.path is not None:
            return read_model(entry, allow_pickle=self.allow_pickle)
        self.parts.check_hub(entry.source, "model_id", model_id)
        if entry.family is not None and entry is BUILTIN_MODELS.get(model_id):
            return FAMILIES[entry.family].spec(entry)
        if entry.source not in self._configs:
            self._configs[entry.source] = hub.fetch_configs(entry.source, offline=self.offline)
        folder = self._configs[entry.source]
        return replace(self._read(entry, folder, weights=False), source=entry.source)

    def prepare(self, spec: ModelSpec) -> ModelSpec:
        """The same model with its files on this machine, and with what they say of it.

        Builds the tiny model the first time (seconds), downloads one from the Hub the first time (gigabytes).

        :raises InvalidRequestError: for ``model_id``, when what was downloaded cannot be run here.
        :raises JobFailedError: when the Hub does not answer.
        :raises OSError: when ``cache_dir`` cannot be written.
        """
        if spec.id == _TINY:
            build_tiny(spec.folder)
            return spec
        if spec.source.path is not None:
            return spec
        return self._read(self._entry(spec.id), self.fetch(spec.source, "model_id"))

    def fetch(self, source: Source, field: str) -> Path:
        """The files of a source on this machine; see :func:`~.hub.fetch`. The Hub is asked once for each."""
        if source not in self._fetched:
            self._fetched[source] = hub.fetch(source, field, offline=self.offline, allow_pickle=self.allow_pickle)
        return self._fetched[source]

    def _entry(self, model_id: str) -> ModelEntry:
        """What the catalog says of a model.

        :raises InvalidRequestError: for ``model_id``, when there is none of this id.
        """
        if model_id in self.own.models:
            return self.own.models[model_id]
        if self.model_dir is not None and self._is_model(model_id):
            known = BUILTIN_MODELS.get(model_id) or ModelEntry(model_id, Source())
            return replace(known, source=Source(path=self.model_dir / model_id))
        if model_id in BUILTIN_MODELS:
            return BUILTIN_MODELS[model_id]
        source = hub_source(model_id)
        if source is None or source.file:
            raise self._unknown_model(model_id)
        return ModelEntry(model_id, source)

    def _tiny(self) -> ModelEntry:
        # 512 x 512 would take minutes on a CPU, and show nothing more.
        settings = {
            "base": None, "text_layers": TINY_TEXT_LAYERS, "max_frames": TINY_MAX_FRAMES, "own_motion": "v2_sd15_mm",
            "has_motion": True, "width": 128, "height": 128,
        }  # fmt: skip
        return ModelEntry(_TINY, Source(path=self.cache_dir / f"{_TINY}-{_TINY_VERSION}"), ANIMATEDIFF, settings)

    def _read(self, entry: ModelEntry, folder: Path, *, weights: bool = True) -> ModelSpec:
        here = replace(entry, source=replace(entry.source, path=folder))
        return read_model(here, allow_pickle=self.allow_pickle, weights=weights)

    def _is_model(self, model_id: str) -> bool:
        # The pattern has no separator and no leading dot, so the folder cannot lie outside of model_dir.
        return bool(
            self.model_dir and ID.fullmatch(model_id) and (self.model_dir / model_id / "model_index.json").is_file()
        )

    def _read_own(self, given: Path | Mapping[str, Any] | None) -> CatalogFile:
        if isinstance(given, Mapping):
            return read_catalog(given, where="The catalog")
        file = given or self._default_file()
        return read_catalog_file(file) if file else CatalogFile()

    def _default_file(self) -> Path | None:
        if self.model_dir is None:
            return None
        files = (self.model_dir / f"catalog.{suffix}" for suffix in ("json", "yaml", "yml"))
        return next((path for path in files if path.is_file()), None)

    def _unknown_model(self, model_id: str) -> InvalidRequestError:
        if not ID.fullmatch(model_id):
            return InvalidRequestError.of(
                "model_id",
                "must be letters, digits, dots, dashes and underscores, without a dot first; or org/name on the Hub; "
                f"got {model_id[:100]!r}",
            )
        if self.model_dir is not None and (self.model_dir / f"{model_id}.safetensors").is_file():
            file = self.model_dir / f"{model_id}.safetensors"
            return InvalidRequestError.of("model_id", f"{file} is a checkpoint in one file; {HOW_TO_SPLIT}")
        ids = self.available()
        return InvalidRequestError.of(
            "model_id",
            f"there is no model {model_id!r} on this machine{hint(model_id, ids)}; available: {', '.join(ids)}. "
            f"To add it, save it as {self.parts.shown}/{model_id}: {HOW_TO_ADD}",
        )
