"""What the approximations of :class:`~.speed.Optimizations` cost and save, beside the exact result."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from benchmarks.local_methods import psnr

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["SETTINGS", "measure_approximations", "train_tiny_vae"]

SETTINGS: tuple[dict[str, Any], ...] = (
    {"guidance_until": 0.8},
    {"guidance_until": 0.6},
    {"guidance_until": 0.4},
    {"reuse_deep": 2},
    {"reuse_deep": 3},
    {"reuse_deep": 5},
    {"guidance_until": 0.6, "reuse_deep": 2},
)
_SEED = 0
_BATCH = 8


def measure_approximations(
    folder: Path, source: Path, clip: Sequence[Image], model: str, rounds: int, training_steps: int = 300
) -> dict[str, dict[str, float]]:
    """For each setting the PSNR in dB against the exact frames, and over the exact run's the operations and CPU time.

    16 frames of 128x128, 20 steps at strength 0.7, guidance 7.5.

    :param source: the clip's file.
    :param clip: its frames, on which a tiny VAE is trained.
    """
    request = Video2VideoRequest(
        model_id=model, prompt="a red fox", init_video=str(source), seed=1, num_frames=16, width=128, height=128,
        num_inference_steps=20, strength=0.7, guidance_scale=7.5,
    )  # fmt: skip
    exact, exact_flops, exact_s = _run(folder, request, Optimizations(), rounds)
    settings = [Optimizations(**setting) for setting in SETTINGS]
    names = [", ".join(f"{name}={value}" for name, value in setting.items()) for setting in SETTINGS]
    names.insert(0, "tiny_vae")
    settings.insert(0, Optimizations(tiny_vae=train_tiny_vae(folder, model, clip, training_steps)))
    rows: dict[str, dict[str, float]] = {}
    for name, speed in zip(names, settings, strict=True):
        made, flops, seconds = _run(folder, request, speed, rounds)
        rows[name] = {
            "psnr_db": psnr(exact, made),
            "flop_ratio": flops / exact_flops,
            "time_ratio": seconds / exact_s,
        }
    return rows


def train_tiny_vae(folder: Path, model: str, clip: Sequence[Image], steps: int) -> Path:
    """A small ``AutoencoderTiny`` for a model, trained on the clip's frames to do as the model's VAE does.

    :returns: its folder. What it loses tells little of one that was trained on millions of pictures, such as
        ``madebyollin/taesd`` for Stable Diffusion 1.5; it is there to try the lever.
    """
    import numpy as np
    import torch

    diffusers = load_diffusers()
    engine = LocalEngine(cache_dir=folder / "cache", device="cpu", dtype="float32", offline=True)
    spec = engine.catalog.prepare(engine.catalog.lookup(model))
    vae = diffusers.AutoencoderKL.from_pretrained(str(spec.folder / "vae"), local_files_only=True)
    pictures = torch.from_numpy(np.stack([np.asarray(frame) for frame in clip])).permute(0, 3, 1, 2) / 127.5 - 1
    quarters = [half.chunk(2, -1) for half in pictures.chunk(2, -2)]
    pictures = torch.cat([quarter for row in quarters for quarter in row])  # four times as many, a quarter of the work
    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mean * vae.config.scaling_factor
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        widths = (16, 16, 16, 16)
        tiny = diffusers.AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths).train()
    optimizer = torch.optim.Adam(tiny.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    for _ in range(steps):
        chosen = torch.randperm(len(pictures), generator=generator)[:_BATCH]
        wanted, like = pictures[chosen], latents[chosen]
        # What a model makes is further from the clip than the clip's own frames are from one another.
        noisy = like + torch.rand(1, generator=generator) * torch.randn(like.shape, generator=generator)
        with torch.no_grad():
            seen = vae.decode(noisy / vae.config.scaling_factor).sample.clamp(-1, 1)
        loss = (tiny.encode(wanted).latents - like).square().mean()
        loss = loss + (tiny.decode(noisy).sample - seen).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    saved = folder / f"tiny-vae-{model}"
    tiny.eval().save_pretrained(str(saved))
    return saved


def _run(
    folder: Path, request: Video2VideoRequest, speed: Optimizations, rounds: int
) -> tuple[Sequence[Image], int, float]:
    """The frames, the model's operations, and its shortest CPU time: that of all threads, whatever else runs here."""
    from torch.utils.flop_counter import FlopCounterMode

    engine = LocalEngine(cache_dir=folder / "cache", device="cpu", dtype="float32", offline=True, speed=speed)
    prepared = engine.prepare(request)
    engine.render(prepared)  # loads
    with FlopCounterMode(display=False) as counter:
        frames = engine.render(prepared).frames
    best = float("inf")
    for _ in range(rounds):
        started = time.process_time()
        engine.render(prepared)
        best = min(best, time.process_time() - started)
    return frames, counter.get_total_flops(), best
