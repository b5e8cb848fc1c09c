"""Too little memory: smaller portions, the same pictures, and it is said."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from airflow_provider_modelslab.api.errors import JobFailedError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.families.animatediff.denoise import denoise
from airflow_provider_modelslab.local.families.animatediff.guidance import Means
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.plan import DenoisingPass, Plan
from airflow_provider_modelslab.local.runtime.oom_fallback import MemoryFallback, Portions
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from tests.support.moving import moving_frames

SMALLER = {"vae_frames_at_once": 1, "guidance_calls": 2}


def load(cache_dir: Path, speed: Optimizations | None = None) -> AnimateDiffModel:
    catalog = Catalog(None, cache_dir, offline=True)
    spec = catalog.prepare(catalog.lookup("tiny"))
    model = AnimateDiffModel(spec, catalog, "cpu", torch.float32, speed)
    model.prepare(Plan(spec, (), 6, 8))
    return model


def small_memory(model: AnimateDiffModel, *, frames: int, rows: int) -> list[tuple[str, int]]:
    """Make the model fail, as a GPU does, on more frames in the VAE or more rows in the UNet; what was tried."""
    tried: list[tuple[str, int]] = []

    def limit(part: Any, name: str, most: int) -> None:
        original = getattr(part, name)

        def limited(batch: Any, *arguments: Any, **options: Any) -> Any:
            tried.append((name, len(batch)))
            if len(batch) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB.")
            return original(batch, *arguments, **options)

        setattr(part, name, limited)

    limit(model.pipeline.vae, "encode", frames)
    limit(model.pipeline.vae, "decode", frames)
    limit(model.pipeline.unet, "forward", rows)
    return tried


def run(model: AnimateDiffModel, count: int = 6, **changes: Any) -> Any:
    values: dict[str, Any] = {"prompt": "a fox", "negative_prompt": "bad", "steps": 3, "guidance_scale": 7.5}
    job = DenoisingPass(**{**values, "strength": 1.0, "seed": 3, "width": 40, "height": 24, **changes})
    frames = model.run(moving_frames(count, job.width, job.height), job, on_step=lambda _done: None)
    return np.stack([np.asarray(frame) for frame in frames]).astype(int)


@pytest.mark.slow
@pytest.mark.parametrize(
    "speed", [Optimizations(), Optimizations(reuse_deep=2, guidance_until=0.7)], ids=["exact", "approximate"]
)
def test_smaller_portions_give_the_same(
    cache_dir: Path, speed: Optimizations, caplog: pytest.LogCaptureFixture
) -> None:
    model = load(cache_dir, speed)
    usual = run(model)
    assert "memory_fallback" not in model.notes()
    tried = small_memory(model, frames=1, rows=1)
    with caplog.at_level(logging.WARNING):
        assert np.abs(run(model) - usual).max() <= 1
        assert tried[:2] == [("encode", 4), ("encode", 1)]
        assert model.notes()["memory_fallback"] == SMALLER
        tried.clear()
        assert np.abs(run(model) - usual).max() <= 1
    assert {count for _name, count in tried} == {1}  # the next clip of this size starts there
    assert caplog.text.count("Too little memory: from now on the VAE processes 1 frame(s) at a time") == 1
    assert caplog.text.count("Too little memory: from now on guidance makes 2 smaller calls instead of one") == 1
    assert model.notes()["memory_fallback"] == SMALLER
    tried.clear()
    run(model, width=32)
    assert ("encode", 4) in tried  # another size may fit


@pytest.mark.slow
def test_guidance_in_two_calls_is_the_same(cache_dir: Path) -> None:
    pipeline = load(cache_dir).pipeline
    job = DenoisingPass("a fox", "bad", 4, 0.5, 2.0, 3, 40, 24)
    one, two = (
        denoise(pipeline, moving_frames(6, 40, 24), job, on_step=lambda _done: None, means=Means(portions=portions))
        for portions in (Portions(16), Portions(1, split=True))
    )
    assert np.abs(one - two).max() < 1e-5


@pytest.mark.slow
def test_only_what_is_short_gets_smaller(cache_dir: Path) -> None:
    model = load(cache_dir)
    small_memory(model, frames=16, rows=1)
    run(model)
    assert model.notes() == {"memory_fallback": {"guidance_calls": 2}}
    run(model, guidance_scale=1.0, width=32)
    assert model.notes() == {}


@pytest.mark.slow
def test_the_portions_of_a_gpu() -> None:
    portions = MemoryFallback().of(16, 512, 512)
    seen: list[int] = []

    def work(chunk: int) -> str:
        seen.append(chunk)
        if chunk > 1:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return "done"

    assert portions.vae(work) == "done"
    assert seen == [16, 4, 1]


def test_other_errors_are_not_tried_again() -> None:
    portions = Portions()
    seen: list[int] = []

    def broken(*given: Any) -> Any:
        seen.append(1)
        raise RuntimeError("expected 4 channels")

    with pytest.raises(RuntimeError, match="channels"):
        portions.vae(broken)
    with pytest.raises(RuntimeError, match="channels"):
        portions.guided(broken, broken)
    assert (seen, portions.notes) == ([1, 1], {})


@pytest.mark.slow
def test_the_clips_meta_tells(cache_dir: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[AnimateDiffModel] = []
    original = AnimateDiffModel.prepare

    def prepare(model: AnimateDiffModel, plan: Plan) -> None:
        original(model, plan)
        if model not in made:
            made.append(model)
            small_memory(model, frames=1, rows=rows)

    monkeypatch.setattr(AnimateDiffModel, "prepare", prepare)
    request = Video2VideoRequest(
        model_id="tiny", prompt="a fox", init_video=str(source), seed=1, num_frames=6, width=32, height=24,
        num_inference_steps=2, guidance_scale=7.5,
    )  # fmt: skip
    rows = 1
    engine = LocalEngine(cache_dir=cache_dir, device="cpu", dtype="float32", offline=True)
    assert engine.generate(request, tmp_path / "clip").meta["memory_fallback"] == SMALLER
    rows = 0  # not even one row fits
    engine = LocalEngine(cache_dir=cache_dir, device="cpu", dtype="float32", offline=True)
    with pytest.raises(JobFailedError, match="out of memory for 6 frames of 32x24; ask for fewer frames or a smaller"):
        engine.generate(request, tmp_path / "clip")


REALLY_SHORT = """
import json, resource, sys
from pathlib import Path
import numpy as np, torch
torch.set_num_threads(1)
from airflow_provider_modelslab.local.runtime.oom_fallback import MemoryFallback
from tests.unit.local.test_memory_fallback import load, run

model = load(Path(sys.argv[1]))
size = {"count": 16, "width": 192, "height": 192, "steps": 1, "guidance_scale": 1.0}
usual = run(model, **size)  # in small portions from the start, and with every library loaded
model._fallback = MemoryFallback()
(used,) = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize")]
unlimited = resource.getrlimit(resource.RLIMIT_AS)
resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + int(sys.argv[2]), unlimited[1]))
again = run(model, **size)
resource.setrlimit(resource.RLIMIT_AS, unlimited)
print(json.dumps([int(np.abs(again - usual).max()), model.notes()]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits a process' memory as Linux does")
def test_a_real_lack_of_memory(cache_dir: Path) -> None:
    load(cache_dir)  # builds the tiny model
    room = 48 << 20  # the VAE's tensors for 16 frames are 18 MiB each here, those for 4 frames 4.5 MiB
    done = subprocess.run(
        [sys.executable, "-c", REALLY_SHORT, str(cache_dir), str(room)], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    away, notes = json.loads(done.stdout.splitlines()[-1])
    assert away <= 1
    assert notes["memory_fallback"]["vae_frames_at_once"] in (4, 1)
