"""The requests that are measured on a GPU, each made by the engine and by stock diffusers."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.families.animatediff.schedulers import build_scheduler
from airflow_provider_modelslab.local.media.decode import read_frames, resize_frames
from airflow_provider_modelslab.local.media.encode import write_mp4
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from benchmarks.local_methods import clips

__all__ = ["CASES", "DEFAULT", "Case", "make_ours", "make_stock", "stock_files"]


@dataclass(frozen=True)
class Case:
    """One request: 16 frames of 512x512, 20 steps of which ``strength`` runs 14, with guidance, an mp4 in and out.

    :param upscale: the side after the second pass, which is 20 steps at strength 0.6.
    """

    name: str
    frames: int = 16
    width: int = 512
    height: int = 512
    steps: int = 20
    strength: float = 0.7
    guidance_scale: float = 7.5
    scheduler: str = "ddim"
    motion_module: str | None = None
    all_steps: bool = False
    upscale: int | None = None

    def small(self) -> Case:
        """The same in small, to try it out: an eighth of the sides, few frames and steps."""
        upscale = self.upscale and self.upscale // 8
        return replace(
            self, frames=3, width=self.width // 8, height=self.height // 8, steps=min(self.steps, 4), upscale=upscale
        )

    def source(self, folder: Path) -> Path:
        """A clip of this size and length, written there once."""
        path = folder / f"source-{self.frames}-{self.width}x{self.height}.mp4"
        if not path.is_file():
            frames = clips(self.frames, max(self.width, self.height))["disc"]
            write_mp4(resize_frames(frames, self.width, self.height), path, 8)
        return path


DEFAULT = Case("default")

CASES = (
    DEFAULT,
    Case("the page's example", steps=40, strength=0.8),
    Case("1024x576", width=1024, height=576),
    Case("25 of 768x768", frames=25, width=768, height=768),
    Case("AnimateLCM", steps=6, guidance_scale=2.0, scheduler="lcm", motion_module="animatelcm"),
    Case(
        "Lightning", steps=4, guidance_scale=1.0, scheduler="euler-trailing", motion_module="animateDiff-lightning",
        all_steps=True,
    ),
    Case("upscaled to 1024x1024", upscale=1024),
)  # fmt: skip


def make_ours(engine: LocalEngine, case: Case, folder: Path) -> None:
    """By the engine, from file to file. Beyond the page's 768 pixels the size is put into the plan."""
    values: dict[str, Any] = {
        "model_id": "real", "prompt": "a fox", "init_video": str(case.source(folder)), "seed": 1,
        "num_frames": case.frames, "num_inference_steps": case.steps, "strength": case.strength,
        "guidance_scale": case.guidance_scale,
    }  # fmt: skip
    if case.motion_module:
        values["motion_module"] = case.motion_module
    if case.upscale:
        values |= {"upscale_width": case.upscale, "upscale_height": case.upscale}
        values["upscale_num_inference_steps"] = min(case.steps, 20)
    prepared = engine.prepare(Video2VideoRequest(**values))
    first = replace(prepared.plan.passes[0], width=case.width, height=case.height)
    frames = tuple(resize_frames(list(prepared.frames), case.width, case.height))
    plan = replace(prepared.plan, passes=(first, *prepared.plan.passes[1:]))
    engine.encode(engine.render(replace(prepared, plan=plan, frames=frames)), folder / "ours.mp4")


def make_stock(pipeline: Any, case: Case, folder: Path) -> None:
    """By diffusers as its pages show it: from file to file, through imageio where that is installed."""
    import torch

    utils = load_diffusers().utils
    source, output = case.source(folder), folder / "stock.mp4"
    frames = utils.load_video(str(source)) if stock_files() == "imageio" else read_frames(source, case.frames)[0]
    pipeline.scheduler = build_scheduler(case.scheduler, pipeline.scheduler.config)

    def run(video: Any, width: int, height: int, steps: int, strength: float, guidance_scale: float) -> Any:
        return pipeline(
            video=video, prompt="a fox", width=width, height=height, num_inference_steps=steps, strength=strength,
            guidance_scale=guidance_scale, enforce_inference_steps=case.all_steps,
            generator=torch.Generator("cpu").manual_seed(1),
        ).frames[0]  # fmt: skip

    video = run(frames[: case.frames], case.width, case.height, case.steps, case.strength, case.guidance_scale)
    if case.upscale:
        enlarged = resize_frames(video, case.upscale, case.upscale)
        video = run(enlarged, case.upscale, case.upscale, min(case.steps, 20), 0.6, 15.0)
    if stock_files() == "imageio":
        utils.export_to_video(video, str(output), fps=8)
    else:
        write_mp4(video, output, 8)


def stock_files() -> str:
    """What reads and writes stock diffusers' clips: its own ``imageio``, or where that is not installed our PyAV."""
    return "imageio" if importlib.util.find_spec("imageio") else "PyAV"
