"""One engine with the tiny model for all tests of this room: torch and the model load once."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_provider_modelslab.local.encode import write_mp4
from airflow_provider_modelslab.local.engine import LocalEngine
from tests.support.moving import moving_frames


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the tiny model is built."""
    return tmp_path_factory.mktemp("model-cache")


@pytest.fixture(scope="session")
def engine(cache_dir: Path) -> LocalEngine:
    """On the CPU in float32, wherever the tests run, so that the same seed gives the same bytes."""
    return LocalEngine(cache_dir=cache_dir, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A moving clip: 12 frames of 96x64 at 12 fps."""
    path = tmp_path_factory.mktemp("source") / "source.mp4"
    write_mp4(moving_frames(12, 96, 64), path, 12)
    return path
