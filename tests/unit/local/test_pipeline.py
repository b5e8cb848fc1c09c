from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from airflow_provider_modelslab.local.catalog import Catalog
from airflow_provider_modelslab.local.pipeline import (
    RunSettings,
    denoising_steps,
    load_pipeline,
    pick_device,
    pick_dtype,
    run_pipeline,
)
from airflow_provider_modelslab.local.text import embed_prompt
from tests.support.moving import distance, moving_frames


@pytest.fixture(scope="module")
def pipeline(cache_dir: Path) -> Any:
    """The tiny model as the engine loads it."""
    catalog = Catalog(None, cache_dir)
    spec = catalog.lookup("tiny")
    catalog.prepare(spec)
    return load_pipeline(spec, "cpu", torch.float32)


def settings(**changes: Any) -> RunSettings:
    values = {"prompt": "a fox", "negative_prompt": "", "steps": 10, "strength": 0.7, "guidance_scale": 1.0}
    return RunSettings(**{**values, "clip_skip": None, "seed": 3, **changes})


def run(pipeline: Any, frames: list[Image.Image], **changes: Any) -> list[Image.Image]:
    return run_pipeline(pipeline, frames, settings(**changes), on_step=lambda _done: None)


@pytest.mark.parametrize(
    ("steps", "strength", "run"),
    [(20, 0.7, 14), (50, 0.58, 29), (10, 0.99, 9), (5, 0.1, 1), (1, 0.7, 1), (50, 1, 50), (20, 1e-6, 1), (20, 0, 0)],
)
def test_steps_that_are_run(steps: int, strength: float, run: int) -> None:
    assert denoising_steps(steps, strength) == run


def test_every_pair_of_steps_and_strength_runs_what_is_said(pipeline: Any) -> None:
    from airflow_provider_modelslab.local.pipeline import _pipeline_strength

    for steps in range(1, 51):
        pipeline.scheduler.set_timesteps(steps)
        for hundredths in range(1, 101):
            given = settings(steps=steps, strength=hundredths / 100)
            timesteps, _ = pipeline.get_timesteps(steps, pipeline.scheduler.timesteps, _pipeline_strength(given), "cpu")
            assert len(timesteps) == max(1, steps * hundredths // 100)


def test_the_schedule_is_animatediffs(pipeline: Any) -> None:
    config = pipeline.scheduler.config
    assert type(pipeline.scheduler).__name__ == "DDIMScheduler"
    assert (config.beta_schedule, config.timestep_spacing, config.steps_offset) == ("linear", "linspace", 1)
    assert config.clip_sample is False


def test_embeddings_are_those_of_diffusers(pipeline: Any) -> None:
    with torch.no_grad():
        theirs, negative = pipeline.encode_prompt("a fox", "cpu", 1, True, "bad")
    assert torch.equal(embed_prompt(pipeline, "a fox"), theirs)
    assert torch.equal(embed_prompt(pipeline, "bad"), negative)
    assert torch.equal(embed_prompt(pipeline, "a fox", 0), theirs)


def test_clip_skip_takes_an_earlier_layer_through_the_last_norm(pipeline: Any) -> None:
    layers = [embed_prompt(pipeline, "a fox", skip) for skip in range(6)]
    assert {tuple(layer.shape) for layer in layers} == {(1, 77, 32)}
    assert not any(torch.allclose(layers[0], layer) for layer in layers[1:])
    assert all(abs(float(layer.mean())) < 1e-5 for layer in layers)  # the norm's weights are ones, its biases zeros


def test_a_long_prompt_is_cut_with_a_warning(pipeline: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        long = embed_prompt(pipeline, "fox " * 60)
    assert tuple(long.shape) == (1, 77, 32)
    assert "reads the first 77 and drops the rest" in caplog.text


def test_more_strength_leads_further_from_the_source(pipeline: Any) -> None:
    frames = moving_frames(6, 64, 64)
    distances = [distance(frames, run(pipeline, frames, strength=strength)) for strength in (0.1, 0.3, 0.5, 0.8)]
    assert distances == sorted(distances)
    assert distances[-1] > 2 * distances[0]


@pytest.mark.parametrize("size", [(64, 64), (70, 37), (8, 8), (1, 1), (72, 40)])
def test_any_size_comes_back_as_it_went_in(pipeline: Any, size: tuple[int, int]) -> None:
    made = run(pipeline, moving_frames(3, *size), steps=2, strength=1)
    assert [(frame.size, frame.mode) for frame in made] == [(size, "RGB")] * 3


def test_pictures_that_are_no_numbers_are_an_error(pipeline: Any) -> None:
    weight = pipeline.vae.decoder.conv_out.bias
    before = weight.detach().clone()
    try:
        torch.nn.init.constant_(weight, float("nan"))
        with pytest.raises(ArithmeticError, match="no numbers"):
            run(pipeline, moving_frames(2, 16, 16), steps=1)
    finally:
        with torch.no_grad():
            weight.copy_(before)


def test_bfloat16_runs_and_is_near_to_float32(cache_dir: Path, pipeline: Any) -> None:
    spec = Catalog(None, cache_dir).lookup("tiny")
    half = load_pipeline(spec, "cpu", torch.bfloat16)
    frames = moving_frames(3, 32, 32)
    assert distance(run(half, frames, strength=0.2), run(pipeline, frames, strength=0.2)) < 8


def test_device_and_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert (pick_device("auto"), pick_device("cuda:1")) == ("cpu", "cuda:1")
    assert (pick_dtype("auto", "cpu"), pick_dtype("float16", "cpu")) == (torch.float32, torch.float16)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert (pick_device("auto"), pick_dtype("auto", "cuda")) == ("cuda", torch.float16)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert pick_dtype("auto", "cuda:0") == torch.bfloat16
