from __future__ import annotations

import logging
from typing import Any

import pytest

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.families.animatediff.family import AnimateDiff
from airflow_provider_modelslab.local.families.registry import BUILTIN_MODELS
from airflow_provider_modelslab.local.models.builtin import MOTION_MODULES
from airflow_provider_modelslab.local.plan import DenoisingPass, denoising_steps, plan_passes, upscaled_size

FAMILY = AnimateDiff()
SPEC = FAMILY.spec(BUILTIN_MODELS["epicrealismnaturalsi"])
MAX_SIDE = FAMILY.max_side


def request(**changes: Any) -> Video2VideoRequest:
    return Video2VideoRequest(**{"model_id": "m", "prompt": "a fox", "init_video": "a.mp4", **changes})


@pytest.mark.parametrize(
    ("steps", "strength", "run"),
    [(20, 0.7, 14), (50, 0.58, 29), (10, 0.99, 9), (5, 0.1, 1), (1, 0.7, 1), (50, 1, 50), (20, 1e-6, 1), (20, 0, 0)],
)
def test_steps_that_are_run(steps: int, strength: float, run: int) -> None:
    assert denoising_steps(steps, strength) == run


@pytest.mark.parametrize(
    ("module", "steps", "guidance", "scheduler", "run"),
    [
        ("v2_sd15_mm", 20, 7.5, "ddim", 14),
        ("v3_sd15_mm", 20, 7.5, "ddim", 14),
        ("animatelcm", 6, 2.0, "lcm", 4),
        ("animateDiff-lightning", 4, 1.0, "euler-trailing", 4),
    ],
)
def test_a_motion_module_brings_its_settings(
    module: str, steps: int, guidance: float, scheduler: str, run: int
) -> None:
    (job,) = plan_passes(request(), SPEC, MAX_SIDE, MOTION_MODULES[module])
    assert (job.steps, job.guidance_scale, job.scheduler, job.calls) == (steps, guidance, scheduler, run)


def test_what_the_request_sets_holds_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    job = plan_passes(
        request(num_inference_steps=20, guidance_scale=7), SPEC, MAX_SIDE, MOTION_MODULES["animateDiff-lightning"]
    )[0]
    assert (job.steps, job.guidance_scale, job.calls) == (20, 7, 20)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "made for num_inference_steps 4, but the request sets 20, which is used" in caplog.text
    assert "made for guidance_scale 1.0, but the request sets 7.0, which is used" in caplog.text


def test_a_number_of_steps_with_a_file_of_its_own_is_no_cause_for_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    plan_passes(request(num_inference_steps=8), SPEC, MAX_SIDE, MOTION_MODULES["animateDiff-lightning"])
    assert caplog.records == []


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({}, None),
        ({"upscale_width": 1024}, (1024, 576)),
        ({"upscale_height": 768}, (1368, 768)),
        ({"upscale_width": 1000, "upscale_height": 500}, (1000, 500)),
        ({"upscale_width": 8}, (8, 8)),
    ],
)
def test_a_missing_side_keeps_the_aspect_ratio(given: dict[str, int], size: tuple[int, int] | None) -> None:
    expected = size and (min(size[0], 1024), size[1])
    assert upscaled_size(request(**given), 512, 288, MAX_SIDE) == expected


def test_a_side_that_would_be_too_long_is_cut_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert upscaled_size(request(upscale_width=1024), 256, 512, MAX_SIDE) == (1024, 1024)
    assert "needs a side of 2048; it is reduced to 1024" in caplog.text


def test_the_upscaling_pass_has_its_own_settings() -> None:
    given = {
        "upscale_width": 768,
        "upscale_strength": 0.5,
        "upscale_guidance_scale": 9,
        "upscale_num_inference_steps": 10,
    }
    main, upscale = plan_passes(
        request(**given, use_improved_sampling=True), SPEC, MAX_SIDE, MOTION_MODULES["v2_sd15_mm"]
    )
    assert (main.width, main.height, main.calls, main.iterations) == (512, 512, 42, 3)
    assert (upscale.width, upscale.height, upscale.calls, upscale.guidance_scale) == (768, 768, 5, 9)


def test_the_upscaling_pass_has_the_pages_defaults() -> None:
    _main, upscale = plan_passes(request(upscale_width=768), SPEC, MAX_SIDE, MOTION_MODULES["v2_sd15_mm"])
    assert (upscale.steps, upscale.strength, upscale.guidance_scale) == (20, 0.6, 15)


def test_a_motion_module_brings_its_settings_for_upscaling_too() -> None:
    _main, upscale = plan_passes(request(upscale_width=768), SPEC, MAX_SIDE, MOTION_MODULES["animateDiff-lightning"])
    assert (upscale.steps, upscale.guidance_scale, upscale.calls) == (4, 1.0, 4)


def test_strength_0_runs_nothing_in_any_schedule() -> None:
    job = DenoisingPass("a", "", 4, 0.0, 1.0, 1, 64, 64, all_steps=True, iterations=3)
    assert (job.steps_run, job.calls) == (0, 0)
