"""Compiling: the same result, no weights of yesterday, kept on disk, and never a reason to fail."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.local.families.animatediff.deep_cache import DeepCache
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.families.animatediff.prompt_attention import prompt_states, use_prompt_attention
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.plan import DenoisingPass, Plan
from airflow_provider_modelslab.local.runtime.compile import compile_forward, keep_on_disk
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from tests.support.moving import moving_frames


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()


def graphs() -> int:
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def small_unet() -> Any:
    """Two resolutions, so that there are deep blocks; tracing is what takes the time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = load_diffusers().UNetMotionModel(
            sample_size=4,
            block_out_channels=(4, 4),
            layers_per_block=1,
            down_block_types=("DownBlockMotion",) * 2,
            up_block_types=("UpBlockMotion",) * 2,
            cross_attention_dim=8,
            norm_num_groups=1,
            num_attention_heads=1,
            motion_num_attention_heads=1,
            use_motion_mid_block=False,
        )
    return unet.eval().requires_grad_(False)


@pytest.mark.slow
def test_the_unet_in_one_graph_with_the_weights_of_now() -> None:
    unet, twin = small_unet(), small_unet()
    for each in (unet, twin):
        use_prompt_attention(each)
    deep, plain_deep = DeepCache(unet), DeepCache(twin)
    compile_forward(unet, "unet", backend="eager")  # traced and guarded as ever, without minutes of C++
    noise = torch.randn(1, 4, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    embeds = torch.randn(1, 77, 8, generator=torch.Generator().manual_seed(1))

    def same(step: int, *, reuse: bool) -> bool:
        made = []
        for model, kept in ((unet, deep), (twin, plain_deep)):
            kept.begin("a", reuse=reuse)
            with torch.no_grad():
                states = prompt_states(model, embeds, 2)
                made.append(model(noise, torch.tensor(step), encoder_hidden_states=states).sample)
        return torch.equal(*made)

    assert same(700, reuse=False)
    assert same(600, reuse=True)
    assert graphs() == 2  # the whole UNet, and its first resolution alone
    assert same(500, reuse=False)
    assert same(400, reuse=True)
    changed = {name: weight * 1.1 for name, weight in twin.state_dict().items()}
    for model in (unet, twin):
        model.load_state_dict(changed, assign=True)  # what dressing does
    assert not torch.equal(changed["conv_in.weight"], small_unet().conv_in.weight)
    assert same(300, reuse=False)
    assert same(200, reuse=True)
    assert graphs() == 2


class Scaled(torch.nn.Module):
    """One multiplication, which is compiled in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0), requires_grad=False)

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        return value * self.weight + 1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch's own compiler
@pytest.mark.filterwarnings("ignore:The `airflow:FutureWarning")  # torch looks for itself in every module
def test_code_is_compiled_once_a_shape_and_kept_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "code"))
    monkeypatch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
    assert keep_on_disk() == str(tmp_path / "code")  # a place that is set stays
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "vec_isa_ok", True)  # no trial compiling first
    monkeypatch.setattr(inductor, "cpp_cache_precompile_headers", False)
    module = Scaled()
    compile_forward(module, "scaled")
    with caplog.at_level(logging.INFO, "airflow_provider_modelslab"), torch.no_grad():
        assert module(torch.ones(3)).tolist() == [3.0] * 3
        assert module(torch.zeros(3)).tolist() == [1.0] * 3
        module.load_state_dict({"weight": torch.tensor(5.0)}, assign=True)
        assert module(torch.ones(3)).tolist() == [6.0] * 3
    assert caplog.text.count("scaled: the first step with ((3,),) took") == 1
    assert graphs() == 1
    assert any(path.is_file() for path in (tmp_path / "code").rglob("*"))


def test_the_cache_is_in_the_users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert keep_on_disk() == str(tmp_path / "airflow-provider-modelslab" / "inductor")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == keep_on_disk()


def test_what_cannot_be_compiled_runs_uncompiled(caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def no_compiler(_graph: Any, _inputs: Any) -> Any:
        calls.append(1)
        raise RuntimeError("no C++ compiler\nwas found")

    module = Scaled()
    compile_forward(module, "scaled", backend=no_compiler)
    with caplog.at_level(logging.WARNING):
        for value in (torch.ones(3), torch.ones(4), torch.ones(4)):
            assert module(value).tolist() == [3.0] * len(value)
    assert caplog.text.count("scaled cannot be compiled, so it runs without compilation") == 1
    assert "no C++ compiler" in caplog.text
    assert calls == [1]


def test_a_lack_of_memory_is_no_failure_to_compile() -> None:
    def full(_graph: Any, _inputs: Any) -> Any:
        def run(*_given: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        return run

    module = Scaled()
    compile_forward(module, "scaled", backend=full)
    with pytest.raises(torch.OutOfMemoryError):
        module(torch.ones(3))
    with pytest.raises(torch.OutOfMemoryError):  # still compiled
        module(torch.ones(3))


def test_the_models_unets_are_compiled(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiled: list[Any] = []
    monkeypatch.setattr(
        "airflow_provider_modelslab.local.families.animatediff.model.compile_forward",
        lambda unet, name: compiled.append((unet, name)),
    )
    catalog = Catalog(None, cache_dir, offline=True)
    spec = catalog.prepare(catalog.lookup("tiny"))
    model = AnimateDiffModel(spec, catalog, "cpu", torch.float32, Optimizations(compile=True))
    for _ in range(2):
        model.prepare(Plan(spec, (), 3, 8))
    assert compiled == [(model.pipeline.unet, "tiny")]
    job = DenoisingPass("a fox", "", 1, 1.0, 1.0, 3, 32, 24)
    model.run(moving_frames(3, 32, 24), job, on_step=lambda _done: None)
    assert model.notes() == {}  # exact
