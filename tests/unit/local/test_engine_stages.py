from __future__ import annotations

import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local import engine as module
from airflow_provider_modelslab.local.engine import Generated, GenerationInterruptedError, LocalEngine
from airflow_provider_modelslab.local.families.animatediff.family import AnimateDiff
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations


def request(source: Path | str = "http://h/a.gif", **changes: Any) -> Video2VideoRequest:
    """A small job: 4 frames of 32x24, 2 of 3 steps."""
    values = {"model_id": "tiny", "prompt": "a fox", "init_video": str(source), "seed": 7, "num_frames": 4}
    return Video2VideoRequest(**{**values, "width": 32, "height": 24, "num_inference_steps": 3, **changes})


@pytest.mark.parametrize("changes", [{}, {"upscale_width": 48, "upscale_num_inference_steps": 2}, {"strength": 0}])
def test_the_stages_in_a_row_are_generate(
    engine: LocalEngine, source: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = engine.generate(request(source, **changes), tmp_path / "whole")
    prepared = engine.prepare(request(source, **changes))
    assert [frame.size for frame in prepared.frames] == [(32, 24)] * 4
    rendered = engine.render(prepared)
    made = engine.encode(rendered, tmp_path / "made")
    assert made.path.read_bytes() == whole.path.read_bytes()
    assert made.meta == whole.meta
    assert 0 < prepared.seconds < rendered.seconds < made.seconds


def test_what_is_prepared_can_be_rendered_again_with_the_seed_that_was_drawn(
    engine: LocalEngine, source: Path, tmp_path: Path
) -> None:
    prepared = engine.prepare(request(source, seed=None))
    first, second = (engine.encode(engine.render(prepared), tmp_path / name) for name in "ab")
    assert first.meta["seed"] == second.meta["seed"] == prepared.plan.passes[0].seed
    assert first.path.read_bytes() == second.path.read_bytes()


def test_preparing_refuses_and_uses_no_model(
    engine: LocalEngine, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LocalEngine, "_run", lambda *_: pytest.fail("the model was used"))
    engine.prepare(request(source))
    with pytest.raises(InvalidRequestError, match="init_video"):
        engine.prepare(request(tmp_path / "none.mp4"))
    with pytest.raises(InvalidRequestError, match="motion_module"):
        engine.prepare(request(source, motion_module="nobodys"))


def test_a_clip_is_read_and_another_one_written_while_a_third_is_rendered(
    engine: LocalEngine, source: Path, tmp_path: Path
) -> None:
    earlier = engine.render(engine.prepare(request(source, seed=1)))
    in_the_middle, go_on = threading.Event(), threading.Event()
    made: list[Generated] = []

    def wait(done: int, _steps: int) -> None:
        if done == 1:
            in_the_middle.set()
            assert go_on.wait(60)

    def render() -> None:
        made.append(engine.encode(engine.render(engine.prepare(request(source, seed=2)), on_step=wait), tmp_path / "b"))

    thread = threading.Thread(target=render)
    thread.start()
    assert in_the_middle.wait(60)
    written = engine.encode(earlier, tmp_path / "a")
    following = engine.prepare(request(source, seed=3))
    assert not made
    go_on.set()
    thread.join(60)
    assert written.meta["seed"] == 1
    assert [clip.meta["seed"] for clip in made] == [2]
    assert engine.render(following).plan.passes[0].seed == 3


def test_the_wait_for_another_clip_does_not_count(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    prepared = engine.prepare(request(source, strength=0))
    rendered: list[float] = []
    with engine._lock:
        thread = threading.Thread(target=lambda: rendered.append(engine.render(prepared).seconds))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        freed = time.monotonic()
    thread.join()
    assert rendered[0] - prepared.seconds <= time.monotonic() - freed


def test_rendering_stops_and_writes_nothing(engine: LocalEngine, source: Path) -> None:
    prepared = engine.prepare(request(source))
    with pytest.raises(GenerationInterruptedError, match="after 1 of 2 steps"):
        engine.render(prepared, should_stop=iter([False, True]).__next__)


def test_the_key_brings_together_what_shares_weights_and_shapes(rich: LocalEngine) -> None:
    def key(**changes: Any) -> tuple[Any, ...]:
        return rich.model_key(request(**changes))

    assert key() == key(prompt="other", seed=1, init_video="http://h/b.gif", fps=3, output_type="gif")
    others: list[dict[str, Any]] = [
        {"motion_module": "animatelcm"},
        {"motion_module": "v3_sd15_mm"},
        {"lora_models": "style", "lora_strength": 0.5},
        {"lora_models": "style", "lora_strength": 0.6},
        {"motion_loras": "zoom-in"},
        {"width": 40},
        {"num_frames": 5},
        {"num_inference_steps": 4},
        {"guidance_scale": 1},
        {"upscale_width": 64},
        {"use_improved_sampling": True},
    ]
    keys = [key(), *(key(**change) for change in others)]
    assert len(set(keys)) == len(keys)
    mixed = [(name, key(**change)) for change in others for name in ("first", "second")]
    random.Random(3).shuffle(mixed)
    mixed.sort(key=lambda pair: pair[1])
    assert all(first[1] == second[1] for first, second in zip(mixed[::2], mixed[1::2], strict=True))
    motions = [found[1][0] for found in sorted(keys)]
    assert motions == sorted(motions)  # the model and its motion module before what is cheaper to change


def test_the_key_refuses_and_fetches_nothing(engine: LocalEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fetch_clip", lambda *_, **__: pytest.fail("fetched"))
    assert hash(engine.model_key(request()))
    with pytest.raises(InvalidRequestError, match="no model 'nobodys'"):
        engine.model_key(request(model_id="nobodys"))


def test_speed_goes_to_the_model_and_its_notes_to_the_meta(
    cache_dir: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, seen = AnimateDiff.load, []

    def keep(*values: Any) -> AnimateDiffModel:
        seen.append(values[5])
        return load(*values)

    monkeypatch.setattr(AnimateDiff, "load", keep)
    monkeypatch.setattr(AnimateDiffModel, "notes", lambda _: {"fell_back": ["chunks"]})
    speed = Optimizations()
    own = LocalEngine(cache_dir=cache_dir, device="cpu", dtype="float32", speed=speed)
    assert own.generate(request(source), tmp_path / "clip").meta["fell_back"] == ["chunks"]
    assert seen == [speed]
    assert seen[0] is speed
