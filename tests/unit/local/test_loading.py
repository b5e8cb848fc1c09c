from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.families.animatediff.family import AnimateDiff
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.models.load_lock import LoadingGate
from airflow_provider_modelslab.local.models.tiny import build_tiny


def side_by_side(*works: Callable[[], Any]) -> list[Any]:
    """What they give, each from a thread of its own."""
    results: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda n=n, work=work: results.setdefault(n, work())) for n, work in enumerate(works)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [results[n] for n in range(len(works))]


def test_many_work_at_a_time() -> None:
    gate, together = LoadingGate(), threading.Barrier(3)

    def work() -> bool:
        with gate.working():
            return together.wait(60) >= 0

    assert side_by_side(work, work, work) == [True] * 3


def test_who_wants_to_load_waits_for_a_pause_and_those_who_work_wait_meanwhile() -> None:
    gate = LoadingGate()
    events: list[str] = []
    begun, wants = threading.Event(), threading.Event()

    def work() -> None:
        with gate.working():
            begun.set()
            assert wants.wait(60)
            while not gate._wanting:
                pass
            events.append("step")
            gate.pause()
            events.append("next step")

    def load() -> None:
        assert begun.wait(60)
        wants.set()
        with gate.loading(), gate.loading():
            events.append("load")
            late = threading.Thread(target=work_late)
            late.start()
            late.join(0.05)
            assert late.is_alive()
            events.append("loaded")
        late.join(60)

    def work_late() -> None:
        with gate.working():
            events.append("late")

    side_by_side(work, load)
    assert events[:3] == ["step", "load", "loaded"]
    assert sorted(events[3:]) == ["late", "next step"]


def test_two_never_load_at_a_time() -> None:
    gate = LoadingGate()
    inside: list[int] = []

    def load() -> int:
        most = 0
        for _ in range(200):
            with gate.loading():
                inside.append(1)
                most = max(most, len(inside))
                inside.pop()
        return most

    assert side_by_side(load, load, load) == [1] * 3


def test_an_error_opens_the_gate() -> None:
    gate = LoadingGate()
    for enter in (gate.working, gate.loading):
        with pytest.raises(KeyError), enter():
            raise KeyError
    with gate.loading():
        pass
    with gate.working():
        pass


def test_the_tiny_model_built_in_two_threads_is_the_one_built_in_one(tmp_path: Path) -> None:
    def weights(folder: Path) -> dict[str, Any]:
        return dict(load_file(str(folder / "unet" / "diffusion_pytorch_model.safetensors")))

    alone = weights(build_tiny(tmp_path / "alone"))
    for other in side_by_side(*(lambda n=n: weights(build_tiny(tmp_path / f"{n}")) for n in range(2))):
        assert all(other[name].equal(tensor) for name, tensor in alone.items())


@pytest.mark.slow
def test_engines_load_and_run_side_by_side(
    cache_dir: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one loads, no other is between two steps, since what a load changes holds for the whole process."""
    request = Video2VideoRequest(
        model_id="tiny", prompt="a", init_video=str(source), seed=1, num_frames=3, width=32, height=32,
        num_inference_steps=4, strength=1,
    )  # fmt: skip
    working: list[int] = []
    overlaps: list[int] = []
    load, run = AnimateDiff.load, AnimateDiffModel.run

    def watched_load(*values: Any) -> AnimateDiffModel:
        overlaps.append(len(working))
        model = load(*values)
        overlaps.append(len(working))
        return model

    def watched_run(self: AnimateDiffModel, *values: Any, on_step: Callable[[int], None]) -> Any:
        def step(done: int) -> None:
            working.pop()
            try:
                on_step(done)
            finally:
                working.append(1)

        working.append(1)
        try:
            return run(self, *values, on_step=step)
        finally:
            working.pop()

    monkeypatch.setattr(AnimateDiff, "load", watched_load)
    monkeypatch.setattr(AnimateDiffModel, "run", watched_run)
    engines = [LocalEngine(cache_dir=cache_dir, device="cpu", dtype="float32", offline=True) for _ in range(3)]
    first = engines[0].generate(request, tmp_path / "first").path.read_bytes()

    def clips(engine: LocalEngine, name: str) -> list[bytes]:
        return [engine.generate(request, tmp_path / f"{name}{n}").path.read_bytes() for n in range(3)]

    made = side_by_side(*(lambda n=n: clips(engines[n], f"{n}-") for n in range(3)))
    assert {clip for engine in made for clip in engine} == {first}
    assert overlaps == [0] * 6
    assert torch.get_default_dtype() is torch.float32
