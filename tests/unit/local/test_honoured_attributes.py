from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import ATTRIBUTES, Video2VideoRequest
from airflow_provider_modelslab.local import validation
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.families.registry import FAMILIES

BASE: dict[str, Any] = {"model_id": "tiny", "prompt": "a fox", "init_video": "clip.mp4"}


@pytest.fixture(scope="module")
def online(cache_dir: Path) -> LocalEngine:
    """An engine that may use the Hub; checking does not."""
    return LocalEngine(cache_dir=cache_dir, device="cpu")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("lora_models", "watercolour", "there is no 'watercolour'"),
        ("motion_loras", ["zoom-in"], "'zoom-in' is made for Stable Diffusion 1.5, but tiny has layers of other sizes"),
        ("adapter_lora", "v3_sd15_adapter", "'v3_sd15_adapter' is made for Stable Diffusion 1.5"),
        ("motion_module", "animatelcm", "'animatelcm' is made for Stable Diffusion 1.5"),
        ("extra_parameters", {"watermark": "yes"}, "watermark"),
        ("clip_skip", 6, "at most 5"),
        ("model_id", "nobody-knows-it", "nobody-knows-it"),
    ],
)
def test_what_cannot_be_honoured_is_named(online: LocalEngine, name: str, value: object, text: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        online.check(Video2VideoRequest(**{**BASE, name: value}))
    assert list(caught.value.fields) == [name]
    assert text in caught.value.fields[name][0]


def test_an_attribute_that_no_family_honours_is_refused(online: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a newcomer gets who adds an attribute and forgets the local models."""
    monkeypatch.setattr(validation, "_OTHERS", [*validation._OTHERS, "fps"])
    online.check(Video2VideoRequest(**BASE))
    with pytest.raises(InvalidRequestError) as caught:
        online.check(Video2VideoRequest(**BASE, fps=8))
    assert list(caught.value.fields) == ["fps"]


def test_every_attribute_is_honoured_by_all_or_by_a_family_or_refused() -> None:
    known = validation.HONOURED_BY_ALL | validation._GO_WITH_ANOTHER | validation._JUDGED_BY_VALUE
    assert known <= set(ATTRIBUTES)
    assert set(validation._OTHERS) == set(ATTRIBUTES) - known
    assert (
        set().union(*(family.honours for family in FAMILIES.values())) <= set(ATTRIBUTES) - validation.HONOURED_BY_ALL
    )


def test_everything_at_fault_is_named_at_once(online: LocalEngine) -> None:
    wrong = {"motion_module": "nobodys", "lora_models": "a,b", "motion_loras": "c", "clip_skip": 9, "adapter_lora": "x"}
    with pytest.raises(InvalidRequestError) as caught:
        online.check(Video2VideoRequest(**{**BASE, **wrong}, extra_parameters={"w": 1}))
    assert set(caught.value.fields) == {*wrong, "extra_parameters"}
    assert len(caught.value.fields["lora_models"]) == 2


def test_a_built_in_model_is_checked_without_the_hub(online: LocalEngine) -> None:
    given = {"motion_module": "animatelcm", "motion_loras": "zoom-in,v2_lora_TiltUp", "adapter_lora": "v3_sd15_adapter"}
    named = {**BASE, "model_id": "epicrealismnaturalsi", "lora_models": "org/lora/file.safetensors"}
    online.check(Video2VideoRequest(**named, **given))


@pytest.mark.parametrize(
    "harmless",
    [
        {},
        {"clip_skip": 5, "num_frames": 25, "motion_module": "v2_sd15_mm", "adapter_lora": "v2_sd15_adapter"},
        {"lora_strength": 0.5, "motion_lora_strength": "0.3", "domain_lora_scale": 0.2},
        {"lora_models": "watercolour", "lora_strength": 0, "motion_loras": "zoom-in", "motion_lora_strength": 0},
        {"adapter_lora": "v3_sd15_adapter", "domain_lora_scale": 0},
        {"upscale_strength": 0.9, "upscale_guidance_scale": 3, "upscale_num_inference_steps": 5},
        {"upscale_width": 256, "use_improved_sampling": True},
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
    with pytest.raises(InvalidRequestError, match="num_frames: must be at most 24"):
        engine.check(Video2VideoRequest(**BASE, num_frames=25))
