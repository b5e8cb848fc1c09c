"""From pictures to latents and back, some frames at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.runtime.oom_fallback import Portions

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["DRAWN", "decode", "encode", "noise_like"]

DRAWN = 16
"""Frames for which diffusers draws the noise at once; in other portions it would be other noise."""


def encode(pipeline: Any, frames: Sequence[Image], generator: Any, portions: Portions) -> Any:
    """The frames' latents: (1, frames, channels, height / 8, width / 8), with most VAEs.

    However many go at once, they are the same.
    """
    import torch

    vae, unet = pipeline.vae, pipeline.unet
    width, height = frames[0].size
    video = pipeline.video_processor.preprocess_video(list(frames), height=height, width=width)
    video = video.permute(0, 2, 1, 3, 4).to(device=unet.device, dtype=unet.dtype)[0]

    def encoded(chunk: int) -> list[Any]:
        return [vae.encode(part) for part in _parts(video, chunk)]

    if vae.config.force_upcast:
        vae.to(dtype=torch.float32)
        video = video.float()
    try:
        parts = portions.vae(encoded)
    finally:
        if vae.config.force_upcast:
            vae.to(unet.dtype)
    if hasattr(parts[0], "latent_dist"):
        mean, spread = (torch.cat([getattr(part.latent_dist, name) for part in parts]) for name in ("mean", "std"))
        clip = mean + spread * torch.cat([noise_like(part, generator) for part in _parts(mean, DRAWN)])
    else:  # a tiny VAE draws nothing
        clip = torch.cat([part.latents for part in parts])
    return vae.config.scaling_factor * clip.unsqueeze(0).contiguous().to(unet.dtype)


def decode(pipeline: Any, latents: Any, portions: Portions) -> Any:
    """Pictures of (frames, height, width, 3), 0 to 1, as numpy has them, from latents of (1, channels, frames, ...)."""
    video = portions.vae(lambda chunk: pipeline.decode_latents(latents, chunk))
    return pipeline.video_processor.postprocess_video(video=video, output_type="np")[0]


def noise_like(latents: Any, generator: Any) -> Any:
    """Noise of the shape and type of ``latents``, drawn on the CPU: the same on every device."""
    import torch

    return torch.randn(latents.shape, generator=generator, dtype=latents.dtype).to(latents.device)


def _parts(tensor: Any, size: int) -> list[Any]:
    return [tensor[start : start + size] for start in range(0, len(tensor), size)]
