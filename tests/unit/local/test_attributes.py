"""Each attribute of the page does something, and just what it says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import Generated, LocalEngine
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers

Make = Callable[..., Generated]
UNetMotionModel = load_diffusers().UNetMotionModel

# diffusers 0.42's Euler schedule under numpy 2.4
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The frames (twice those of the clip with guidance) of each call of the UNet since the test began."""
    seen: list[int] = []
    forward = UNetMotionModel.forward

    def counted(unet: Any, sample: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(sample.shape[0] * sample.shape[2])
        return forward(unet, sample, *arguments, **options)

    monkeypatch.setattr(UNetMotionModel, "forward", counted)
    return seen


@pytest.fixture(scope="module")
def plain_bytes() -> dict[str, bytes]:
    """The clip without changes, made once."""
    return {}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a red ship"},
        {"negative_prompt": "low quality"},
        {"seed": 8},
        {"guidance_scale": 3},
        {"guidance_scale": 1},
        {"clip_skip": 1},
        {"clip_skip": 5},
        {"strength": 1},
        {"num_inference_steps": 6},
        {"num_frames": 5},
        {"fps": 5},
        {"width": 40},
        {"height": 32},
        {"output_type": "gif"},
        {"lora_models": "style"},
        {"motion_loras": "zoom-in"},
        {"adapter_lora": "v3_sd15_adapter"},
        {"motion_module": "v3_sd15_mm"},
        {"upscale_width": 64},
        {"use_improved_sampling": True},
    ],
    ids=lambda change: "-".join(f"{name}={value}" for name, value in change.items()),
)
def test_changes_the_clip_and_leaves_no_trace(
    make: Make, plain_bytes: dict[str, bytes], change: dict[str, Any]
) -> None:
    before = plain_bytes.setdefault("plain", b"") or make().path.read_bytes()
    plain_bytes["plain"] = before
    assert make(**change).path.read_bytes() != before
    assert make().path.read_bytes() == before


