"""Random weights with the sizes of Stable Diffusion 1.5 and AnimateDiff v2, in bfloat16, written as the Hub has them.

Speed does not depend on what weights mean. About 2.9 GB.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.local.libraries import load_diffusers, load_transformers
from airflow_provider_modelslab.local.tiny import build_tiny

__all__ = ["write_real_size"]

_NOISE = 1 << 20


def write_real_size(folder: Path) -> None:
    """Write ``folder/real`` (a StableDiffusionPipeline) and ``folder/motion_modules/v2_sd15_mm``."""
    import torch

    diffusers, transformers = load_diffusers(), load_transformers()
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
        vae = diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            sample_size=512,
        )
        text = transformers.CLIPTextModel(
            transformers.CLIPTextConfig(
                hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
                max_position_embeddings=77, bos_token_id=512, eos_token_id=513, pad_token_id=513,
            )
        )  # fmt: skip
        motion = diffusers.MotionAdapter(motion_max_seq_length=32)
    model = folder / "real"
    build_tiny(model)  # for the tokenizer, the scheduler and the index; the rest is replaced
    index = json.loads((model / "model_index.json").read_text())
    index |= {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    index.pop("motion_adapter")
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    (model / "model_index.json").write_text(json.dumps(index))
    for part, name in ((unet, "unet"), (vae, "vae"), (text, "text_encoder")):
        _save(part, model / name, "model" if name == "text_encoder" else "diffusion_pytorch_model")
    _save(motion, folder / "motion_modules" / "v2_sd15_mm", "diffusion_pytorch_model")


def _save(part: Any, folder: Path, name: str) -> None:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*"):
        old.unlink()
    (part.save_config if hasattr(part, "save_config") else part.config.save_pretrained)(str(folder))
    noise = (torch.randn(_NOISE, generator=torch.Generator().manual_seed(0)) * 0.02).to(torch.bfloat16)

    def values(key: str, like: Any) -> Any:
        if "norm" in key:
            return torch.full(like.shape, float(key.endswith("weight")), dtype=torch.bfloat16)
        return noise.repeat(-(-like.numel() // _NOISE))[: like.numel()].reshape(like.shape).clone()

    tensors = {key: values(key, like) for key, like in part.state_dict().items()}
    save_file(tensors, str(folder / f"{name}.safetensors"), metadata={"format": "pt"})
