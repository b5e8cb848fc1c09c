"""A motion UNet from its files in half a second instead of fifteen.

``from_pretrained(base, motion_adapter=adapter)`` fills a UNet of 1.3 billion parameters with random numbers, and then
copies the real ones over them. Here it is built without memory (torch's ``meta`` device), and the tensors of the files
are put in as they are: mapped from disk, not copied. The tensors of the picture UNet and of the motion modules together
are exactly those of the motion UNet.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.families.animatediff.motion import FIELD
from airflow_provider_modelslab.local.models.weights import Tensors
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers

__all__ = ["build_skeleton", "fill_skeleton", "skeleton_config", "skeleton_key"]

_POSITIONS = "pos_embed.pe"


def skeleton_config(unet: Mapping[str, Any], motion: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the motion UNet for a UNet of pictures (or of another motion module) and a motion module.

    As ``UNetMotionModel.from_unet2d`` has it.
    """
    known = inspect.signature(load_diffusers().UNetMotionModel.__init__).parameters
    config: dict[str, Any] = {name: value for name, value in unet.items() if name in known}
    for blocks in ("down_block_types", "up_block_types"):
        half = blocks.partition("_")[0].capitalize()
        config[blocks] = [
            f"CrossAttn{half}BlockMotion" if "CrossAttn" in block else f"{half}BlockMotion" for block in config[blocks]
        ]
    config["num_attention_heads"] = unet.get("num_attention_heads") or unet.get("attention_head_dim")
    return {**config, **motion}


def skeleton_key(motion: Mapping[str, Any]) -> tuple[str, ...]:
    """Equal for motion modules that fit into the same shell."""
    return tuple(f"{name}={motion[name]}" for name in sorted(motion))


def build_skeleton(config: Mapping[str, Any]) -> Any:
    """A ``UNetMotionModel`` without weights."""
    import torch

    unet_class = load_diffusers().UNetMotionModel
    with torch.device("meta"):
        shell = unet_class.from_config(dict(config))
    return shell.eval().requires_grad_(False)


def fill_skeleton(shell: Any, tensors: Tensors) -> None:
    """Put the tensors in, without a copy. Tables of positions that a file leaves out are computed.

    :raises InvalidRequestError: for ``motion_module``, when they are not those that the UNet has.
    """
    wanted = shell.state_dict()
    lacking = {name: wanted[name] for name in wanted.keys() - tensors.keys() if name.endswith(_POSITIONS)}
    like = next(iter(tensors.values()))
    filled = tensors | {name: _positions(table.shape, like) for name, table in lacking.items()}
    try:
        shell.load_state_dict(filled, strict=True, assign=True)
    except RuntimeError as error:
        problem = " ".join(str(error).split())[:300]
        raise InvalidRequestError.of(FIELD, f"the motion module does not fit the model: {problem}") from None


def _positions(shape: Any, like: Any) -> Any:
    from diffusers.models.embeddings import SinusoidalPositionalEmbedding

    table = SinusoidalPositionalEmbedding(shape[2], max_seq_length=shape[1]).pe
    return table.to(device=like.device, dtype=like.dtype)
