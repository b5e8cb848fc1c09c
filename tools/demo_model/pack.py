"""From the working folder to what ships: all weights in float16, in the layout that the engine loads."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from tools.demo_model.card import write_card
from tools.demo_model.folder import Folder
from tools.demo_model.parts import new_scheduler

__all__ = ["LORA_FILE", "MODEL_FOLDER", "pack"]

MODEL_FOLDER, LORA_FILE = "model", "demo-mosaic.safetensors"


def pack(folder: Folder, out: Path, seed: int) -> int:
    """Write the model, the LoRA and the card to ``out``; the bytes of all their safetensors files."""
    pipeline = load_diffusers().AnimateDiffVideoToVideoPipeline(
        vae=folder.vae().half(),
        text_encoder=folder.text_encoder().half(),
        tokenizer=folder.tokenizer(),
        unet=folder.unet().to(memory_format=torch.contiguous_format).half(),
        motion_adapter=None,
        scheduler=new_scheduler(),
    )
    pipeline.save_pretrained(str(out / MODEL_FOLDER), safe_serialization=True)
    shutil.copyfile(folder.path / "lora" / "pytorch_lora_weights.safetensors", out / LORA_FILE)
    for config in out.rglob("config.json"):  # the path on the machine that trained it
        text = config.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if '"_name_or_path"' not in line]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for file in out.rglob("*.safetensors"):
        file.chmod(0o644)  # diffusers writes them for their owner alone
    size = sum(file.stat().st_size for file in out.rglob("*.safetensors") if folder.path not in file.parents)
    write_card(folder, out, seed, size)
    return size
