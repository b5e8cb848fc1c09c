"""From a model's id to its folder: the tiny model that is built in, and whatever was saved in the folder of models.

A folder is taken as diffusers saves it, and only if loading it cannot run code that came with it: weights in
safetensors, and no classes of its own.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import RequestValidationError
from airflow_provider_modelslab.local.tiny import TINY_MAX_FRAMES, TINY_TEXT_LAYERS, build_tiny

__all__ = ["ANIMATEDIFF", "Catalog", "ModelSpec", "default_cache_dir"]

ANIMATEDIFF = "animatediff-sd15"
"""The family of Stable Diffusion 1.5 with AnimateDiff's motion modules."""

_TINY = "tiny"
_TINY_VERSION = 1  # part of the cached folder's name: raise it when tiny.py makes another model
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_PIPELINES = ("AnimateDiffPipeline", "AnimateDiffVideoToVideoPipeline")
_LIBRARIES = ("diffusers", "transformers", None)  # None: a component that is left out
_HOW_TO_ADD = "pipeline.save_pretrained(folder) of a diffusers AnimateDiffVideoToVideoPipeline makes such a folder"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model that can be run here.

    :param family: which code runs it; :data:`ANIMATEDIFF` is the only one.
    :param folder: its files, in diffusers' layout.
    :param text_layers: layers of the text encoder: the most that ``clip_skip`` can skip.
    :param max_frames: the most frames that its motion modules know.
    :param has_motion: whether the saved UNet holds the motion modules already; else they are in ``motion_adapter``.
    :param width: width in pixels where the request gives none; ``height`` likewise.
    :param guidance_scale: where the request gives none.
    :param fps: frames per second where the request gives none.
    """

    id: str
    folder: Path
    text_layers: int
    max_frames: int
    has_motion: bool
    family: str = ANIMATEDIFF
    width: int = 512
    height: int = 512
    guidance_scale: float = 7.5
    fps: int = 8


def default_cache_dir() -> Path:
    """``$XDG_CACHE_HOME/airflow-provider-modelslab``, by default under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "airflow-provider-modelslab"


class Catalog:
    """The models of one machine.

    :param model_dir: holds one folder for each model, named by its id; ``None`` leaves the tiny model alone.
    :param cache_dir: where the tiny model is built on first use; by default :func:`default_cache_dir`.
    """

    def __init__(self, model_dir: Path | None = None, cache_dir: Path | None = None) -> None:
        self.model_dir = model_dir
        self.cache_dir = cache_dir or default_cache_dir()

    def available(self) -> list[str]:
        """The ids that :meth:`lookup` knows, ``tiny`` first. A folder counts when it has a ``model_index.json``."""
        saved: list[str] = []
        if self.model_dir is not None and self.model_dir.is_dir():
            saved = sorted(
                folder.name
                for folder in self.model_dir.iterdir()
                if _ID.fullmatch(folder.name) and (folder / "model_index.json").is_file()
            )
        return [_TINY, *(name for name in saved if name != _TINY)]

    def lookup(self, model_id: str) -> ModelSpec:
        """The model of this id. No weights are read, and nothing is built.

        :raises RequestValidationError: for ``model_id``, when there is none, or its folder cannot be used.
        """
        if model_id == _TINY:
            folder = self.cache_dir / f"{_TINY}-{_TINY_VERSION}"
            # 512 x 512 would take minutes on a CPU, and show nothing more.
            return ModelSpec(_TINY, folder, TINY_TEXT_LAYERS, TINY_MAX_FRAMES, has_motion=True, width=128, height=128)
        # The pattern has no separator and no leading dot, so the folder cannot lie outside of model_dir.
        if not _ID.fullmatch(model_id):
            raise _problem(
                f"must be letters, digits, dots, dashes and underscores, not a dot first; got {model_id[:100]!r}"
            )
        if self.model_dir is None or not (self.model_dir / model_id / "model_index.json").is_file():
            raise self._unknown(model_id)
        return _read_spec(model_id, self.model_dir / model_id)

    def prepare(self, spec: ModelSpec) -> None:
        """Make sure that the model's files are there: builds the tiny model, the first time (seconds).

        :raises OSError: when ``cache_dir`` cannot be written.
        """
        if spec.id == _TINY:
            build_tiny(spec.folder)

    def _unknown(self, model_id: str) -> RequestValidationError:
        ids = self.available()
        near = difflib.get_close_matches(model_id, ids, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        folder = "<model_dir>" if self.model_dir is None else str(self.model_dir)
        return _problem(
            f"there is no model {model_id!r} on this machine{hint}; available: {', '.join(ids)}. "
            f"To add it, save it as {folder}/{model_id}: {_HOW_TO_ADD}"
        )


def _problem(problem: str) -> RequestValidationError:
    return RequestValidationError.of("model_id", problem)


def _read_spec(model_id: str, folder: Path) -> ModelSpec:
    index = _read_json(folder / "model_index.json")
    kind = index.get("_class_name")
    if kind not in _PIPELINES:
        raise _problem(f"{folder} holds a {kind}; {' or '.join(_PIPELINES)} can be run: {_HOW_TO_ADD}")
    has_motion = index.get("unet") == ["diffusers", "UNetMotionModel"]
    motion = "unet" if has_motion else "motion_adapter"
    _check_no_code(folder, index, {"unet", "vae", "text_encoder", motion})
    return ModelSpec(
        id=model_id,
        folder=folder,
        text_layers=_read_number(folder / "text_encoder" / "config.json", "num_hidden_layers"),
        max_frames=_read_number(folder / motion / "config.json", "motion_max_seq_length"),
        has_motion=has_motion,
    )


def _check_no_code(folder: Path, index: dict[str, Any], weights: set[str]) -> None:
    for name, component in index.items():
        if isinstance(component, list) and (not component or component[0] not in _LIBRARIES):
            raise _problem(f"{folder} brings its own code for {name} ({component}), which is never run")
    for name in sorted(weights):
        if not any((folder / name).glob("*.safetensors")):
            raise _problem(
                f"{folder / name} has no *.safetensors file; other kinds of weights can hold code and are not read: "
                "save the pipeline again with safe_serialization=True"
            )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _problem(f"{path} cannot be read ({type(error).__name__}); {_HOW_TO_ADD}") from None
    if not isinstance(data, dict):
        raise _problem(f"{path} is no JSON object; {_HOW_TO_ADD}")
    return data


def _read_number(path: Path, name: str) -> int:
    value = _read_json(path).get(name)
    if not isinstance(value, int):
        raise _problem(f"{path} has no {name}; {_HOW_TO_ADD}")
    return value
