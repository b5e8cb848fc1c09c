"""One engine with the tiny model, and parts that fit it, for all tests of this room: torch and the model load once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.encode import write_mp4
from airflow_provider_modelslab.local.engine import Generated, LocalEngine
from airflow_provider_modelslab.local.libraries import load_diffusers
from airflow_provider_modelslab.local.tiny import build_tiny
from tests.support import tiny_parts
from tests.support.moving import moving_frames

torch.set_num_threads(1)  # for layers this small threads cost more than they gain


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny model is built."""
    return tmp_path_factory.mktemp("model-cache")


@pytest.fixture(scope="session")
def engine(cache_dir: Path) -> LocalEngine:
    """On the CPU in float32, wherever the tests run, so that the same seed gives the same bytes."""
    return LocalEngine(cache_dir=cache_dir, device="cpu", dtype="float32", offline=True)


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A moving clip: 12 frames of 96x64 at 12 fps."""
    path = tmp_path_factory.mktemp("source") / "source.mp4"
    write_mp4(moving_frames(12, 96, 64), path, 12)
    return path


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The tiny model as diffusers loads it. Tests leave it as it is."""
    folder = build_tiny(tmp_path_factory.mktemp("stock") / "tiny")
    kind = load_diffusers().AnimateDiffVideoToVideoPipeline
    pipeline: Any = kind.from_pretrained(str(folder), motion_adapter=None, use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory, stock: Any) -> Path:
    """A folder with parts of every kind that fit the tiny sizes, under built-in names where there are some."""
    folder = tmp_path_factory.mktemp("models")
    motion = folder / "motion_modules"
    for seed, name, changes in (
        (1, "v2_sd15_mm", {}),
        (2, "v3_sd15_mm", {"use_motion_mid_block": False}),
        (3, "animatelcm", {}),
        (4, "short", {"motion_max_seq_length": 5}),
    ):
        tiny_parts.motion_adapter(seed, **changes).save_pretrained(str(motion / name))
    for steps in (2, 4, 8):
        tensors = tiny_parts.motion_adapter(10 + steps).state_dict()
        name = f"animatediff_lightning_{steps}step_diffusers.safetensors"
        tiny_parts.save_lora(tensors, motion / "animateDiff-lightning" / name)
    unet, text = stock.unet, stock.text_encoder
    spatial = tiny_parts.spatial_lora(unet, text, seed=20, part=".attentions.")
    tiny_parts.save_lora(spatial, folder / "loras" / "style.safetensors")
    other = tiny_parts.spatial_lora(unet, seed=21, part=".attentions.")
    tiny_parts.save_lora(tiny_parts.kohya(other, 1.0), folder / "loras" / "kohya.safetensors")
    lcm = tiny_parts.spatial_lora(unet, seed=22, part=".attentions.")
    tiny_parts.save_lora(lcm, motion / "animatelcm" / "AnimateLCM_sd15_t2v_lora.safetensors")
    zoom = tiny_parts.spatial_lora(unet, seed=23, part=".motion_modules.")
    tiny_parts.save_lora(zoom, folder / "motion_loras" / "zoom-in.safetensors")
    pan = tiny_parts.spatial_lora(unet, seed=24, part=".motion_modules.")
    tiny_parts.save_lora(pan, folder / "motion_loras" / "v2_lora_PanLeft.safetensors")
    domain = tiny_parts.spatial_lora(unet, seed=25, part=".attentions.")
    tiny_parts.save_lora(domain, folder / "adapters" / "v3_sd15_adapter.safetensors")
    return folder


@pytest.fixture(scope="session")
def rich(model_dir: Path, cache_dir: Path) -> LocalEngine:
    """The engine with :func:`model_dir`."""
    return LocalEngine(model_dir=model_dir, cache_dir=cache_dir, device="cpu", dtype="float32", offline=True)


@pytest.fixture
def make(rich: LocalEngine, source: Path, tmp_path: Path) -> Callable[..., Generated]:
    """Do a small job with :func:`rich`: 6 frames of 32x24, 2 of 3 steps; ``None`` leaves an attribute out."""

    def generate(**changes: Any) -> Generated:
        values: dict[str, Any] = {
            "model_id": "tiny",
            "prompt": "a fox",
            "init_video": str(source),
            "seed": 7,
            "num_frames": 6,
            "width": 32,
            "height": 24,
            "num_inference_steps": 3,
            **changes,
        }
        request = Video2VideoRequest(**{name: value for name, value in values.items() if value is not None})
        return rich.generate(request, tmp_path / "made")

    return generate
