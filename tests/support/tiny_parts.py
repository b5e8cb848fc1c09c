"""Motion modules and LoRAs for the tiny models, a Wan and a CogVideoX model: real files of a few kB, random weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from airflow_provider_modelslab.local.models.tiny import build_tiny
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers, load_transformers

__all__ = [
    "cogvideox_model",
    "kohya",
    "motion_adapter",
    "original_motion_names",
    "save_lora",
    "spatial_lora",
    "split_model",
    "unet_weights",
    "wan_model",
]

Tensors = dict[str, torch.Tensor]
_CHANNELS = (8, 8, 8, 8)


def motion_adapter(seed: int, **changes: Any) -> Any:
    """A motion module for the tiny model."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = load_diffusers().MotionAdapter(
            **{
                "block_out_channels": _CHANNELS,
                "motion_layers_per_block": 1,
                "motion_num_attention_heads": 2,
                "motion_norm_num_groups": 2,
                **changes,
            }
        )
        with torch.no_grad():  # a fresh one ends in zeros, and would do nothing
            for parameter in adapter.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return adapter


def split_model(folder: Path, *, motion: Any | None = None) -> Path:
    """The tiny model as Stable Diffusion 1.5 is saved: a UNet for pictures, and ``motion_adapter`` beside it or not."""
    whole = load_diffusers().UNetMotionModel.from_pretrained(str(build_tiny(folder.parent / ".whole") / "unet"))
    plain = load_diffusers().UNet2DConditionModel(
        sample_size=64,
        block_out_channels=_CHANNELS,
        layers_per_block=1,
        down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        cross_attention_dim=32,
        norm_num_groups=2,
        attention_head_dim=2,
    )
    plain.load_state_dict({name: whole.state_dict()[name] for name in plain.state_dict()})
    shutil.copytree(folder.parent / ".whole", folder)
    shutil.rmtree(folder / "unet")
    plain.save_pretrained(str(folder / "unet"))
    index = (folder / "model_index.json").read_text()
    index = index.replace("UNetMotionModel", "UNet2DConditionModel")
    if motion is None:
        index = index.replace("AnimateDiffVideoToVideoPipeline", "StableDiffusionPipeline")
    else:
        motion.save_pretrained(str(folder / "motion_adapter"))
        index = index.replace(
            '"motion_adapter": [\n    null,\n    null\n  ]', '"motion_adapter": ["diffusers", "MotionAdapter"]'
        )
    (folder / "model_index.json").write_text(index)
    return folder


def original_motion_names(tensors: Tensors) -> Tensors:
    """A motion module in the names that AnimateDiff's own files have."""
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        if name.endswith(".pos_embed.pe"):
            head = name.removesuffix(".pos_embed.pe").replace(
                ".transformer_blocks.", ".temporal_transformer.transformer_blocks."
            )
            for attention in range(2):
                renamed[f"{head}.attention_blocks.{attention}.pos_encoder.pe"] = tensor.clone()
            continue
        head, _, rest = name.partition(".motion_modules.")
        number, _, rest = rest.partition(".")
        for new, old in (("attn1", "attention_blocks.0"), ("attn2", "attention_blocks.1"), ("norm1", "norms.0")):
            rest = rest.replace(f".{new}.", f".{old}.")
        rest = rest.replace(".norm2.", ".norms.1.").replace(".norm3.", ".ff_norm.")
        renamed[f"{head}.motion_modules.{number}.temporal_transformer.{rest}"] = tensor.clone()
    return renamed


def spatial_lora(
    unet: Any, text_encoder: Any | None = None, *, seed: int = 0, rank: int = 2, part: str = "attn"
) -> Tensors:
    """Random matrices for attention layers whose name has ``part``, in peft's names as diffusers saves them."""
    generator = torch.Generator().manual_seed(seed)
    tensors: Tensors = {}
    for prefix, model in (("unet", unet), ("text_encoder", text_encoder)):
        for name, weight in model.state_dict().items() if model is not None else ():
            layer = name.removesuffix(".weight")
            if layer == name or not layer.endswith(("to_q", "to_v", "to_out.0", "q_proj", "out_proj", "conv1")):
                continue
            if prefix == "unet" and part not in layer:
                continue
            columns = weight[0].numel()
            down = torch.randn(rank, columns, generator=generator) * 0.5
            up = torch.randn(weight.shape[0], rank, generator=generator) * 0.5
            if weight.dim() == 4:
                down, up = down.reshape(rank, *weight.shape[1:]), up[..., None, None]
            tensors[f"{prefix}.{layer}.lora_A.weight"], tensors[f"{prefix}.{layer}.lora_B.weight"] = down, up
    return tensors


def kohya(tensors: Tensors, alpha: float) -> Tensors:
    """The same in the names of kohya's trainer, with an alpha for each layer."""
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        target, _, rest = name.partition(".")
        layer, _, half = rest.rpartition(".lora_")
        text = "text_model_" if target == "text_encoder" and not layer.startswith("text_model.") else ""
        head = f"lora_{'unet' if target == 'unet' else 'te'}_{text}{layer.replace('.', '_')}"
        renamed[f"{head}.lora_{'down' if half.startswith('A') else 'up'}.weight"] = tensor
        renamed[f"{head}.alpha"] = torch.tensor(alpha)
    return renamed


