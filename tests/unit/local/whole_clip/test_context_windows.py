"""A whole clip by the local engine: its length, its sound, what it refuses, and what is in memory."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local import whole_clip
from airflow_provider_modelslab.local.engine import Generated, GenerationInterruptedError, LocalEngine
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.encode import write_mp4
from airflow_provider_modelslab.local.media.whole_clip.source import read_all, read_at_rate
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from tests.support.moving import distance, moving_frames
from tests.support.sounding import BEEP, beep_time, frame_times, grey_frames, greys, spoil_sound, write_sounding

STEADY = [number / 25 for number in range(30)]
VARIABLE = [*(number / 50 for number in range(20)), *(0.4 + number / 4 for number in range(6))]

Make = Callable[..., Generated]


def request(source: Path, **changes: Any) -> Video2VideoRequest:
    """A small whole clip: windows of 8 frames, one of two steps; extensions may be among the changes."""
    values: dict[str, Any] = {"model_id": "tiny", "prompt": "a fox", "init_video": str(source), "seed": 7}
    values |= {"num_frames": 8, "width": 32, "height": 24, "num_inference_steps": 2, "strength": 0.5}
    values |= {"x_clip_mode": "whole", **changes}
    return Video2VideoRequest.from_body({name: value for name, value in values.items() if value is not None})


@pytest.fixture
def whole(engine: LocalEngine, tmp_path: Path) -> Make:
    def generate(source: Path, **changes: Any) -> Generated:
        return engine.generate(request(source, **changes), tmp_path / "made")

    return generate


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 moving frames of 64x48 at 10 frames per second."""
    path = tmp_path_factory.mktemp("silent") / "in.mp4"
    write_mp4(moving_frames(21, 64, 48), path, 10)
    return path