@pytest.mark.slow
def test_half_precision_does_not_drift_either(model_dir: Path, cache_dir: Path, source: Path, tmp_path: Path) -> None:
    half = LocalEngine(model_dir=model_dir, cache_dir=cache_dir, device="cpu", dtype="bfloat16", offline=True)
    plain: dict[str, Any] = {"model_id": "tiny", "prompt": "a fox", "init_video": str(source), "seed": 7}
    plain |= {"num_frames": 4, "width": 16, "height": 16, "num_inference_steps": 2}
    loras = {
        "lora_models": "style,kohya",
        "lora_strength": 0.3,
        "motion_loras": "zoom-in",
        "motion_module": "v3_sd15_mm",
    }
    made = [
        half.generate(Video2VideoRequest(**values), tmp_path / "clip").path.read_bytes()
        for values in (plain, {**plain, **loras}, {**plain, "adapter_lora": "v3_sd15_adapter"}, plain)
    ]
    assert made[0] == made[3]
    assert len(set(made)) == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"clip_skip": 0}, {}),
        ({"guidance_scale": 1, "negative_prompt": "low quality"}, {"guidance_scale": 0}),
        ({"lora_models": "style", "lora_strength": 0}, {}),
        ({"lora_models": "style,kohya", "lora_strength": "1,0"}, {"lora_models": "style"}),
        ({"motion_loras": "zoom-in", "motion_lora_strength": 0}, {}),
        ({"adapter_lora": "v3_sd15_adapter", "domain_lora_scale": 0}, {}),
        ({"adapter_lora": "v2_sd15_adapter", "domain_lora_scale": 0.5}, {}),
        ({"motion_loras": "zoom_in"}, {"motion_loras": "v2_lora_ZoomIn"}),
        ({"motion_loras": "pan-left"}, {"motion_loras": "v2_lora_PanLeft"}),
        ({"motion_module": "v2_sd15_mm"}, {}),
    ],
)
def test_means_the_same(make: Make, change: dict[str, Any], other: dict[str, Any]) -> None:
    assert make(**change).path.read_bytes() == make(**other).path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, [12] * 2),
        ({"guidance_scale": 1}, [6] * 2),
        ({"guidance_scale": 0}, [6] * 2),
        ({"strength": 1}, [12] * 3),
        ({"strength": 0.01}, [12]),
        ({"strength": 0}, []),
        ({"num_inference_steps": 10}, [12] * 7),
        ({"num_frames": 5}, [10] * 2),
        ({"use_improved_sampling": True}, [12] * 6),
        ({"use_improved_sampling": True, "num_inference_steps": 5, "guidance_scale": 1}, [6] * 9),
        ({"upscale_width": 40, "upscale_num_inference_steps": 5}, [12] * 5),
        ({"upscale_width": 40, "upscale_num_inference_steps": 5, "upscale_guidance_scale": 1}, [12] * 2 + [6] * 3),
        ({"upscale_width": 40, "upscale_num_inference_steps": 5, "upscale_strength": 0}, [12] * 2),
        ({"strength": 0, "upscale_width": 40, "upscale_num_inference_steps": 5, "upscale_strength": 1}, [12] * 5),
        ({"use_improved_sampling": True, "upscale_width": 40, "upscale_num_inference_steps": 5}, [12] * 9),
        ({"motion_module": "animatelcm", "num_inference_steps": None}, [12] * 4),
        ({"motion_module": "animateDiff-lightning", "num_inference_steps": None}, [6] * 4),
        ({"motion_module": "animateDiff-lightning", "num_inference_steps": 8, "guidance_scale": 2}, [12] * 8),
        ({"motion_module": "animateDiff-lightning", "num_inference_steps": None, "strength": 0.05}, [6] * 4),
    ],
)
def test_calls_the_model_as_often_as_it_says(
    make: Make, calls: list[int], change: dict[str, Any], expected: list[int]
) -> None:
    made = make(**change)
    assert calls == expected
    assert made.meta["denoising_steps"] == len(expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lora", "motion_lora", "domain"])
def test_strength_is_in_proportion(rich: LocalEngine, make: Make, kind: str) -> None:
    names = {"lora": "lora_models", "motion_lora": "motion_loras", "domain": "adapter_lora"}
    strengths = {"lora": "lora_strength", "motion_lora": "motion_lora_strength", "domain": "domain_lora_scale"}
    lora = {"lora": "style", "motion_lora": "zoom-in", "domain": "v3_sd15_adapter"}[kind]
    make()
    plain = weights(rich)
    changes = []
    for strength in (0.5, 1.0, -1.0):
        make(**{names[kind]: lora, strengths[kind]: strength})
        dressed = weights(rich)
        changes.append({name: dressed[name] - plain[name] for name in plain if not dressed[name].equal(plain[name])})
    half, full, negative = changes
    assert set(half) == set(full) == set(negative) != set()
    assert {".motion_modules." in name for name in full} == {kind == "motion_lora"}
    for name in full:
        assert half[name].allclose(full[name] / 2, atol=1e-5)
        assert negative[name].allclose(-full[name], atol=1e-5)


def newest(engine: LocalEngine) -> AnimateDiffModel:
    """The model that was used last."""
    model = list(engine._models._entries.values())[-1].model
    assert isinstance(model, AnimateDiffModel)
    return model


def weights(engine: LocalEngine) -> dict[str, Any]:
    return dict(newest(engine).pipeline.unet.state_dict())


@pytest.mark.slow
def test_several_loras_add_up(rich: LocalEngine, make: Make) -> None:
    make()
    plain = weights(rich)
    make(lora_models="style", lora_strength=0.7)
    one = weights(rich)
    make(lora_models="kohya", lora_strength=-0.4)
    two = weights(rich)
    made = make(lora_models=["style", "kohya"], lora_strength="0.7,-0.4")
    both = weights(rich)
    assert all(both[name].allclose(one[name] + two[name] - plain[name], atol=1e-5) for name in plain)
    assert (made.meta["lora_models"], made.meta["lora_strength"]) == (["style", "kohya"], [0.7, -0.4])


@pytest.mark.slow
def test_a_lora_changes_the_text_encoder_too(rich: LocalEngine, make: Make) -> None:
    make()
    encoder = newest(rich).pipeline.text_encoder
    plain = {name: weight.clone() for name, weight in encoder.state_dict().items()}
    make(lora_models="style")
    changed = {name for name, weight in encoder.state_dict().items() if not weight.equal(plain[name])}
    make()
    assert {name.rsplit(".", 2)[-2] for name in changed} == {"q_proj", "out_proj"}
    assert all(weight.equal(plain[name]) for name, weight in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("steps", "file"), [(None, 4), (1, 2), (2, 2), (3, 2), (4, 4), (5, 4), (7, 8), (8, 8), (50, 8)]
)
def test_lightning_takes_the_file_for_its_steps(rich: LocalEngine, steps: int | None, file: int) -> None:
    given = {} if steps is None else {"num_inference_steps": steps}
    request = Video2VideoRequest(
        model_id="tiny", prompt="a", init_video="a.mp4", motion_module="animateDiff-lightning", **given
    )
    motion = rich._plan(request, ready=False).motion
    assert motion is not None
    assert str(motion.source).endswith(f"_{file}step_diffusers.safetensors")


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"upscale_width": 64}, (64, 48)),
        ({"upscale_height": 36}, (48, 36)),
        ({"upscale_width": 70, "upscale_height": 50}, (70, 50)),
        ({"upscale_width": 16}, (16, 16)),
    ],
)
def test_upscaling_gives_the_size(make: Make, given: dict[str, int], size: tuple[int, int]) -> None:
    made = make(**given, upscale_num_inference_steps=2)
    assert {frame.size for frame in read_frames(made.path, 6)[0]} == {size}
    assert (made.meta["width"], made.meta["height"]) == size
    assert (made.meta["upscale_width"], made.meta["upscale_height"]) == size


@pytest.mark.slow
def test_meta_tells_what_a_motion_module_made_of_it(make: Make) -> None:
    meta = make(motion_module="animatelcm", num_inference_steps=None, upscale_width=40).meta
    expected = {
        "motion_module": "animatelcm",
        "num_inference_steps": 6,
        "guidance_scale": 2.0,
        "scheduler": "lcm",
        "upscale_num_inference_steps": 6,
        "upscale_guidance_scale": 2.0,
        "improved_sampling_iterations": 1,
        "adapter_lora": "v2_sd15_adapter",
        "lora_models": None,
        "model_family": "animatediff-sd15",
        "denoising_steps": 4 + 3,
    }
    assert {name: meta[name] for name in expected} == expected
    assert make(use_improved_sampling=True).meta["improved_sampling_iterations"] == 3
    assert make(motion_loras="zoom_in", motion_lora_strength=0.5).meta["motion_loras"] == ["zoom-in"]
    assert make(adapter_lora="v3_sd15_adapter").meta["adapter_lora"] == "v3_sd15_adapter"
