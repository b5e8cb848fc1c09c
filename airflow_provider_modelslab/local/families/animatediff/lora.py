"""LoRAs of every usual naming, added to a model's weights.

A LoRA is two thin matrices for a layer; the weight becomes ``W + strength * alpha / rank * (up @ down)``. The sum is
made once, in float32, when the set of LoRAs changes, so a step costs no more than without LoRAs. It is kept apart
from the weights as they were loaded, which are never changed: taking a LoRA away leaves no trace.

Names that are read: diffusers' (old and new), peft's, kohya's (``lora_unet_...``, ``lora_te_...``) and AnimateDiff's
own, which diffusers 0.42 takes with no more than a warning and without effect.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.families.animatediff.motion import rename_original
from airflow_provider_modelslab.local.models.weights import Tensors, read_metadata, read_tensors, weight_files

__all__ = ["LoraLayer", "add_loras", "read_lora"]

log = logging.getLogger(__name__)

TARGETS = ("unet", "text_encoder")

_PAIR = re.compile(
    r"(?P<layer>.+?)(?P<old>_lora)?\.(?:(?:lora|lora_linear_layer)\.)?"
    r"(?P<half>lora_A|lora_B|lora_down|lora_up|down|up)(?:\.default)?\.weight"
)
_DOWN = {"lora_A", "lora_down", "down"}
_OTHER_KINDS = ("lokr_", "hada_", "dora_scale", "lora_magnitude_vector", "oft_", ".diff")
# In files of old diffusers, which named an attention's layers in one way for both models.
_OLD_UNET = {"to_out": "to_out.0"}
_OLD_TEXT = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}
_METADATA = "lora_adapter_metadata"  # where diffusers saves the alphas of peft's files


@dataclass(frozen=True, slots=True)
class LoraLayer:
    """The two matrices for one layer.

    :param target: one of :data:`TARGETS`.
    :param layer: the layer's name in that model, without ``.weight``.
    :param scale: ``alpha / rank``.
    """

    target: str
    layer: str
    down: Any
    up: Any
    scale: float

    def fits(self, size: tuple[int, ...]) -> bool:
        """Whether the layer's weight may have this size."""
        return bool(self.up.shape[0] == size[0] and self.down[0].numel() == math.prod(size[1:]))


def read_lora(path: Path, field: str, layers: Mapping[str, Iterable[str]], *, allow_pickle: bool) -> list[LoraLayer]:
    """What a LoRA's file or folder has for the layers of a model.

    Layers that the model has not are skipped with a warning: a motion LoRA may cover a middle block that the motion
    module lacks.

    :param field: the attribute of the request that named it, for the error.
    :param layers: the names of the layers (without ``.weight``) of each of :data:`TARGETS`.
    :raises InvalidRequestError: for ``field``, when nothing in the file fits, or it is of another kind than LoRA.
    """
    (file, *_) = files = weight_files(path, field, allow_pickle=allow_pickle)
    tensors = read_tensors(files)
    other = sorted({kind.strip("._") for kind in _OTHER_KINDS for name in tensors if kind in name})
    if other:
        raise InvalidRequestError.of(field, f"{file} contains {', '.join(other)}; only LoRA is supported in such files")
    names = _Names(layers)
    alphas = _Alphas(read_metadata(file))
    halves: dict[tuple[str, str], dict[str, Any]] = {}
    unknown: set[str] = set()
    for key, tensor in tensors.items():
        found = _PAIR.fullmatch(key)
        if found is None:
            continue
        place = names.find(found["layer"], old=bool(found["old"]))
        if place is None:
            unknown.add(found["layer"])
            continue
        halves.setdefault(place, {})["down" if found["half"] in _DOWN else "up"] = tensor
        alpha = tensors.get(f"{found['layer']}.alpha")
        if alpha is not None:
            halves[place]["alpha"] = float(alpha)
    result = [
        LoraLayer(*place, half["down"], half["up"], alphas.scale(place, half.get("alpha"), half["down"].shape[0]))
        for place, half in halves.items()
        if "down" in half and "up" in half
    ]
    if not result:
        raise InvalidRequestError.of(
            field,
            f"{file} does not fit this model: none of its {len(tensors)} tensors belongs to a layer of the model",
        )
    if unknown:
        log.warning("%s: %d of its layers do not exist in this model and are ignored", file.name, len(unknown))
    return result


def add_loras(weights: Mapping[str, Any], loras: Iterable[tuple[list[LoraLayer], float]], target: str) -> Tensors:
    """The weights that change, by name; ``weights`` itself is left as it is.

    :param loras: the layers of each LoRA with its strength.
    :param target: one of :data:`TARGETS`, which ``weights`` are of.
    """
    sums: Tensors = {}
    for layers, strength in loras:
        for part in layers:
            if part.target != target:
                continue
            name = f"{part.layer}.weight"
            weight = weights[name]
            device = weight.device
            up, down = (half.to(device).float().flatten(1) for half in (part.up, part.down))
            change = (up @ down).reshape(weight.shape) * (part.scale * strength)
            sums[name] = sums[name] + change if name in sums else weight.float() + change
    return {name: total.to(weights[name].dtype) for name, total in sums.items()}


class _Names:
    """From the name in a file to the target and the layer."""

    def __init__(self, layers: Mapping[str, Iterable[str]]) -> None:
        self._layers = {target: set(names) for target, names in layers.items()}
        # kohya writes underscores for dots, which only the model can tell from those of the names themselves.
        self._kohya: dict[str, tuple[str, str]] = {}
        for name in self._layers.get("unet", ()):
            self._kohya["lora_unet_" + name.replace(".", "_")] = ("unet", name)
        for name in self._layers.get("text_encoder", ()):
            flat = name.removeprefix("text_model.").replace(".", "_")
            for prefix in ("lora_te_", "lora_te1_"):
                self._kohya[f"{prefix}text_model_{flat}"] = ("text_encoder", name)

    def find(self, layer: str, *, old: bool) -> tuple[str, str] | None:
        if layer in self._kohya:
            return self._kohya[layer]
        name = rename_original(layer.removeprefix("base_model.model.")).replace(".processor.", ".")
        target = next((target for target in TARGETS if name.startswith(f"{target}.")), "unet")
        name = name.removeprefix(f"{target}.")
        if old:
            head, _, last = name.rpartition(".")
            name = f"{head}.{(_OLD_UNET if target == 'unet' else _OLD_TEXT).get(last, last)}"
        for candidate in (name, name.removeprefix("text_model."), f"text_model.{name}"):
            if candidate in self._layers.get(target, ()):
                return target, candidate
        return None


class _Alphas:
    """The scales of a file's layers. Without an alpha it is the rank, so the scale is 1."""

    def __init__(self, metadata: Mapping[str, str]) -> None:
        self._saved: dict[str, Any] = json.loads(metadata.get(_METADATA, "{}"))

    def scale(self, place: tuple[str, str], alpha: float | None, rank: int) -> float:
        target, layer = place
        if alpha is None and f"{target}.lora_alpha" in self._saved:
            alpha = float(self._saved[f"{target}.lora_alpha"])
            for pattern, value in (self._saved.get(f"{target}.alpha_pattern") or {}).items():
                if layer == pattern or layer.endswith(f".{pattern}"):
                    alpha = float(value)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self._saved.get(f"{target}.use_rslora") else rank)
