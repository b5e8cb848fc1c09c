"""The second family: that the seam between engine and models holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import Generated, GenerationInterruptedError, LocalEngine
from airflow_provider_modelslab.local.families.registry import family_of
from airflow_provider_modelslab.local.families.wan import Wan, WanModel
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.encode import write_mp4
from airflow_provider_modelslab.local.models.catalog import Catalog
from tests.support.moving import moving_frames
from tests.support.pipeline_family import are_the_frames_of_diffusers, engine_with, requests_for
from tests.support.sounding import frame_times
from tests.support.tiny_parts import wan_model


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> LocalEngine:
    folder = tmp_path_factory.mktemp("models")
    wan_model(folder / "wan")
    return engine_with(folder)


@pytest.fixture
def job(source: Path) -> Any:
    return requests_for("wan", source, 5)


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_frames_are_those_of_diffusers(engine: LocalEngine, guidance: float, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = engine.catalog.lookup("wan")
    assert isinstance(family_of(spec), Wan)
    model = WanModel(spec, engine.catalog, "cpu", torch.float32)
    # Its own way to clean prompts needs a package that is not there; nothing is to be cleaned here.
    monkeypatch.setattr("diffusers.pipelines.wan.pipeline_wan_video2video.prompt_clean", lambda text: text)
    assert are_the_frames_of_diffusers(model, 5, guidance)


def test_a_clip_is_made(engine: LocalEngine, job: Any, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made: Generated = engine.generate(
        job(width=40, height=24, upscale_width=80, upscale_num_inference_steps=2, strength=0.5),
        tmp_path / "clip",
        on_step=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert {frame.size for frame in read_frames(made.path, 5)[0]} == {(80, 48)}
    expected = {"model_family": "wan-v2v", "guidance_scale": 5.0, "fps": 16, "num_frames": 5, "motion_module": None}
    assert {name: made.meta[name] for name in expected} == expected


@pytest.mark.parametrize("change", [{"prompt": "x"}, {"negative_prompt": "x"}, {"seed": 4}, {"strength": 1}])
def test_attributes_count(engine: LocalEngine, job: Any, tmp_path: Path, change: dict[str, Any]) -> None:
    plain = engine.generate(job(), tmp_path / "a").path.read_bytes()
    assert engine.generate(job(**change), tmp_path / "b").path.read_bytes() != plain
    assert engine.generate(job(), tmp_path / "c").path.read_bytes() == plain


@pytest.mark.parametrize("upscale", [{}, {"upscale_width": 48, "upscale_num_inference_steps": 2}])
def test_a_whole_clip_of_one_window_has_the_frames_of_a_sample(
    engine: LocalEngine, job: Any, tmp_path: Path, upscale: dict[str, Any]
) -> None:
    """The clip goes through the VAE four frames at a time, and comes out the same."""
    write_mp4(moving_frames(9, 40, 24), tmp_path / "in.mp4", 10)
    given: dict[str, Any] = {"init_video": str(tmp_path / "in.mp4"), "num_frames": 9, "fps": 10, "width": 40, **upscale}
    sample = engine.generate(job(**given), tmp_path / "sample")
    whole = engine.generate(job(**given, extra_parameters={"x_clip_mode": "whole"}), tmp_path / "whole")
    assert whole.path.read_bytes() == sample.path.read_bytes()
    assert whole.meta["denoising_steps"] == sample.meta["denoising_steps"]


@pytest.mark.parametrize("count", [11, 13, 14])
def test_a_whole_clip_has_its_own_number_of_frames_and_wan_sees_one_window_at_once(
    engine: LocalEngine, job: Any, tmp_path: Path, count: int
) -> None:
    write_mp4(moving_frames(count, 32, 32), tmp_path / "in.mp4", 10)
    asked = job(init_video=str(tmp_path / "in.mp4"), strength=0.5, extra_parameters={"x_clip_mode": "whole"})
    engine.generate(asked, tmp_path / "first")
    (loaded,) = engine._models._entries.values()
    transformer: Any = loaded.model.pipeline.transformer  # type: ignore[attr-defined]
    seen: list[int] = []
    embed = transformer.patch_embedding.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[2]))
    try:
        made = engine.generate(asked, tmp_path / "made")
    finally:
        embed.remove()
    assert set(seen) == {2}  # 5 frames are 2 latents
    assert len(frame_times(made.path)) == made.meta["num_frames"] == count
    assert made.path.read_bytes() == (tmp_path / "first").read_bytes()


def test_an_interrupt_ends_the_work(engine: LocalEngine, job: Any, tmp_path: Path) -> None:
    with pytest.raises(GenerationInterruptedError, match="after 1 of 2 steps"):
        engine.generate(job(strength=0.5), tmp_path / "clip", should_stop=iter([False, True]).__next__)


def test_frames_are_4k_plus_1(engine: LocalEngine, job: Any, source: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"num_frames: must be 4k . 1 with wan, such as 13 or 17; got 16"):
        engine.check(job(num_frames=16))
    for frames in (1, 5, 13, 25, 33, 81):
        engine.check(job(num_frames=frames))
    unset = Video2VideoRequest(model_id="wan", prompt="a", init_video=str(source))
    assert engine._plan(unset, ready=False).frames == 17


def test_the_sizes_that_wan_is_made_for_are_allowed(engine: LocalEngine, job: Any) -> None:
    """The limits of the vendor's page, 768 pixels and 25 frames, are not Wan's."""
    engine.check(job(width=832, height=480, num_frames=81, num_inference_steps=60))
    engine.check(job(width=1280, height=1280, upscale_width=1280, upscale_height=1280))
    beyond = {"width": 1281, "height": 1281, "upscale_width": 1281, "upscale_height": 1281, "num_frames": 85}
    with pytest.raises(InvalidRequestError) as caught:
        engine.check(job(**beyond, num_inference_steps=1001))
    assert set(caught.value.fields) == {*beyond, "num_inference_steps"}


def test_what_the_family_cannot_honour_is_named(engine: LocalEngine, job: Any) -> None:
    asked: dict[str, Any] = {
        "lora_models": "style",
        "motion_loras": "zoom-in",
        "adapter_lora": "v3_sd15_adapter",
        "motion_module": "v2_sd15_mm",
        "clip_skip": 1,
        "use_improved_sampling": True,
    }
    with pytest.raises(InvalidRequestError) as caught:
        engine.check(job(**asked))
    assert set(caught.value.fields) == set(asked)
    assert (
        "is not supported by models of the family wan-v2v; got true" in caught.value.fields["use_improved_sampling"][0]
    )


def test_the_built_in_one_is_known(tmp_path: Path) -> None:
    spec = Catalog(None, tmp_path).lookup("wan2.1-t2v-1.3b")
    assert (spec.family, spec.source.repo, spec.width, spec.height, spec.fps) == (
        "wan-v2v", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", 832, 480, 16,
    )  # fmt: skip
