"""A motion module from its file, in diffusers' names, whichever names it was saved with."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.models.weights import Tensors, read_tensors, weight_files

__all__ = ["CONFIG_NAMES", "MotionWeights", "is_motion_key", "read_motion", "rename_original"]

FIELD = "motion_module"

CONFIG_NAMES = (
    "motion_num_attention_heads",
    "motion_max_seq_length",
    "use_motion_mid_block",
    "temporal_transformer_layers_per_block",
    "temporal_transformer_layers_per_mid_block",
)
"""The settings of a ``UNetMotionModel`` that belong to its motion modules."""

# From AnimateDiff's own names to those of diffusers; the attention blocks are counted from 0 there and from 1 here.
_RENAMES = (
    (".temporal_transformer", ""),
    (".attention_blocks.0", ".attn1"),
    (".attention_blocks.1", ".attn2"),
    (".norms.0", ".norm1"),
    (".norms.1", ".norm2"),
    (".ff_norm", ".norm3"),
)
_POSITIONS = re.compile(r"\.(attn[12])\.pos_encoder\.pe$")


@dataclass(frozen=True, slots=True)
class MotionWeights:
    """A motion module's tensors, and the settings of a ``UNetMotionModel`` that they need."""

    config: dict[str, Any]
    tensors: Tensors

    @property
    def max_frames(self) -> int:
        """The most frames that it knows."""
        return int(self.config["motion_max_seq_length"])


def is_motion_key(name: str) -> bool:
    """Whether a tensor of a motion UNet belongs to its motion modules."""
    return ".motion_modules." in name


def rename_original(name: str) -> str:
    """A tensor's name in AnimateDiff's own files as diffusers has it; diffusers' names stay as they are."""
    name = name.removeprefix("module.")
    for old, new in _RENAMES:
        name = name.replace(old, new)
    return name


def read_motion(path: Path, *, device: str, dtype: Any, allow_pickle: bool) -> MotionWeights:
    """Read a motion module: a folder as diffusers saves a ``MotionAdapter``, or one file in either naming.

    A file has the settings of AnimateDiff's published modules (8 heads) unless a ``config.json`` lies beside it in its
    own folder; the frames that it knows and whether it has a middle block are seen from its tensors.

    :raises InvalidRequestError: for ``motion_module``, when there is no motion module in it.
    """
    files = weight_files(path, FIELD, allow_pickle=allow_pickle)
    tensors = {rename_original(name): t for name, t in read_tensors(files, device=device, dtype=dtype).items()}
    # AnimateDiff saves one table of positions for each attention; diffusers has one for each block of two.
    for name in [name for name in tensors if name.endswith("pos_encoder.pe")]:
        table = tensors.pop(name)
        tensors.setdefault(_POSITIONS.sub(".pos_embed.pe", name), table)
    tensors = {name: t for name, t in tensors.items() if is_motion_key(name)}
    if not tensors:
        raise InvalidRequestError.of(FIELD, f"{path} has no motion modules")
    saved = files[0].parent / "config.json"
    config = json.loads(saved.read_text(encoding="utf-8")) if saved.is_file() else {}
    if config.get("conv_in_channels"):
        raise InvalidRequestError.of(
            FIELD, f"{path} is made for a UNet with another input (PIA), which is not supported"
        )
    tables = [t for name, t in tensors.items() if name.endswith("pos_embed.pe")]
    frames = int(tables[0].shape[1]) if tables else config.get("motion_max_seq_length", 32)
    return MotionWeights(
        {
            "motion_num_attention_heads": config.get("motion_num_attention_heads", 8),
            "motion_max_seq_length": frames,
            "use_motion_mid_block": any(name.startswith("mid_block.") for name in tensors),
            "temporal_transformer_layers_per_block": config.get("motion_transformer_layers_per_block", 1),
            "temporal_transformer_layers_per_mid_block": config.get("motion_transformer_layers_per_mid_block", 1),
        },
        tensors,
    )
