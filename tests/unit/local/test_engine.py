from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError
from airflow_provider_modelslab.api.request import MAX_SEED, Video2VideoRequest
from airflow_provider_modelslab.local.engine import Generated, GenerationInterruptedError, LocalEngine
from airflow_provider_modelslab.local.families.animatediff.family import AnimateDiff
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.media.decode import frame_order, read_frames, resize_frames
from airflow_provider_modelslab.local.media.fetch import FetchLimits
from tests.support.files_server import FilesServer, ServedFile
from tests.support.moving import distance, moving_frames


def request(source: Path | str, **changes: Any) -> Video2VideoRequest:
    """A small job: 6 frames of 64x48, 2 of 3 steps."""
    values = {"model_id": "tiny", "prompt": "a fox", "init_video": str(source), "seed": 7, "num_frames": 6}
    return Video2VideoRequest(**{**values, "width": 64, "height": 48, "num_inference_steps": 3, **changes})


@pytest.fixture
def bytes_of(engine: LocalEngine, source: Path, tmp_path: Path) -> Any:
    """The clip that a job gives."""

    def generate(**changes: Any) -> bytes:
        return engine.generate(request(source, **changes), tmp_path / "bytes").path.read_bytes()

    return generate


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mp4", "gif"])
@pytest.mark.parametrize(("size", "encoded"), [((64, 48), (64, 48)), ((72, 40), (72, 40)), ((70, 37), (70, 36))])
def test_the_clip_is_what_was_asked_for(
    engine: LocalEngine, source: Path, tmp_path: Path, kind: str, size: tuple[int, int], encoded: tuple[int, int]
) -> None:
    job = request(source, width=size[0], height=size[1], output_type=kind, fps=5)
    made = engine.generate(job, tmp_path / "new" / "clip")
    frames, fps = read_frames(made.path, 6)
    real = size if kind == "gif" else encoded
    assert made.path.read_bytes()[:6] == b"GIF89a" if kind == "gif" else made.path.read_bytes()[4:8] == b"ftyp"
    assert [frame.size for frame in frames] == [real] * 6
    assert fps == pytest.approx(5)
    assert (made.meta["width"], made.meta["height"], made.meta["fps"]) == (*real, 5)
    assert [path.name for path in made.path.parent.iterdir()] == ["clip"]


@pytest.mark.parametrize(("keep_aspect", "size"), [("stretch", (96, 96)), ("crop", (96, 96)), ("fit", (96, 64))])
def test_the_aspect_ratio_is_kept_where_that_is_asked_for(
    source: Path, tmp_path: Path, keep_aspect: Any, size: tuple[int, int]
) -> None:
    engine = LocalEngine(cache_dir=tmp_path / "cache", device="cpu", keep_aspect=keep_aspect)
    sizes = {"width": 48, "height": 48, "upscale_width": 96, "upscale_height": 96}
    job = request(source, **sizes, strength=0, upscale_strength=0)  # no model is loaded
    made = engine.generate(job, tmp_path / "clip")
    assert read_frames(made.path, 2)[0][0].size == size
    assert (made.meta["width"], made.meta["height"]) == size


def test_an_unknown_way_to_keep_the_aspect_ratio_is_refused() -> None:
    with pytest.raises(ValueError, match="keep_aspect must be one of stretch, crop, fit; got 'zoom'"):
        LocalEngine(keep_aspect="zoom")  # type: ignore[arg-type]


