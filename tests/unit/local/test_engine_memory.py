"""Models that stay in memory, and those that go."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.api.errors import InvalidRequestError, JobFailedError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.families.animatediff.family import AnimateDiff
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.models.tiny import build_tiny
from airflow_provider_modelslab.local.runtime import memory
from airflow_provider_modelslab.local.runtime.memory import default_budget, estimate_bytes, is_out_of_memory

GB = 1 << 30


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models a, b and c, all of one size."""
    folder = tmp_path_factory.mktemp("three")
    build_tiny(folder / "a")
    for name in "bc":
        shutil.copytree(folder / "a", folder / name)
    return folder


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the models that were loaded, in their order."""
    load, ids = AnimateDiff.load, []

    def keep(self: AnimateDiff, spec: Any, *rest: Any) -> AnimateDiffModel:
        ids.append(spec.id)
        return load(self, spec, *rest)

    monkeypatch.setattr(AnimateDiff, "load", keep)
    return ids


@pytest.fixture
def engine_with(three: Path, source: Path) -> Callable[[float | None], Any]:
    """An engine whose budget is so many models; it is called with the model's id."""

    def build(models: float | None) -> Any:
        budget = None if models is None else int(models * size_of(three))
        engine = LocalEngine(model_dir=three, device="cpu", dtype="float32", offline=True, memory_budget=budget)

        def run(model_id: str) -> LocalEngine:
            job = Video2VideoRequest(
                model_id=model_id, prompt="a", init_video=str(source), seed=1, num_frames=2, width=16, height=16,
                num_inference_steps=1, strength=1,
            )  # fmt: skip
            engine.render(engine.prepare(job))
            return engine

        return run

    return build


def size_of(folder: Path, dtype: torch.dtype = torch.float32) -> int:
    return estimate_bytes(Catalog(folder).lookup("a"), dtype)


def test_a_model_that_was_loaded_before_is_the_one_that_its_clips_use(engine_with: Any, loads: list[str]) -> None:
    run = engine_with(2.5)
    engine = run("b")
    engine.preload("a")
    engine.preload("a")
    assert {model["model_id"] for model in engine.loaded()} == {"a", "b"}
    run("a")
    assert loads == ["b", "a"]


def test_a_model_that_is_not_there_cannot_be_loaded_before(three: Path) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        LocalEngine(model_dir=three, device="cpu", offline=True).preload("d")
    assert list(caught.value.fields) == ["model_id"]


@pytest.mark.slow
def test_models_stay_within_the_budget_and_the_one_used_least_recently_goes(engine_with: Any, loads: list[str]) -> None:
    run = engine_with(2.5)
    for model_id in "abab":
        run(model_id)
    assert loads == ["a", "b"]
    run("c")
    engine = run("b")
    assert loads == ["a", "b", "c"]
    assert [model["model_id"] for model in engine.loaded()] == ["b", "c"]
    assert engine.model_count == 2
    run("a")
    assert [model["model_id"] for model in engine.loaded()] == ["a", "b"]
    assert loads == ["a", "b", "c", "a"]


def test_what_is_loaded_is_told_with_its_size_and_time(engine_with: Any, three: Path) -> None:
    before = time.time()
    (model,) = engine_with(2.5)("a").loaded()
    assert set(model) == {"model_id", "bytes", "last_used"}
    assert before <= model["last_used"] <= time.time()
    assert model["bytes"] == pytest.approx(size_of(three), rel=0.1)


def test_it_can_be_asked_what_is_loaded_while_a_clip_is_rendered(engine_with: Any) -> None:
    engine = engine_with(None)("a")
    with engine._lock:
        asked: list[Any] = []
        thread = threading.Thread(target=lambda: asked.append((engine.loaded(), engine.model_count)))
        thread.start()
        thread.join(60)
    assert [model["model_id"] for model in asked[0][0]] == ["a"]


