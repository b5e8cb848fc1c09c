"""What :mod:`benchmarks.local` measures: the engine's way and that of stock diffusers, each for the same thing."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["best_of", "clips", "load_ours", "load_stock", "psnr", "resident_mib", "touch", "watched"]


def load_stock(folder: Path, device: str) -> Any:
    """The way of diffusers' own pages: a MotionAdapter, and ``from_pretrained`` with it."""
    import torch

    diffusers = load_diffusers()
    motion = str(folder / "motion_modules" / "v2_sd15_mm")
    adapter = diffusers.MotionAdapter.from_pretrained(motion, dtype=torch.bfloat16)
    pipeline = diffusers.AnimateDiffVideoToVideoPipeline.from_pretrained(
        str(folder / "real"), motion_adapter=adapter, dtype=torch.bfloat16
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)


def load_ours(folder: Path, device: str) -> Any:
    """The same pipeline as the engine loads it."""
    import torch

    from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
    from airflow_provider_modelslab.local.models.catalog import Catalog
    from airflow_provider_modelslab.local.plan import Plan

    catalog = Catalog(folder, offline=True)
    spec = catalog.lookup("real")
    model = AnimateDiffModel(spec, catalog, device, torch.bfloat16)
    model.prepare(Plan(spec, (), 16, 8, motion=catalog.parts.motion_module("v2_sd15_mm")))
    return model.pipeline


def touch(pipeline: Any) -> float:
    """Read every weight once, as the first step of a run does; seconds."""
    started = time.perf_counter()
    for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder):
        for weight in part.state_dict().values():
            weight.view(-1)[:: 2048 // weight.element_size()].sum()  # one of each page
    return time.perf_counter() - started


def watched(work: Callable[[], Any]) -> tuple[dict[str, float], Any]:
    """Seconds, and how far resident memory rose above what it was before (Linux); and what came out."""
    before = resident_mib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak to the present
    started = time.perf_counter()
    result = work()
    return {"seconds": time.perf_counter() - started, "extra_mib": resident_mib("VmHWM") - before}, result


def resident_mib(field: str) -> float:
    """A figure of this process' memory from ``/proc``."""
    match = re.search(rf"^{field}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert match is not None
    return int(match[1]) / 1024


def best_of(rounds: int, *works: Callable[[], Any]) -> list[float]:
    """The shortest time of each, taken in turn, so that a busy machine is unfair to none."""
    best = [float("inf")] * len(works)
    logging.getLogger("diffusers").setLevel(logging.ERROR)
    for _ in range(rounds):
        for number, work in enumerate(works):
            started = time.perf_counter()
            work()
            best[number] = min(best[number], time.perf_counter() - started)
    return best


def clips(frames: int, side: int) -> dict[str, list[Image]]:
    """Three kinds of clips: smooth colours that change, the same under noise, and a disc that moves over a gradient."""
    import numpy as np
    from PIL import Image

    rows, columns = np.mgrid[0:side, 0:side] / side
    grain = np.random.default_rng(0).random((side, side, 3))
    made: dict[str, list[Image.Image]] = {"smooth": [], "textured": [], "disc": []}
    for number in range(frames):
        phase = number / frames * 2 * np.pi
        waves = [np.sin(3 * columns + phase), np.sin(2 * rows - phase + columns), np.cos(4 * (columns - rows) + phase)]
        smooth = np.stack([0.5 + 0.5 * wave for wave in waves], axis=-1)
        textured = 0.6 * smooth + 0.4 * np.roll(grain, number * 3, axis=1)
        disc = np.stack([columns * 0.8, rows * 0.6 + 0.15, np.full_like(rows, 0.35)], axis=-1)
        centre = (number + 1) / (frames + 1)
        disc[(columns - centre) ** 2 + (rows - 0.5) ** 2 < 0.06] = (0.94, 0.9, 0.16)
        for name, picture in (("smooth", smooth), ("textured", textured), ("disc", disc)):
            made[name].append(Image.fromarray((picture * 255).astype(np.uint8)))
    return made


def psnr(wanted: Sequence[Image], got: Sequence[Image]) -> float:
    """Peak signal-to-noise ratio over all frames, in dB."""
    import numpy as np

    errors = [
        ((np.asarray(a, dtype=float) - np.asarray(b, dtype=float)) ** 2).mean()
        for a, b in zip(wanted, got, strict=True)
    ]
    return float(10 * np.log10(255**2 / np.mean(errors)))
