"""What a model's folder says of it, and whether it can be loaded without running code that came with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError

__all__ = [
    "HOW_TO_ADD",
    "HOW_TO_SPLIT",
    "check_no_code",
    "problem",
    "read_json",
    "read_number",
    "weights_in",
]

HOW_TO_ADD = "to make such a folder, call pipeline.save_pretrained(folder) of a diffusers pipeline"

HOW_TO_SPLIT = (
    "to make a folder of it, call StableDiffusionPipeline.from_single_file(file).save_pretrained(folder) of diffusers"
)

_LIBRARIES = ("diffusers", "transformers", "stable_diffusion", None)  # None: a component that is left out


def weights_in(folder: Path, *, allow_pickle: bool) -> tuple[str, str | None]:
    """The kind of weights of a component: ``safetensors`` or ``bin``, and the variant (``fp16``) if that is all.

    :raises InvalidRequestError: for ``model_id``, when there are none that may be read.
    """
    kinds = ("safetensors", "bin") if allow_pickle else ("safetensors",)
    for kind in kinds:
        names = [path.name for path in folder.glob(f"*.{kind}")]
        if any(f".fp16.{kind}" not in name for name in names):
            return kind, None
        if names:
            return kind, "fp16"
    raise problem(
        f"{folder} has no *.safetensors file. Other kinds of weights can contain code, so they are not read: "
        "save the pipeline again with safe_serialization=True, or allow pickles (allow_pickle=True)"
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    :raises InvalidRequestError: for ``model_id``.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise problem(f"{path} cannot be read ({type(error).__name__}); {HOW_TO_ADD}") from None
    if not isinstance(data, dict):
        raise problem(f"{path} is not a JSON object; {HOW_TO_ADD}")
    return data


def read_number(path: Path, name: str) -> int:
    """A whole number in a JSON file.

    :raises InvalidRequestError: for ``model_id``.
    """
    value = read_json(path).get(name)
    if not isinstance(value, int):
        raise problem(f"{path} has no {name}; {HOW_TO_ADD}")
    return value


def check_no_code(folder: Path, index: Mapping[str, Any]) -> None:
    """Refuse a model with classes of its own.

    :param index: its ``model_index.json``.
    :raises InvalidRequestError: for ``model_id``.
    """
    for name, component in index.items():
        if isinstance(component, list) and (not component or component[0] not in _LIBRARIES):
            raise problem(
                f"{folder} contains its own code for {name} ({component}). Such code is never run; use another model"
            )


def problem(text: str) -> InvalidRequestError:
    """An error for ``model_id``."""
    return InvalidRequestError.of("model_id", f"cannot be used: {text}")