@pytest.fixture(scope="module")
def sounding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.2 seconds at 25 frames per second, with a beep."""
    path = tmp_path_factory.mktemp("sounding") / "in.mp4"
    write_sounding(path, grey_frames(30), STEADY)
    return path


def refused(call: Callable[[], object]) -> list[str]:
    with pytest.raises(InvalidRequestError) as caught:
        call()
    return list(caught.value.fields)


# -- length and sound -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("times", "fps"), [(STEADY, None), (STEADY, 12), (VARIABLE, 20)])
def test_length_frame_rate_and_sound_are_the_sources(
    whole: Make, tmp_path: Path, times: list[float], fps: int | None
) -> None:
    source = tmp_path / "in.mov"
    write_sounding(source, grey_frames(len(times)), times)
    made = whole(source, fps=fps)
    wanted, length = fps or 25, 2 * times[-1] - times[-2]
    shown = frame_times(made.path)
    assert len(shown) == round(length * wanted)
    assert shown == pytest.approx([number / wanted for number in range(len(shown))], abs=1e-3)
    beep = beep_time(made.path)
    assert beep is not None
    assert abs(beep - BEEP) < 0.04
    expected = {"clip_mode": "whole", "num_frames": len(shown), "fps": wanted, "window_frames": 8, "overlap": 4}
    expected |= {"audio": "aac", "audio_copied": True, "width": 32, "height": 24, "denoising_steps": 1}
    assert {name: made.meta[name] for name in expected} == expected


def test_sound_may_be_dropped(whole: Make, sounding: Path) -> None:
    made = whole(sounding, x_audio="drop", fps=10)
    assert beep_time(made.path) is None
    assert (made.meta["audio"], "audio_problem" in made.meta) == (None, False)


def test_sound_that_cannot_be_decoded_is_told_and_the_video_is_made(whole: Make, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    write_sounding(source, grey_frames(30), STEADY, codec="alac")
    spoil_sound(source)
    made = whole(source, fps=10)
    assert (len(frame_times(made.path)), made.meta["audio"]) == (12, None)
    assert "sound" in made.meta["audio_problem"]
    assert refused(lambda: whole(source, fps=10, x_audio="require")) == ["x_audio"]


def test_sound_that_is_required_must_be_there(whole: Make, silent: Path) -> None:
    assert refused(lambda: whole(silent, x_audio="require")) == ["x_audio"]
    assert whole(silent).meta["audio"] is None


@pytest.mark.slow
def test_a_gif_has_the_clips_length(whole: Make, silent: Path) -> None:
    made = whole(silent, output_type="gif", fps=60)
    assert made.meta["fps"] == 50  # the most of a gif, whose length stays
    assert read_all(made.path, lambda *_: None, max_frames=1000) == made.meta["num_frames"] == 105


# -- as one clip ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes", [{}, {"upscale_width": 48, "upscale_num_inference_steps": 2}, {"guidance_scale": 1}]
)
def test_a_clip_shorter_than_a_window_is_the_sample_of_all_its_frames(
    engine: LocalEngine, whole: Make, tmp_path: Path, changes: dict[str, Any]
) -> None:
    source = tmp_path / "short.mp4"
    write_mp4(moving_frames(6, 64, 48), source, 10)
    sample = request(source, num_frames=6, fps=10, x_clip_mode="sample", **changes)
    made = whole(source, **changes).path.read_bytes()
    assert made == engine.generate(sample, tmp_path / "sample").path.read_bytes()


@pytest.mark.slow
def test_the_model_sees_no_more_than_a_window_at_once(
    engine: LocalEngine, silent: Path, tmp_path: Path, whole: Make
) -> None:
    whole(silent, strength=0)  # so that the model is loaded, whichever test runs first
    engine.render(engine.prepare(request(silent, x_clip_mode=None, num_frames=1)))
    model: Any = list(engine._models._entries.values())[-1].model
    seen: dict[str, list[int]] = {"unet": [], "encode": [], "decode": []}
    vae = model.pipeline.vae
    handles = [
        model.pipeline.unet.register_forward_pre_hook(lambda _, given: seen["unet"].append(given[0].shape[2])),
        vae.encoder.register_forward_pre_hook(lambda _, given: seen["encode"].append(len(given[0]))),
        vae.decoder.register_forward_pre_hook(lambda _, given: seen["decode"].append(len(given[0]))),
    ]
    try:
        whole(silent, x_overlap=2, fps=20, strength=1)
    finally:
        for handle in handles:
            handle.remove()
    assert set(seen["unet"]) == {8}
    assert sum(seen["encode"]) == sum(seen["decode"]) == 42
    assert max(*seen["encode"], *seen["decode"]) <= 16


@pytest.mark.slow
def test_the_same_request_gives_the_same_bytes_and_the_seed_counts(whole: Make, silent: Path) -> None:
    first = whole(silent).path.read_bytes()
    assert whole(silent).path.read_bytes() == first
    assert whole(silent, seed=8).path.read_bytes() != first
    assert whole(silent, x_overlap=2).path.read_bytes() != first


@pytest.mark.slow
def test_steps_are_told_of_both_passes(engine: LocalEngine, silent: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    asked = request(
        silent, upscale_height=40, upscale_num_inference_steps=2, upscale_strength=0.5, strength=1,
        use_improved_sampling=True,
    )  # fmt: skip
    made = engine.generate(asked, tmp_path / "made", on_step=lambda done, total: seen.append((done, total)))
    assert seen == [(number, 7) for number in range(1, 8)]
    assert {frame.size for frame in read_frames(made.path, 3)[0]} == {(made.meta["width"], 40)}
    assert (made.meta["num_frames"], made.meta["improved_sampling_iterations"]) == (21, 3)


def test_strength_0_gives_the_sources_frames(whole: Make, sounding: Path) -> None:
    made = whole(sounding, strength=0)
    assert greys(made.path) == pytest.approx([16 + 5 * number for number in range(30)], abs=3)


@pytest.mark.slow
def test_frames_that_come_anew_after_damage_count_once(
    whole: Make, silent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(*given: Any, on_begin: Any, on_frame: Any, **options: Any) -> None:
        on_begin()
        for number in range(18):
            on_frame(number, grey_frames(1, size=(32, 24))[0])
        read_at_rate(*given, on_begin=on_begin, on_frame=on_frame, **options)

    plain = [whole(silent, strength=strength).path.read_bytes() for strength in (0, 0.5)]
    monkeypatch.setattr(whole_clip, "read_at_rate", twice)
    assert [whole(silent, strength=strength).path.read_bytes() for strength in (0, 0.5)] == plain


def test_the_aspect_ratio_may_be_kept(cache_dir: Path, tmp_path: Path) -> None:
    write_mp4(moving_frames(10, 64, 32), tmp_path / "wide.mp4", 10)
    engine = LocalEngine(cache_dir=cache_dir, device="cpu", dtype="float32", offline=True, keep_aspect="fit")
    asked = request(tmp_path / "wide.mp4", width=32, height=32, upscale_width=64, upscale_height=64, strength=0)
    made = engine.generate(asked.model_copy(update={"upscale_strength": 0}), tmp_path / "made")
    assert (made.meta["width"], made.meta["height"]) == (64, 32)


@pytest.mark.slow
def test_deep_states_are_not_reused_across_windows(cache_dir: Path, silent: Path, tmp_path: Path) -> None:
    """The windows of the next step are others. A sample before and after it does reuse them."""
    engine = LocalEngine(
        cache_dir=cache_dir, device="cpu", dtype="float32", offline=True, speed=Optimizations(reuse_deep=2)
    )
    sample = request(silent, x_clip_mode=None, strength=1, num_inference_steps=4)
    before = engine.generate(sample, tmp_path / "before")
    made = engine.generate(request(silent, strength=1, num_inference_steps=4), tmp_path / "made")
    after = engine.generate(sample, tmp_path / "after")
    assert ("approximations" in before.meta, "approximations" in made.meta) == (True, False)
    assert after.path.read_bytes() == before.path.read_bytes()


# -- what is refused, and stopped -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"x_overlap": 8}, ["x_overlap"]),
        ({"x_overlap": "-1"}, ["x_overlap"]),
        ({"x_overlap": 2.0}, ["x_overlap"]),
        ({"num_frames": 3, "x_overlap": 3}, ["x_overlap"]),
        ({"x_clip_mode": "all"}, ["x_clip_mode"]),
        ({"x_audio": "loud"}, ["x_audio"]),
        ({"x_audio": "require", "output_type": "gif"}, ["x_audio"]),
        ({"x_clip_mode": "sample", "x_overlap": 2, "x_audio": "drop"}, ["x_overlap", "x_audio"]),
        ({"x_clip_mode": None, "x_audio": "drop"}, ["x_audio"]),
        ({"x_clip_mode": "whole", "x_other": 1}, ["extra_parameters"]),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_any_work(
    engine: LocalEngine, changes: dict[str, Any], fields: list[str]
) -> None:
    assert refused(lambda: engine.check(request(Path("none.mp4"), **changes))) == fields


def test_the_default_overlap_fits_a_short_window(engine: LocalEngine) -> None:
    plans = [engine._plan(request(Path("none.mp4"), num_frames=frames), ready=False) for frames in (1, 3, 16)]
    assert [plan.whole and plan.whole.overlap for plan in plans] == [0, 2, 4]


def test_a_clip_without_a_frame_rate_needs_one(whole: Make, tmp_path: Path) -> None:
    write_mp4(grey_frames(1), tmp_path / "in.mp4", 5)
    assert refused(lambda: whole(tmp_path / "in.mp4")) == ["fps"]
    assert whole(tmp_path / "in.mp4", fps=20).meta["num_frames"] == 4


@pytest.mark.parametrize(
    ("limit", "kind", "field"), [("MAX_GIF_FRAMES", "gif", "output_type"), ("MAX_WHOLE_FRAMES", "mp4", "x_clip_mode")]
)
def test_a_clip_that_is_too_long_is_refused(
    whole: Make, silent: Path, monkeypatch: pytest.MonkeyPatch, limit: str, kind: str, field: str
) -> None:
    monkeypatch.setattr(whole_clip, limit, 20)
    assert refused(lambda: whole(silent, output_type=kind)) == [field]
    monkeypatch.setattr(whole_clip, limit, 21)
    assert whole(silent, output_type=kind).meta["num_frames"] == 21


def test_it_stops_between_two_windows_and_leaves_nothing(
    engine: LocalEngine, silent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 7

    prepared = engine.prepare(request(silent, num_inference_steps=8))
    with pytest.raises(GenerationInterruptedError, match="after 0 of 4"):
        engine.render(prepared, should_stop=stop)
    assert asked == 8
    del prepared
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []


def test_what_is_prepared_may_be_rendered_and_written_twice(engine: LocalEngine, silent: Path, tmp_path: Path) -> None:
    prepared = engine.prepare(request(silent, strength=0))
    rendered = [engine.render(prepared) for _ in range(2)]
    del prepared
    gc.collect()
    files = [
        engine.encode(each, tmp_path / f"{number}-{again}") for number, each in enumerate(rendered) for again in "ab"
    ]
    assert len({made.path.read_bytes() for made in files}) == 1


def test_a_full_disk_is_no_fault_of_the_model(
    engine: LocalEngine, silent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("airflow_provider_modelslab.local.media.output.Mp4Writer.add", fail)
    with pytest.raises(JobFailedError, match=r"could not be written.*No space left"):
        engine.generate(request(silent, strength=0), tmp_path / "made")


@pytest.mark.slow
def test_neighbours_differ_no_more_at_a_window_than_elsewhere(whole: Make, silent: Path) -> None:
    made: list[Any] = []
    read_all(whole(silent, fps=20, strength=1).path, lambda _, picture: made.append(picture), max_frames=100)
    steps = np.array([distance([one], [other]) for one, other in pairwise(made)])
    assert steps.max() < 3 * steps.mean()
