"""Random weights with the sizes of Stable Diffusion 1.5 and AnimateDiff v2, in bfloat16, written as the Hub has them.

Speed does not depend on what weights mean. About 2.9 GB; or the same in small, to try a benchmark out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.local.models.tiny import build_tiny
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers, load_transformers

__all__ = ["write_real_size", "write_small_size"]

_NOISE = 1 << 20
_SMALL = (8, 8, 8, 8)
_WEIGHTS = "diffusion_pytorch_model"


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
    _write(folder, {"unet": unet, "vae": vae, "text_encoder": text}, motion)


def write_small_size(folder: Path) -> None:
    """The same folders with a model of 1 MB: for trying out whether a benchmark runs, not for measuring."""
    import torch

    diffusers = load_diffusers()
    with torch.device("meta"):
        unet = diffusers.UNet2DConditionModel(
            sample_size=64, block_out_channels=_SMALL, layers_per_block=1, cross_attention_dim=32, norm_num_groups=2,
            down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"), attention_head_dim=2,
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        )  # fmt: skip
        motion = diffusers.MotionAdapter(_SMALL, 1, motion_num_attention_heads=2, motion_norm_num_groups=2)
    _write(folder, {"unet": unet}, motion)


def _write(folder: Path, parts: dict[str, Any], motion: Any) -> None:
    model = folder / "real"
    build_tiny(model)  # for the tokenizer, the scheduler and the index; and for the parts that are not replaced
    index = json.loads((model / "model_index.json").read_text())
    index |= {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    index.pop("motion_adapter")
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    (model / "model_index.json").write_text(json.dumps(index))
    for name, part in parts.items():
        _save(part, model / name, "model" if name == "text_encoder" else _WEIGHTS)
    _save(motion, folder / "motion_modules" / "v2_sd15_mm", _WEIGHTS)
    _few_steps(folder / "motion_modules")


def _few_steps(modules: Path) -> None:
    """The same weights under the names of the motion modules for few steps, without a copy."""
    weights, settings = (modules / "v2_sd15_mm" / name for name in (f"{_WEIGHTS}.safetensors", "config.json"))
    for name, file in (
        ("animatelcm", f"{_WEIGHTS}.safetensors"),
        ("animateDiff-lightning", "animatediff_lightning_4step_diffusers.safetensors"),
    ):
        (modules / name).mkdir()
        (modules / name / file).hardlink_to(weights)
        (modules / name / "config.json").hardlink_to(settings)
    _save_lora(modules / "animatelcm" / "AnimateLCM_sd15_t2v_lora.safetensors", settings.parents[2] / "real")


def _save_lora(file: Path, model: Path) -> None:
    """A LoRA of one layer: once it is in the weights, how many it changes makes no difference."""
    import torch
    from safetensors.torch import save_file

    channels = json.loads((model / "unet" / "config.json").read_text())["block_out_channels"][0]
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_"
    halves = {f"{layer}A.weight": torch.zeros(1, channels), f"{layer}B.weight": torch.zeros(channels, 1)}
    save_file(halves, str(file))


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
