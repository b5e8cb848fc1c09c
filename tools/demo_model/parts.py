"""The untrained parts: Stable Diffusion 1.5's and AnimateDiff's structure in a small size."""

from __future__ import annotations

import re
from typing import Any

import torch

from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers, load_transformers

__all__ = [
    "FRAMES",
    "LATENT_CHANNELS",
    "LATENT_SPREAD",
    "TEXT_LAYERS",
    "VAE_FACTOR",
    "is_motion",
    "new_scheduler",
    "new_text_encoder",
    "new_unet",
    "new_vae",
]

TEXT_LAYERS = 3
FRAMES = 32
"""The most frames that the motion modules have positions for, as with AnimateDiff's own."""

VAE_FACTOR = 4
"""Pixels of a latent cell's side."""

LATENT_CHANNELS = 8

LATENT_SPREAD = 2.0
"""The deviation of latents as the UNet sees them; the noise has 1."""

_TEXT_WIDTH = 64


def new_vae() -> Any:
    """Scale factor 4; about 0.65 million parameters."""
    return load_diffusers().AutoencoderKL(
        block_out_channels=(16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,  # groups of few channels would take the colour out of even areas
        mid_block_add_attention=False,  # it costs much in pictures of many cells, and brings little
        sample_size=128,
        scaling_factor=LATENT_SPREAD,
    )


def new_unet() -> Any:
    """A picture UNet with motion modules in every block, the middle one included; about 4 million parameters.

    It begins as a UNet that takes each frame by itself: the last layer of each motion module is zero.
    """
    unet = load_diffusers().UNetMotionModel(
        sample_size=32,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(64, 64, 96),
        layers_per_block=1,
        down_block_types=("DownBlockMotion", *("CrossAttnDownBlockMotion",) * 2),
        up_block_types=(*("CrossAttnUpBlockMotion",) * 2, "UpBlockMotion"),
        cross_attention_dim=_TEXT_WIDTH,
        norm_num_groups=2,
        num_attention_heads=4,
        motion_num_attention_heads=4,
        motion_max_seq_length=FRAMES,
    )
    for name, part in unet.named_modules():
        if is_motion(name):
            for parameter in part.proj_out.parameters():
                torch.nn.init.zeros_(parameter)
    return unet


def is_motion(name: str) -> bool:
    """Whether a part of the UNet with this name is a motion module."""
    return re.search(r"motion_modules\.\d+$", name) is not None


def new_text_encoder(vocabulary: int) -> Any:
    """CLIP's text model. The last two of the ``vocabulary``'s tokens are the start and the end of a text."""
    transformers = load_transformers()
    return transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=vocabulary,
            bos_token_id=vocabulary - 2,
            eos_token_id=vocabulary - 1,
            pad_token_id=vocabulary - 1,
            hidden_size=_TEXT_WIDTH,
            intermediate_size=2 * _TEXT_WIDTH,
            num_hidden_layers=TEXT_LAYERS,
            num_attention_heads=4,
            max_position_embeddings=77,
            layer_norm_eps=1e-5,
        )
    )


def new_scheduler() -> Any:
    """A schedule that keeps the source at every strength: at the last of 1000 times the noise is a sixth of the signal.

    AnimateDiff's leaves nothing of it at full strength, which asks for a model that can invent pictures. The UNet
    predicts the clean latents (``sample``), and the engine's presets keep both settings.
    """
    return load_diffusers().DDIMScheduler(
        beta_start=0.000015,
        beta_end=0.00021,
        beta_schedule="linear",
        clip_sample=False,
        steps_offset=1,
        prediction_type="sample",
    )
