from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from airflow_provider_modelslab.local.families.animatediff.denoise import denoise, truncated_schedule
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.families.animatediff.schedulers import PRESETS, build_scheduler
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.plan import DenoisingPass, Plan
from tests.support.moving import distance, moving_frames

# diffusers 0.42's Euler schedule under numpy 2.4
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def loaded(cache_dir: Path, dtype: torch.dtype) -> AnimateDiffModel:
    catalog = Catalog(None, cache_dir)
    spec = catalog.prepare(catalog.lookup("tiny"))
    model = AnimateDiffModel(spec, catalog, "cpu", dtype)
    model.prepare(Plan(spec, (), 3, 8))
    return model


@pytest.fixture(scope="module")
def model(cache_dir: Path) -> AnimateDiffModel:
    """The tiny model as the engine loads it."""
    return loaded(cache_dir, torch.float32)


def job(**changes: Any) -> DenoisingPass:
    values = {"prompt": "a fox", "negative_prompt": "bad", "steps": 4, "strength": 0.5, "guidance_scale": 1.0}
    return DenoisingPass(**{**values, "seed": 3, "width": 32, "height": 24, **changes})


def run(model: AnimateDiffModel, frames: list[Image.Image], **changes: Any) -> list[Image.Image]:
    return model.run(frames, job(**changes), on_step=lambda _done: None)


@pytest.mark.parametrize("scheduler", PRESETS)
@pytest.mark.parametrize("guidance", [1.0, 7.5])
def test_a_plain_run_is_diffusers_to_the_last_bit(stock: Any, scheduler: str, guidance: float) -> None:
    frames = moving_frames(4, 32, 24)
    saved = stock.scheduler
    try:
        stock.scheduler = build_scheduler(scheduler, saved.config)
        ours = denoise(stock, frames, job(guidance_scale=guidance, scheduler=scheduler), on_step=lambda _done: None)
        theirs = stock(
            video=frames,
            prompt="a fox",
            negative_prompt="bad",
            height=24,
            width=32,
            num_inference_steps=4,
            strength=0.5,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(3),
            output_type="np",
        ).frames[0]
    finally:
        stock.scheduler = saved
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("scheduler", PRESETS)
def test_every_pair_of_steps_and_strength_runs_what_is_said(model: AnimateDiffModel, scheduler: str) -> None:
    schedule = build_scheduler(scheduler, model.pipeline.scheduler.config)
    for steps in (1, 2, 3, 4, 7, 20, 33, 50):
        for hundredths in (1, 10, 29, 58, 70, 99, 100):
            for all_steps in (False, True):
                given = job(steps=steps, strength=hundredths / 100, scheduler=scheduler, all_steps=all_steps)
                timesteps = truncated_schedule(schedule, given, "cpu")
                assert len(timesteps) == (steps if all_steps else max(1, steps * hundredths // 100))


def test_all_steps_begin_where_strength_says(model: AnimateDiffModel) -> None:
    schedule = build_scheduler("euler-trailing", model.pipeline.scheduler.config)
    few = truncated_schedule(schedule, job(steps=4, strength=0.7, scheduler="euler-trailing"), "cpu")
    full = truncated_schedule(schedule, job(steps=4, strength=0.7, scheduler="euler-trailing", all_steps=True), "cpu")
    assert few.tolist() == [499, 249]
    assert full.tolist() == [799, 599, 399, 199]


def test_the_schedules_are_those_of_the_motion_modules(model: AnimateDiffModel) -> None:
    kinds = {name: build_scheduler(name, model.pipeline.scheduler.config) for name in PRESETS}
    assert {name: type(kind).__name__ for name, kind in kinds.items()} == {
        "ddim": "DDIMScheduler",
        "lcm": "LCMScheduler",
        "euler-trailing": "EulerDiscreteScheduler",
    }
    assert {kind.config.beta_schedule for kind in kinds.values()} == {"linear"}
    ddim = kinds["ddim"].config
    assert (ddim.timestep_spacing, ddim.steps_offset, ddim.clip_sample) == ("linspace", 1, False)
    assert kinds["euler-trailing"].config.timestep_spacing == "trailing"


@pytest.mark.slow
def test_more_strength_leads_further_from_the_source(model: AnimateDiffModel) -> None:
    frames = moving_frames(4, 32, 24)
    distances = [distance(frames, run(model, frames, steps=10, strength=strength)) for strength in (0.1, 0.3, 0.5, 0.8)]
    assert distances == sorted(distances)
    assert distances[-1] > 2 * distances[0]


@pytest.mark.parametrize("size", [(64, 64), (70, 37), (8, 8), (1, 1), (72, 40)])
def test_any_size_comes_back_as_it_went_in(model: AnimateDiffModel, size: tuple[int, int]) -> None:
    made = run(model, moving_frames(3, *size), steps=1, strength=1)
    assert [(frame.size, frame.mode) for frame in made] == [(size, "RGB")] * 3


def test_pictures_that_are_no_numbers_are_an_error(model: AnimateDiffModel) -> None:
    weight = model.pipeline.vae.decoder.conv_out.bias
    before = weight.detach().clone()
    try:
        torch.nn.init.constant_(weight, float("nan"))
        with pytest.raises(ArithmeticError, match="not numbers"):
            run(model, moving_frames(2, 16, 16), steps=1)
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_bfloat16_runs_and_is_near_to_float32(cache_dir: Path, model: AnimateDiffModel) -> None:
    half = loaded(cache_dir, torch.bfloat16)
    frames = moving_frames(3, 32, 32)
    assert distance(run(half, frames, strength=0.25), run(model, frames, strength=0.25)) < 8
    assert {weight.dtype for weight in half.pipeline.unet.state_dict().values()} == {torch.bfloat16}
