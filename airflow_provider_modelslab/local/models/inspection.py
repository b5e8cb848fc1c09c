"""What a model's folder says of it, and whether it can be loaded without running code that came with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.models.builtin import MODELS
from airflow_provider_modelslab.local.models.specs import ANIMATEDIFF, SD15, WAN, ModelSpec

__all__ = ["HOW_TO_ADD", "HOW_TO_SPLIT", "read_json", "read_model", "weights_in"]

HOW_TO_ADD = "pipeline.save_pretrained(folder) of a diffusers AnimateDiffVideoToVideoPipeline makes such a folder"

HOW_TO_SPLIT = (
    "StableDiffusionPipeline.from_single_file(file).save_pretrained(folder) of diffusers makes a folder of it"
)

_PIPELINES = {
    "StableDiffusionPipeline": ANIMATEDIFF,
    "AnimateDiffPipeline": ANIMATEDIFF,
    "AnimateDiffVideoToVideoPipeline": ANIMATEDIFF,
    "WanPipeline": WAN,
    "WanVideoToVideoPipeline": WAN,
}
_LIBRARIES = ("diffusers", "transformers", "stable_diffusion", None)  # None: a component that is left out
_SD15_SIZES = ([320, 640, 1280, 1280], 768)
_WAN_SCHEDULER = "own"
_WAN_DEFAULTS = ("guidance_scale", "frames", "width", "height", "fps")


def read_model(spec: ModelSpec, *, allow_pickle: bool) -> ModelSpec:
    """The spec with what its folder says; settings of a built-in or catalog entry stay.

    :raises InvalidRequestError: for ``model_id``, when the folder cannot be used.
    """
    folder = spec.folder
    if folder.is_file():
        raise _problem(f"{folder} is a checkpoint in one file; {HOW_TO_SPLIT}")
    index = read_json(folder / "model_index.json")
    kind = index.get("_class_name")
    family = _PIPELINES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise _problem(f"{folder} holds a {kind}; {', '.join(_PIPELINES)} can be run: {HOW_TO_ADD}")
    if spec.family not in (None, family):
        raise _problem(f"{folder} holds a {kind}, which is of the family {family}, not {spec.family}")
    return (_read_animatediff if family == ANIMATEDIFF else _read_wan)(spec, folder, index, allow_pickle)


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
    raise _problem(
        f"{folder} has no *.safetensors file; other kinds of weights can hold code and are not read: "
        "save the pipeline again with safe_serialization=True, or allow pickles (allow_pickle=True)"
    )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    :raises InvalidRequestError: for ``model_id``.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _problem(f"{path} cannot be read ({type(error).__name__}); {HOW_TO_ADD}") from None
    if not isinstance(data, dict):
        raise _problem(f"{path} is no JSON object; {HOW_TO_ADD}")
    return data


def _problem(problem: str) -> InvalidRequestError:
    return InvalidRequestError.of("model_id", problem)


def _read_animatediff(spec: ModelSpec, folder: Path, index: dict[str, Any], allow_pickle: bool) -> ModelSpec:
    has_motion = index.get("unet") == ["diffusers", "UNetMotionModel"]
    adapter = bool((index.get("motion_adapter") or [None])[0])
    motion = "unet" if has_motion else "motion_adapter" if adapter else None
    _check_no_code(folder, index, {"unet", "vae", "text_encoder", motion or "unet"}, allow_pickle)
    unet = read_json(folder / "unet" / "config.json")
    sizes = (unet.get("block_out_channels"), unet.get("cross_attention_dim"))
    return replace(
        spec,
        family=ANIMATEDIFF,
        base=SD15 if sizes == _SD15_SIZES else None,
        text_layers=_read_number(folder / "text_encoder" / "config.json", "num_hidden_layers"),
        max_frames=_read_number(folder / motion / "config.json", "motion_max_seq_length") if motion else 32,
        has_motion=has_motion,
        own_motion=(spec.own_motion or "v2_sd15_mm") if motion else None,
    )


def _read_wan(spec: ModelSpec, folder: Path, index: dict[str, Any], allow_pickle: bool) -> ModelSpec:
    _check_no_code(folder, index, {"transformer", "vae", "text_encoder"}, allow_pickle)
    if index.get("transformer_2", [None])[0]:
        raise _problem(f"{folder} has two transformers (Wan 2.2), which the video-to-video pipeline cannot run")
    ready = replace(spec, family=WAN, base=None, scheduler=_WAN_SCHEDULER, max_frames=81)
    if spec.id in MODELS:
        return ready
    unset, wan = ModelSpec(spec.id, spec.source), MODELS["wan2.1-t2v-1.3b"]
    changes: dict[str, Any] = {
        name: getattr(wan, name) for name in _WAN_DEFAULTS if getattr(spec, name) == getattr(unset, name)
    }
    return replace(ready, **changes)


def _check_no_code(folder: Path, index: dict[str, Any], weights: set[str], allow_pickle: bool) -> None:
    for name, component in index.items():
        if isinstance(component, list) and (not component or component[0] not in _LIBRARIES):
            raise _problem(f"{folder} brings its own code for {name} ({component}), which is never run")
    for name in sorted(weights):
        weights_in(folder / name, allow_pickle=allow_pickle)


def _read_number(path: Path, name: str) -> int:
    value = read_json(path).get(name)
    if not isinstance(value, int):
        raise _problem(f"{path} has no {name}; {HOW_TO_ADD}")
    return value
