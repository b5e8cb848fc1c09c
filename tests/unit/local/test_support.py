from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import RequestValidationError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine

BASE: dict[str, Any] = {"model_id": "tiny", "prompt": "a fox", "init_video": "clip.mp4"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lora_models", "watercolour"),
        ("motion_loras", ["zoom-in"]),
        ("adapter_lora", "v3_sd15_adapter"),
        ("motion_module", "animatelcm"),
        ("upscale_height", 1024),
        ("upscale_width", 1024),
        ("use_improved_sampling", True),
        ("extra_parameters", {"watermark": "yes"}),
        ("clip_skip", 6),
        ("model_id", "nobody-knows-it"),
    ],
)
def test_what_cannot_be_honoured_is_named(engine: LocalEngine, name: str, value: object) -> None:
    with pytest.raises(RequestValidationError) as caught:
        engine.check(Video2VideoRequest(**{**BASE, name: value}))
    assert list(caught.value.fields) == [name]
    given = value if isinstance(value, str) else next(iter(value)) if isinstance(value, list | dict) else value
    assert str(given).lower() in caught.value.fields[name][0]


def test_everything_at_fault_is_named_at_once(engine: LocalEngine) -> None:
    wrong = {"model_id": "no", "motion_module": "animatelcm", "lora_models": "a", "upscale_width": 768}
    with pytest.raises(RequestValidationError) as caught:
        engine.check(Video2VideoRequest(**{**BASE, **wrong}))
    assert set(caught.value.fields) == set(wrong)


@pytest.mark.parametrize(
    "harmless",
    [
        {},
        {"clip_skip": 5, "num_frames": 25, "motion_module": "v2_sd15_mm", "adapter_lora": "v2_sd15_adapter"},
        {"lora_strength": 0.5, "motion_lora_strength": "0.3", "domain_lora_scale": 0.2},
        {"lora_models": "watercolour", "lora_strength": 0, "motion_loras": "zoom-in", "motion_lora_strength": 0},
        {"adapter_lora": "v3_sd15_adapter", "domain_lora_scale": 0},
        {"upscale_strength": 0.9, "upscale_guidance_scale": 3, "upscale_num_inference_steps": 5},
        {"use_improved_sampling": False, "base64": True, "instant_response": True, "temp": True},
        {"webhook": "https://example.com/hook", "track_id": "7"},
    ],
)
def test_what_changes_nothing_passes(engine: LocalEngine, harmless: dict[str, Any]) -> None:
    engine.check(Video2VideoRequest(**BASE, **harmless))


def test_more_frames_than_the_motion_modules_know(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    short = replace(engine.catalog.lookup("tiny"), max_frames=24)
    monkeypatch.setattr(engine.catalog, "lookup", lambda _model_id: short)
    with pytest.raises(RequestValidationError, match="num_frames: must be at most 24"):
        engine.check(Video2VideoRequest(**BASE, num_frames=25))
