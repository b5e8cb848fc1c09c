"""Training of the style LoRA: a style that the base model has never seen, in two thin matrices for each layer."""

from __future__ import annotations

import random
from typing import Any

import torch

from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from tools.demo_model.budget import Budget
from tools.demo_model.folder import Folder
from tools.demo_model.latents import SHORT, Look, encode_clips
from tools.demo_model.objective import Noise, draw_batch
from tools.demo_model.parts import new_scheduler
from tools.demo_model.styles import COLOURS, LORA_STYLE

__all__ = ["train_lora"]

_RANK = 8
_RATE = 3e-3
_CELLS, _SCENES = 3072, 60
_LAYERS = r"(?!.*motion_modules).*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|conv1|conv2|ff\.net\.2)"
"""The picture layers that it changes; those of the motion modules stay, a style does not move."""


def train_lora(folder: Folder, *, steps: int, seconds: float | None, seed: int, scale: float = 1.0) -> None:
    """Train on the folder's finished model, and save ``lora/pytorch_lora_weights.safetensors`` there."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    vae, tokenizer = folder.vae(), folder.tokenizer()
    text_encoder, unet = folder.text_encoder().requires_grad_(False), folder.unet().requires_grad_(False)
    torch.manual_seed(seed)
    unet.add_adapter(LoraConfig(r=_RANK, lora_alpha=_RANK, init_lora_weights="gaussian", target_modules=_LAYERS))
    clips = encode_clips(vae, max(2, round(_SCENES * scale)), SHORT, seed, draw=_look)
    rng, noise = random.Random(seed), Noise(new_scheduler())
    parameters = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=0)
    budget = Budget("lora", steps, seconds, folder.log)
    for _ in budget.run(optimizer, _RATE):
        loss = noise.loss(unet, text_encoder, draw_batch(clips, tokenizer, rng, _CELLS, own_look=0))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        budget.note(loss.item())
    layers: dict[str, Any] = {
        name: tensor.half().contiguous() for name, tensor in get_peft_model_state_dict(unet).items()
    }
    load_diffusers().AnimateDiffPipeline.save_lora_weights(str(folder.path / "lora"), unet_lora_layers=layers)
    folder.note("lora", budget)


def _look(rng: random.Random) -> Look:
    return LORA_STYLE, rng.choice(["", *COLOURS])
