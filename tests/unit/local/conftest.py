"""One engine with the tiny model, and parts that fit it, for all tests of this room: torch and the model load once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import Generated, LocalEngine
from airflow_provider_modelslab.local.media.encode import write_mp4
from airflow_provider_modelslab.local.models.tiny import build_tiny
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
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
    return tiny_parts.save_parts(tmp_path_factory.mktemp("models"), stock.unet, stock.text_encoder)


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
