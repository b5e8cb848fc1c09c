"""Training of the motion UNet and the text encoder, by one process or several that share their gradients."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.multiprocessing.spawn import spawn

from tools.demo_model.budget import Budget
from tools.demo_model.ema import Average
from tools.demo_model.folder import Folder
from tools.demo_model.latents import LONG, SHORT, encode_clips
from tools.demo_model.objective import Noise, draw_batch
from tools.demo_model.parts import new_scheduler, new_unet

__all__ = ["train_unet"]

_RATE, _TEXT_RATE = 1.2e-3, 3e-4
_CELLS = 3840  # latent cells in a batch of one process
_SCENES = {SHORT: 240, LONG: 20}
_LONG_SHARE = 0.15


def train_unet(
    folder: Folder, *, steps: int, seconds: float | None, seed: int, workers: int, scale: float = 1.0
) -> None:
    """Train from the folder's VAE, tokenizer and text encoder, and save ``unet`` and ``text_encoder`` there.

    A ``unet`` that is there already is trained on.

    The result depends on the number of ``workers``, each of which makes its own share of the data.

    :param scale: the share of the usual number of scenes.
    """
    with tempfile.TemporaryDirectory() as meeting:
        arguments = (workers, f"file://{meeting}/meet", folder.path, steps, seconds, seed, scale)
        spawn(_work, arguments, nprocs=workers)  # type: ignore[no-untyped-call]


def _work(
    rank: int, workers: int, meeting: str, path: Path, steps: int, seconds: float | None, seed: int, scale: float
) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=meeting, rank=rank, world_size=workers, timeout=timedelta(minutes=30)
    )
    folder = Folder(path)
    log: Callable[[str], None] = folder.log if rank == 0 else lambda _: None
    vae, tokenizer, text_encoder = folder.vae(), folder.tokenizer(), folder.text_encoder().train()
    torch.manual_seed(seed)
    unet = (folder.unet() if folder.has("unet") else new_unet()).train().to(memory_format=torch.channels_last)
    torch.manual_seed(seed * 1000 + rank)
    clips = {
        shape: encode_clips(vae, max(2, round(count * scale / workers)), shape, seed * 1000 + rank)
        for shape, count in _SCENES.items()
    }
    distributed.barrier()
    rng = random.Random(seed * 1000 + rank)
    noise = Noise(new_scheduler())
    parameters = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = torch.optim.AdamW(unet.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=1e-3)
    text_optimizer = torch.optim.AdamW(text_encoder.parameters(), lr=_TEXT_RATE, weight_decay=1e-3)
    averages = Average(unet), Average(text_encoder)
    budget = Budget("unet", steps, seconds, log)
    log(f"unet: {sum(map(len, clips.values()))} scenes for each of {workers} workers")
    for step in budget.run(optimizer, _RATE, _first):
        text_optimizer.param_groups[0]["lr"] = optimizer.param_groups[0]["lr"] * _TEXT_RATE / _RATE
        batch = draw_batch(clips[LONG if rng.random() < _LONG_SHARE else SHORT], tokenizer, rng, _CELLS)
        loss = noise.loss(unet, text_encoder, batch)
        optimizer.zero_grad(set_to_none=True)
        text_optimizer.zero_grad(set_to_none=True)
        loss.backward()
        _share_gradients(parameters, workers)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        text_optimizer.step()
        for average, model in zip(averages, (unet, text_encoder), strict=True):
            average.update(model)
        budget.note(loss.item())
        if rank == 0 and (step + 1) % 200 == 0:
            _save(folder, averages)
    if rank == 0:
        _save(folder, averages)
        folder.note("unet", budget)
    distributed.destroy_process_group()


def _save(folder: Folder, averages: tuple[Average, Average]) -> None:
    folder.save("unet", averages[0].model)
    folder.save("text_encoder", averages[1].model)


def _first(done: float) -> float:
    """The first worker's number holds for all."""
    shared = torch.tensor([done], dtype=torch.float64)
    distributed.broadcast(shared, 0)
    return float(shared)


def _share_gradients(parameters: list[Any], workers: int) -> None:
    """Each parameter's gradient becomes the mean of all workers'."""
    if workers == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    flat: Any = torch.cat([parameter.grad.reshape(-1) for parameter in parameters])
    distributed.all_reduce(flat)
    for parameter, part in zip(parameters, flat.split([parameter.numel() for parameter in parameters]), strict=True):
        parameter.grad.copy_((part / workers).view(parameter.shape))
