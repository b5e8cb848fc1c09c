"""The third family: one module and one line of the registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import Generated, GenerationInterruptedError, LocalEngine
from airflow_provider_modelslab.local.families.cogvideox import CogVideoX, CogVideoXModel
from airflow_provider_modelslab.local.families.registry import family_of
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.plan import DenoisingPass
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from tests.support.moving import moving_frames
from tests.support.pipeline_family import are_the_frames_of_diffusers, engine_with, requests_for
from tests.support.tiny_parts import cogvideox_model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    folder = tmp_path_factory.mktemp("models")
    cogvideox_model(folder / "cog")
    return engine_with(folder)


@pytest.fixture
def job(source: Path) -> Any:
    return requests_for("cog", source, 9)


@pytest.mark.parametrize("guidance", [1.0, 6.0])
def test_frames_are_those_of_diffusers(engine: LocalEngine, guidance: float) -> None:
    spec = engine.catalog.lookup("cog")
    assert isinstance(family_of(spec), CogVideoX)
    model = CogVideoXModel(spec, engine.catalog, "cpu", torch.float32)
    assert are_the_frames_of_diffusers(model, 9, guidance)


def test_a_clip_is_made(engine: LocalEngine, job: Any, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made: Generated = engine.generate(
        job(width=40, height=24, upscale_width=80, upscale_num_inference_steps=2, strength=0.5, guidance_scale=None),
        tmp_path / "clip",
        on_step=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert {frame.size for frame in read_frames(made.path, 9)[0]} == {(80, 48)}
    expected = {"model_family": "cogvideox-v2v", "guidance_scale": 6.0, "fps": 8, "num_frames": 9}
    assert {name: made.meta[name] for name in expected} == expected


@pytest.mark.parametrize("change", [{"prompt": "x"}, {"negative_prompt": "x"}, {"seed": 4}, {"strength": 1}])
def test_attributes_count(engine: LocalEngine, job: Any, tmp_path: Path, change: dict[str, Any]) -> None:
    plain = engine.generate(job(), tmp_path / "a").path.read_bytes()
    assert engine.generate(job(**change), tmp_path / "b").path.read_bytes() != plain
    assert engine.generate(job(), tmp_path / "c").path.read_bytes() == plain


def test_an_interrupt_ends_the_work(engine: LocalEngine, job: Any, tmp_path: Path) -> None:
    with pytest.raises(GenerationInterruptedError, match="after 1 of 2 steps"):
        engine.generate(job(strength=0.5), tmp_path / "clip", should_stop=iter([False, True]).__next__)


def test_its_limits_and_defaults_are_its_own(engine: LocalEngine, job: Any, source: Path) -> None:
    for frames in (1, 9, 33, 49):
        engine.check(job(num_frames=frames, width=1280))
    for frames in (5, 16, 57):
        with pytest.raises(InvalidRequestError) as caught:
            engine.check(job(num_frames=frames))
        assert set(caught.value.fields) == {"num_frames"}
    plan = engine._plan(Video2VideoRequest(model_id="cog", prompt="a", init_video=str(source)), ready=False)
    (main,) = plan.passes
    assert (plan.frames, plan.fps, main.width, main.height, main.steps, main.guidance_scale) == (
        49, 8, 720, 480, 50, 6.0,
    )  # fmt: skip


def test_approximations_that_it_does_not_have_are_left_out(
    engine: LocalEngine, caplog: pytest.LogCaptureFixture
) -> None:
    spec = engine.catalog.lookup("cog")
    speed = Optimizations(guidance_until=0.5, reuse_deep=2)
    model = CogVideoXModel(spec, engine.catalog, "cpu", torch.float32, speed)
    assert "guidance_until, reuse_deep" in caplog.text
    given = DenoisingPass("a fox", "", 2, 1.0, 6.0, 3, 32, 32, scheduler="own")
    model.run(moving_frames(1, 32, 32), given, on_step=lambda _done: None)
    assert model.notes() == {}


def test_whole_clips_are_refused_by_name(engine: LocalEngine, job: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        engine.check(job(extra_parameters={"x_clip_mode": "whole"}))
    assert list(caught.value.fields) == ["x_clip_mode"]
    assert "cogvideox-v2v" in caught.value.fields["x_clip_mode"][0]
    engine.check(job(extra_parameters={"x_clip_mode": "sample"}))


def test_what_cannot_be_run_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cogvideox_model(tmp_path / "cog")
    catalog = Catalog(tmp_path, tmp_path)

    def refused() -> str:
        with pytest.raises(InvalidRequestError) as caught:
            catalog.lookup("cog")
        return caught.value.fields["model_id"][0]

    (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer" / "spiece.model")
    monkeypatch.setattr("airflow_provider_modelslab.local.families.cogvideox.find_spec", lambda _: None)
    assert "pip install sentencepiece" in refused()
    (folder / "tokenizer" / "spiece.model").unlink()
    catalog.lookup("cog")
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "patch_size_t": 2}))
    assert "CogVideoX 1.5" in refused()
