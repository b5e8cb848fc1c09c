"""Training of the style LoRA: a style that the base model has never seen, in two thin matrices for each layer."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch

from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from tools.demo_model.budget import Budget
from tools.demo_model.clips import Supply
from tools.demo_model.descent import descend
from tools.demo_model.objective import Noise, draw_batch
from tools.demo_model.parts import new_scheduler
from tools.demo_model.styles import COLOURS, LORA_STYLE, Look
from tools.demo_model.text import Captions
from tools.demo_model.unet import freeze, motionless

__all__ = ["LORA_LOOKS", "train_lora"]

LORA_LOOKS: list[Look] = [(LORA_STYLE, colour) for colour in ("", *COLOURS)]
_RANK = 8
_RATE = 3e-3
_BATCHES = ((16, 1, 64), (7, 1, 96))
_LAYERS = r"(?!.*motion_modules).*(to_q|to_k|to_v|to_out\.0|proj_in|proj_out|conv1|conv2|ff\.net\.2)"
"""The picture layers that it changes; those of the motion modules stay, a style does not move."""


def train_lora(
    budget: Budget, unet: Any, supply: Supply, captions: Captions, seed: int, device: str, out: Path
) -> None:
    """Train on the finished UNet, on pictures, and save ``pytorch_lora_weights.safetensors`` in ``out``."""
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    torch.manual_seed(seed)
    rng, noise = random.Random(seed), Noise(new_scheduler(), device)
    unet = unet.to(device, memory_format=torch.channels_last)
    unet.add_adapter(LoraConfig(r=_RANK, lora_alpha=_RANK, init_lora_weights="gaussian", target_modules=_LAYERS))
    parameters = freeze(unet, lambda name: "lora_" in name)
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=0)
    with motionless(unet):
        for _ in budget.run(optimizer, _RATE):
            loss = noise.loss(unet, draw_batch(supply, captions, rng, *rng.choice(_BATCHES)))
            descend(budget, optimizer, loss)
    layers = {name: tensor.half().contiguous() for name, tensor in get_peft_model_state_dict(unet).items()}
    load_diffusers().AnimateDiffPipeline.save_lora_weights(str(out), unet_lora_layers=layers)