def test_meta_tells_what_was_used(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    made = engine.generate(request(source, negative_prompt="bad", clip_skip=1), tmp_path / "clip.mp4")
    expected = {
        "model_id": "tiny",
        "prompt": "a fox",
        "negative_prompt": "bad",
        "init_video": str(source),
        "seed": 7,
        "width": 64,
        "height": 48,
        "num_frames": 6,
        "fps": 8,
        "num_inference_steps": 3,
        "guidance_scale": 7.5,
        "strength": 0.7,
        "clip_skip": 1,
        "output_type": "mp4",
        "motion_module": "v2_sd15_mm",
        "adapter_lora": "v2_sd15_adapter",
        "denoising_steps": 2,
        "source_fps": 12.0,
        "device": "cpu",
        "dtype": "float32",
    }
    assert {name: made.meta[name] for name in expected} == expected
    assert set(Video2VideoRequest.model_fields) <= set(made.meta)
    assert json.loads(json.dumps(made.meta)) == made.meta
    assert made.seconds > 0


def test_defaults_come_from_the_model(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    job = Video2VideoRequest(model_id="tiny", prompt="a fox", init_video=str(source), strength=0)
    meta = engine.generate(job, tmp_path / "clip").meta
    assert (meta["width"], meta["height"], meta["num_frames"], meta["fps"]) == (128, 128, 16, 8)
    assert (meta["output_type"], meta["guidance_scale"]) == ("mp4", 7.5)


def test_a_gif_tells_the_speed_it_has(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    job = request(source, strength=0, output_type="gif", fps=120)
    assert engine.generate(job, tmp_path / "clip").meta["fps"] == 50


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_the_same_seed_gives_the_same_bytes(bytes_of: Any, kind: str) -> None:
    first = bytes_of(output_type=kind)
    assert bytes_of(output_type=kind) == first
    assert bytes_of(output_type=kind, seed=8) != first


def test_no_seed_draws_one_that_can_be_used_again(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    drawn = [engine.generate(request(source, seed=None), tmp_path / str(number)) for number in range(2)]
    seeds = [made.meta["seed"] for made in drawn]
    assert all(0 <= seed <= MAX_SEED for seed in seeds)
    assert seeds[0] != seeds[1]
    again = engine.generate(request(source, seed=seeds[0]), tmp_path / "again")
    assert again.path.read_bytes() == drawn[0].path.read_bytes()


@pytest.mark.parametrize(
    ("steps", "strength", "expected"), [(3, 0.7, 2), (10, 0.7, 7), (4, 1, 4), (50, 0.001, 1), (5, 0.1, 1), (4, 0, 0)]
)
def test_steps_are_counted(
    engine: LocalEngine, source: Path, tmp_path: Path, steps: int, strength: float, expected: int
) -> None:
    seen: list[tuple[int, int]] = []
    job = request(source, num_inference_steps=steps, strength=strength)
    meta = engine.generate(job, tmp_path / "clip", on_step=lambda done, all_: seen.append((done, all_))).meta
    assert seen == [(done, expected) for done in range(1, expected + 1)]
    assert meta["denoising_steps"] == expected
    assert meta["num_inference_steps"] == steps


@pytest.mark.parametrize("kind", ["mp4", "gif"])
def test_strength_0_gives_the_source(engine: LocalEngine, source: Path, tmp_path: Path, kind: str) -> None:
    made = engine.generate(request(source, strength=0, output_type=kind), tmp_path / "clip")
    wanted = resize_frames(read_frames(source, 6)[0], 64, 48)
    assert distance(wanted, read_frames(made.path, 6)[0]) < 4


@pytest.mark.slow
def test_strength_leads_away_from_the_source(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    wanted = resize_frames(read_frames(source, 6)[0], 64, 48)
    distances = []
    for strength in (0, 0.05, 0.2, 0.5):
        made = engine.generate(request(source, num_inference_steps=20, strength=strength), tmp_path / "clip")
        distances.append(distance(wanted, read_frames(made.path, 6)[0]))
    assert distances == sorted(distances)
    assert distances[-1] > 2 * distances[1]


def test_the_source_shows_through(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    dark = [frame.point(lambda value: value // 4) for frame in moving_frames(6, 96, 64)]
    dark[0].save(tmp_path / "dark.gif", save_all=True, append_images=dark[1:], duration=100)
    made = [
        engine.generate(request(clip, num_inference_steps=20, strength=0.05), tmp_path / f"{number}.mp4").path
        for number, clip in enumerate((source, tmp_path / "dark.gif"))
    ]
    assert distance(*(read_frames(path, 6)[0] for path in made)) > 20


def test_a_short_clip_is_played_forwards_and_backwards(engine: LocalEngine, tmp_path: Path) -> None:
    frames = moving_frames(3, 64, 48)
    frames[0].save(tmp_path / "short.gif", save_all=True, append_images=frames[1:], duration=100)
    made = engine.generate(request(tmp_path / "short.gif", strength=0, num_frames=8), tmp_path / "clip")
    assert distance([frames[index] for index in frame_order(3, 8)], read_frames(made.path, 8)[0]) < 4


def test_a_palette_gif_is_a_source(engine: LocalEngine, tmp_path: Path) -> None:
    frames = [frame.quantize(64) for frame in moving_frames(7, 40, 30)]
    frames[0].save(tmp_path / "p.gif", save_all=True, append_images=frames[1:], duration=100)
    made = engine.generate(request(tmp_path / "p.gif"), tmp_path / "clip")
    assert len(read_frames(made.path, 6)[0]) == 6
    assert made.meta["source_fps"] == pytest.approx(10)


def test_a_link_is_a_source(files: FilesServer, cache_dir: Path, source: Path, tmp_path: Path) -> None:
    link = files.add("/in.mp4", ServedFile(source.read_bytes())) + "?X-Amz-Signature=abc"
    inside = LocalEngine(cache_dir=cache_dir, limits=FetchLimits(allow_private_addresses=True))
    meta = inside.generate(request(link, strength=0), tmp_path / "clip").meta
    assert meta["init_video"] == files.url("/in.mp4")
    with pytest.raises(InvalidRequestError, match="public internet"):
        LocalEngine(cache_dir=cache_dir).generate(request(link), tmp_path / "other")


def test_an_interrupt_ends_the_work(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    done: list[int] = []
    with pytest.raises(GenerationInterruptedError, match="after 2 of 10 steps"):
        engine.generate(
            request(source, num_inference_steps=10, strength=1),
            tmp_path / "clip",
            on_step=lambda step, _all: done.append(step),
            should_stop=lambda: len(done) >= 2,
        )
    assert done == [1, 2]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(GenerationInterruptedError, match="after 0 of"):
        engine.generate(request(source), tmp_path / "clip", should_stop=lambda: True)


def test_an_interrupt_leaves_the_engine_as_it_was(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    before = engine.generate(request(source), tmp_path / "before").path.read_bytes()
    with pytest.raises(GenerationInterruptedError):
        engine.generate(request(source, prompt="other"), tmp_path / "no", should_stop=iter([False, True]).__next__)
    assert engine.generate(request(source), tmp_path / "after").path.read_bytes() == before


@pytest.mark.slow
def test_threads_share_an_engine(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    alone = [engine.generate(request(source, seed=seed), tmp_path / f"{seed}").path.read_bytes() for seed in (1, 2)]
    made: dict[int, Generated] = {}

    def work(seed: int) -> None:
        made[seed] = engine.generate(request(source, seed=seed), tmp_path / f"thread-{seed}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [made[seed].path.read_bytes() for seed in (1, 2)] == alone


def test_a_model_is_loaded_once(
    engine: LocalEngine, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.generate(request(source), tmp_path / "first")
    monkeypatch.setattr(AnimateDiff, "load", lambda *_: pytest.fail("loaded again"))
    engine.generate(request(source, prompt="other", clip_skip=1), tmp_path / "second")


@pytest.mark.slow
def test_the_memory_can_be_had_back(cache_dir: Path, source: Path, tmp_path: Path) -> None:
    own = LocalEngine(cache_dir=cache_dir, device="cpu", dtype="float32")
    own.clear_cache()
    assert own.model_count == 0
    first = own.generate(request(source), tmp_path / "first").path.read_bytes()
    assert own.model_count == 1
    own.clear_cache()
    assert own.model_count == 0
    assert own.generate(request(source), tmp_path / "second").path.read_bytes() == first


@pytest.mark.slow
@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory for 6 frames of 64x48; ask for fewer frames or a smaller size"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "out of memory for 6 frames"),
        (ArithmeticError("not numbers"), "try dtype float32"),
        (RuntimeError("Expected all tensors"), "RuntimeError: Expected all tensors"),
    ],
)
def test_a_model_that_fails_is_a_failed_job(
    engine: LocalEngine,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    message: str,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(AnimateDiffModel, "run", fail)
    with pytest.raises(JobFailedError) as caught:
        engine.generate(request(source), tmp_path / "clip")
    assert message in caught.value.message
    assert caught.value.message.startswith("tiny failed on cpu: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_model_that_cannot_be_loaded_is_a_failed_job(tmp_path: Path, cache_dir: Path, source: Path) -> None:
    broken = LocalEngine(cache_dir=tmp_path, device="no-such-device")
    with pytest.raises(JobFailedError, match="tiny failed on no-such-device"):
        broken.generate(request(source), tmp_path / "clip")


def test_an_output_that_cannot_be_written_is_a_failed_job(engine: LocalEngine, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JobFailedError, match="could not be written"):
        engine.generate(request(source, strength=0), tmp_path / "file" / "clip")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_generate_checks_first(engine: LocalEngine, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        engine.generate(request("http://no-such-host.invalid/x", motion_module="nobodys"), tmp_path / "clip")
    assert list(caught.value.fields) == ["motion_module"]


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype must be one of auto, float32"):
        LocalEngine(dtype="int8")


def test_importing_checking_and_passing_through_is_light(cache_dir: Path) -> None:
    code = (
        "import sys, airflow_provider_modelslab.local.engine as e\n"
        "from airflow_provider_modelslab.api.request import Video2VideoRequest as R\n"
        "e.LocalEngine(cache_dir=sys.argv[1]).check(R(model_id='tiny', prompt='a', init_video='b'))\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'av', 'airflow'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(cache_dir)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "[]"