@pytest.mark.slow
def test_a_model_larger_than_the_budget_is_loaded_alone_with_a_warning(
    engine_with: Any, loads: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    run = engine_with(0.5)
    run("a")
    run("a")
    assert loads == ["a"]
    assert run("b").model_count == 1
    assert [record.levelname for record in caplog.records].count("WARNING") == 2


@pytest.mark.slow
def test_a_model_that_grew_pushes_others_out(engine_with: Any, monkeypatch: pytest.MonkeyPatch, three: Path) -> None:
    run = engine_with(2.5)
    run("a")
    run("b")
    monkeypatch.setattr(AnimateDiffModel, "bytes", property(lambda _: 2 * size_of(three)), raising=False)
    assert [model["model_id"] for model in run("b").loaded()] == ["b"]


@pytest.mark.slow
@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")])
def test_too_little_memory_to_load_lets_all_others_go_and_tries_once_more(
    engine_with: Any, loads: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    run = engine_with(None)
    engine = run("a")
    load, troubles = AnimateDiff.load, iter([error])

    def fail_once(*values: Any) -> AnimateDiffModel:
        for trouble in troubles:
            raise trouble
        assert engine.model_count == 0
        return load(*values)

    monkeypatch.setattr(AnimateDiff, "load", fail_once)
    assert [model["model_id"] for model in run("b").loaded()] == ["b"]
    assert loads == ["a", "b"]


@pytest.mark.slow
def test_a_model_for_which_there_is_never_memory_is_a_failed_job(
    engine_with: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[int] = []

    def fail(*_: Any) -> AnimateDiffModel:
        tries.append(1)
        raise MemoryError

    monkeypatch.setattr(AnimateDiff, "load", fail)
    with pytest.raises(JobFailedError, match="out of memory"):
        engine_with(None)("a")
    assert len(tries) == 2


@pytest.mark.slow
def test_too_little_memory_to_run_lets_all_others_go_and_runs_again(
    engine_with: Any, loads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engine_with(None)
    engine = run("a")
    whole, counts = AnimateDiffModel.run, []

    def short_beside_another(self: AnimateDiffModel, *values: Any, **named: Any) -> Any:
        counts.append(engine.model_count)
        if engine.model_count > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(self, *values, **named)

    monkeypatch.setattr(AnimateDiffModel, "run", short_beside_another)
    run("b")
    assert counts == [2, 1]
    assert loads == ["a", "b"]
    assert [model["model_id"] for model in engine.loaded()] == ["b"]


@pytest.mark.slow
def test_others_go_before_a_clip_is_run_in_smaller_portions(
    engine_with: Any, three: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = engine_with(None)
    engine = run("a")
    run("b")
    model = engine._models._entries[Catalog(three).lookup("b")].model
    unet, vae, short = model.pipeline.unet, model.pipeline.vae, []

    def beside_another(whole: Any) -> Any:
        def limited(*values: Any, **named: Any) -> Any:
            if engine.model_count > 1:
                short.append(1)
                raise torch.OutOfMemoryError("CUDA out of memory")
            return whole(*values, **named)

        return limited

    for part, name in ((vae, "encode"), (unet, "forward")):
        with monkeypatch.context() as patch:
            patch.setattr(part, name, beside_another(getattr(part, name)))
            engine = run("a")
            job = Video2VideoRequest(
                model_id="b", prompt="a", init_video=str(source), num_frames=2, width=16, height=16
            )
            made = engine.encode(engine.render(engine.prepare(job)), tmp_path / "clip")
        assert "memory_fallback" not in made.meta
        assert [found["model_id"] for found in engine.loaded()] == ["b"]
    assert len(short) == 2


@pytest.mark.slow
def test_clearing_lets_all_models_go(engine_with: Any, loads: list[str]) -> None:
    run = engine_with(None)
    run("a")
    engine = run("b")
    assert engine.model_count == 2
    engine.clear_cache()
    assert (engine.model_count, engine.loaded()) == (0, [])
    run("a")
    assert loads == ["a", "b", "a"]


def test_a_size_is_read_from_the_files(three: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    tensors = [t for file in (three / "a").glob("*/*.safetensors") for t in load_file(str(file)).values()]
    floats = sum(t.numel() for t in tensors if t.is_floating_point())
    rest = sum(t.numel() * t.element_size() for t in tensors if not t.is_floating_point())
    assert floats > 100_000
    assert size_of(three) == 4 * floats + rest
    assert size_of(three, torch.bfloat16) == 2 * floats + rest


def test_a_budget_of_a_card_leaves_room_for_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    for free, budget in ((80 * GB, 60 * GB), (24 * GB, 15.2 * GB), (8 * GB, 4 * GB)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device, free=free: (free, 2 * free))
        assert default_budget("cuda:1") == pytest.approx(budget)


def test_a_budget_elsewhere_is_half_of_the_machine_or_the_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(memory, "_CGROUP", limit)
    whole = default_budget("cpu")
    assert whole > GB // 4
    limit.write_text("max\n")
    assert default_budget("cpu") == whole
    limit.write_text(f"{GB // 4}\n")
    assert default_budget("mps") == GB // 8


def test_errors_that_mean_too_little_memory() -> None:
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert not is_out_of_memory(RuntimeError("Expected all tensors on one device"))


def test_a_budget_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="memory_budget must be more than 0 bytes"):
        LocalEngine(memory_budget=0)