def save_lora(tensors: Tensors, path: Path) -> Path:
    """Write a safetensors file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in tensors.items()}, str(path))
    return path


def save_parts(folder: Path, unet: Any, text: Any) -> Path:
    """Parts of every kind that fit the tiny sizes, under built-in names where there are some; returns ``folder``."""
    motion = folder / "motion_modules"
    for seed, name, changes in (
        (1, "v2_sd15_mm", {}),
        (2, "v3_sd15_mm", {"use_motion_mid_block": False}),
        (3, "animatelcm", {}),
        (4, "short", {"motion_max_seq_length": 5}),
    ):
        motion_adapter(seed, **changes).save_pretrained(str(motion / name))
    for steps in (2, 4, 8):
        tensors = motion_adapter(10 + steps).state_dict()
        name = f"animatediff_lightning_{steps}step_diffusers.safetensors"
        save_lora(tensors, motion / "animateDiff-lightning" / name)
    spatial = spatial_lora(unet, text, seed=20, part=".attentions.")
    save_lora(spatial, folder / "loras" / "style.safetensors")
    other = spatial_lora(unet, seed=21, part=".attentions.")
    save_lora(kohya(other, 1.0), folder / "loras" / "kohya.safetensors")
    lcm = spatial_lora(unet, seed=22, part=".attentions.")
    save_lora(lcm, motion / "animatelcm" / "AnimateLCM_sd15_t2v_lora.safetensors")
    zoom = spatial_lora(unet, seed=23, part=".motion_modules.")
    save_lora(zoom, folder / "motion_loras" / "zoom-in.safetensors")
    pan = spatial_lora(unet, seed=24, part=".motion_modules.")
    save_lora(pan, folder / "motion_loras" / "v2_lora_PanLeft.safetensors")
    domain = spatial_lora(unet, seed=25, part=".attentions.")
    save_lora(domain, folder / "adapters" / "v3_sd15_adapter.safetensors")
    return folder


def unet_weights(model: Path) -> Tensors:
    """The tensors of a saved model's UNet."""
    return dict(load_file(str(model / "unet" / "diffusion_pytorch_model.safetensors")))


def _letters() -> Any:
    """A tokenizer like T5's whose tokens are letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {chr(code): code for code in range(32, 127)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return load_transformers().PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def cogvideox_model(folder: Path) -> Path:
    """A CogVideoX pipeline of some 100 kB, with the sizes of diffusers' own fast tests."""
    diffusers, transformers = load_diffusers(), load_transformers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = diffusers.CogVideoXVideoToVideoPipeline(
            tokenizer=_letters(),
            text_encoder=transformers.T5EncoderModel(
                transformers.T5Config(vocab_size=128, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
            ).eval(),
            transformer=diffusers.CogVideoXTransformer3DModel(
                num_attention_heads=4,
                attention_head_dim=8,
                in_channels=4,
                out_channels=4,
                time_embed_dim=2,
                text_embed_dim=32,
                num_layers=1,
                sample_width=4,
                sample_height=4,
                sample_frames=9,
                patch_size=2,
                temporal_compression_ratio=4,
                max_text_seq_length=226,
            ),
            vae=diffusers.AutoencoderKLCogVideoX(
                down_block_types=("CogVideoXDownBlock3D",) * 4,
                up_block_types=("CogVideoXUpBlock3D",) * 4,
                block_out_channels=(8, 8, 8, 8),
                latent_channels=4,
                layers_per_block=1,
                norm_num_groups=2,
                temporal_compression_ratio=4,
            ),
            scheduler=diffusers.CogVideoXDDIMScheduler(),
        )
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return folder


def wan_model(folder: Path) -> Path:
    """A Wan 2.1 pipeline of a few hundred kB, with the sizes of diffusers' own fast tests."""
    diffusers, transformers = load_diffusers(), load_transformers()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline = diffusers.WanVideoToVideoPipeline(
            tokenizer=_letters(),
            text_encoder=transformers.UMT5EncoderModel(
                transformers.UMT5Config(
                    vocab_size=128,
                    d_model=32,
                    d_kv=8,
                    d_ff=37,
                    num_layers=2,
                    num_heads=4,
                    relative_attention_num_buckets=8,
                )
            ).eval(),
            transformer=diffusers.WanTransformer3DModel(
                patch_size=(1, 2, 2),
                num_attention_heads=2,
                attention_head_dim=12,
                in_channels=16,
                out_channels=16,
                text_dim=32,
                freq_dim=256,
                ffn_dim=32,
                num_layers=2,
                cross_attn_norm=True,
                qk_norm="rms_norm_across_heads",
                rope_max_seq_len=32,
            ),
            vae=diffusers.AutoencoderKLWan(
                base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
            ),
            scheduler=diffusers.UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
            ),
        )
    pipeline.save_pretrained(str(folder), safe_serialization=True)
    return folder
