"""What is faster gives the same; what is approximate is asked for, bounded, and told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.families.animatediff.denoise import denoise
from airflow_provider_modelslab.local.families.animatediff.guidance import Means
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.families.animatediff.prompt_attention import (
    PromptAttention,
    prompt_states,
    rows,
    use_prompt_attention,
)
from airflow_provider_modelslab.local.families.animatediff.prompt_embeddings import embed_prompt
from airflow_provider_modelslab.local.families.animatediff.schedulers import PRESETS, build_scheduler
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.plan import DenoisingPass, LoraUse, Plan
from airflow_provider_modelslab.local.runtime import devices
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from airflow_provider_modelslab.local.runtime.oom_fallback import Portions
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from tests.support.moving import moving_frames

# diffusers 0.42's Euler schedule under numpy 2.4
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def catalog(cache_dir: Path, model_dir: Path) -> Catalog:
    return Catalog(model_dir, cache_dir, offline=True)


def load(catalog: Catalog, speed: Optimizations | None = None, **changes: Any) -> AnimateDiffModel:
    spec = catalog.prepare(catalog.lookup("tiny"))
    model = AnimateDiffModel(spec, catalog, "cpu", torch.float32, speed)
    model.prepare(Plan(spec, (), 6, 8, **changes))
    return model


@pytest.fixture(scope="module")
def model(catalog: Catalog) -> AnimateDiffModel:
    return load(catalog)


def job(**changes: Any) -> DenoisingPass:
    values = {"prompt": "a fox", "negative_prompt": "bad", "steps": 6, "strength": 1.0, "guidance_scale": 7.5}
    return DenoisingPass(**{**values, "seed": 3, "width": 32, "height": 24, **changes})


def pixels(model: AnimateDiffModel, job: DenoisingPass, means: Means | None = None, frames: int = 6) -> Any:
    model.pipeline.scheduler = build_scheduler(job.scheduler, model._saved_scheduler)
    clip = moving_frames(frames, job.width, job.height)
    return denoise(model.pipeline, clip, job, on_step=lambda _done: None, means=means)


@pytest.fixture
def batches(model: AnimateDiffModel) -> Iterator[list[int]]:
    """The rows that the UNet was called with."""
    seen: list[int] = []
    handle = model.pipeline.unet.register_forward_pre_hook(lambda _unet, given: seen.append(len(given[0])))
    yield seen
    handle.remove()


@pytest.fixture
def diffusers_own(model: AnimateDiffModel) -> Iterator[Any]:
    """The model's pipeline as diffusers runs it, with its own attention."""
    layers = [layer for layer in model.pipeline.unet.modules() if hasattr(layer, "set_processor")]
    ours = [layer.processor for layer in layers]
    for layer in layers:
        layer.set_processor(layer.processor.usual)
    yield model.pipeline
    for layer, processor in zip(layers, ours, strict=True):
        layer.set_processor(processor)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", PRESETS)
@pytest.mark.parametrize("size", [(32, 24), (40, 56)])
def test_the_loaded_model_gives_diffusers_frames_to_the_last_bit(
    model: AnimateDiffModel, diffusers_own: Any, scheduler: str, size: tuple[int, int]
) -> None:
    # From the same tensors: sums depend on how a tensor lies in memory, so a second copy would not do.
    diffusers_own.scheduler = build_scheduler(scheduler, model._saved_scheduler)
    theirs = diffusers_own(
        video=moving_frames(18, *size), prompt="a fox", negative_prompt="bad", width=size[0], height=size[1],
        num_inference_steps=2, strength=1.0, guidance_scale=7.5, generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).frames[0]  # fmt: skip
    use_prompt_attention(diffusers_own.unet)
    given = job(scheduler=scheduler, width=size[0], height=size[1], steps=2)
    assert np.array_equal(pixels(model, given, frames=18), theirs)


def test_keys_and_values_of_the_prompt_are_computed_once(model: AnimateDiffModel) -> None:
    layers = [
        layer
        for layer in model.pipeline.unet.modules()
        if isinstance(getattr(layer, "processor", None), PromptAttention) and layer.is_cross_attention
    ]
    seen: list[tuple[int, ...]] = []
    handles = [
        part.register_forward_pre_hook(lambda _part, given: seen.append(tuple(given[0].shape)))
        for layer in layers
        for part in (layer.to_k, layer.to_v)
    ]
    pixels(model, job())
    for handle in handles:
        handle.remove()
    assert seen == [(2, 77, 32)] * (2 * len(layers))  # not for 6 frames, and not in each of 6 steps
    assert len(layers) == 10


@pytest.mark.parametrize("frames", [1, 6])
def test_a_row_that_frames_share_is_the_same(model: AnimateDiffModel, frames: int) -> None:
    unet = model.pipeline.unet
    noise = torch.randn(2, 4, frames, 8, 8, generator=torch.Generator().manual_seed(0))
    embeds = torch.randn(2, 77, 32, generator=torch.Generator().manual_seed(1))
    repeated = prompt_states(unet, embeds, frames)
    shared = prompt_states(unet, embeds, 1)  # as on a GPU
    assert {len(key) for key, _value in repeated.values()} == {2 * frames}
    assert {len(key) for key, _value in shared.values()} == {2}
    with torch.no_grad():
        usual = unet(noise, torch.tensor(500), encoder_hidden_states=embeds.repeat_interleave(frames, 0)).sample
        assert torch.equal(unet(noise, torch.tensor(500), encoder_hidden_states=repeated).sample, usual)
        assert torch.allclose(unet(noise, torch.tensor(500), encoder_hidden_states=shared).sample, usual, atol=1e-6)
    (name, (key, value)) = next(iter(repeated.items()))
    assert torch.equal(rows(repeated, slice(1, 2))[name][1], value[frames:])
    assert torch.equal(rows(key, slice(0, 1)), key[:frames])


@pytest.mark.slow
def test_a_prompt_is_embedded_once_until_the_text_encoder_changes(
    catalog: Catalog, model: AnimateDiffModel, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[int] = []
    handle = model.pipeline.text_encoder.register_forward_pre_hook(lambda *_given: seen.append(1))
    frames = moving_frames(6, 32, 24)

    def run(**changes: Any) -> Any:
        return model.run(frames, job(steps=1, **changes), on_step=lambda _done: None)[0].tobytes()

    first = run(prompt="fox " * 60)
    assert (len(seen), caplog.text.count("reads the first 77")) == (2, 1)
    assert run(prompt="fox " * 60) == first
    assert (len(seen), caplog.text.count("reads the first 77")) == (2, 2)  # said for every clip
    run(prompt="fox " * 60, clip_skip=1)
    assert len(seen) == 3
    spec = catalog.lookup("tiny")
    style = LoraUse(catalog.parts.lora("style"), 1.0, "lora_models")
    model.prepare(Plan(spec, (), 6, 8, loras=(style,)))
    styled = run(prompt="fox " * 60)
    assert len(seen) == 5
    model.prepare(Plan(spec, (), 6, 8))
    assert run(prompt="fox " * 60) == first != styled
    assert len(seen) == 7
    handle.remove()


def test_the_oldest_prompts_are_forgotten(stock: Any) -> None:
    from airflow_provider_modelslab.local.families.animatediff.prompt_embeddings import PromptMemory

    memory = PromptMemory()
    kept = [embed_prompt(stock, f"fox {number}", None, memory) for number in range(33)]
    assert embed_prompt(stock, "fox 32", 0, memory) is kept[32]
    assert embed_prompt(stock, "fox 1", None, memory) is kept[1]
    again = embed_prompt(stock, "fox 0", None, memory)
    assert again is not kept[0]
    assert torch.equal(again, kept[0])
    assert embed_prompt(stock, "fox 2", None, memory) is not kept[2]  # the one after it, as 1 was used again


@pytest.mark.slow
def test_channels_come_last_on_a_gpu(
    catalog: Catalog, model: AnimateDiffModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    style = (LoraUse(catalog.parts.lora("kohya"), 1.0, "lora_models"),)
    motion = catalog.parts.motion_module("v2_sd15_mm")
    spec = catalog.lookup("tiny")
    model.prepare(Plan(spec, (), 6, 8, motion=motion, loras=style))
    usual = pixels(model, job())
    model.prepare(Plan(spec, (), 6, 8))
    lay_out = devices.lay_out
    for module in ("model", "tiny_vae"):
        monkeypatch.setattr(
            f"airflow_provider_modelslab.local.families.animatediff.{module}.lay_out",
            lambda weights, _device: lay_out(weights, "cuda"),
        )
    turned = load(catalog, motion=motion, loras=style)
    convolutions = [
        weight
        for part in (turned.pipeline.unet, turned.pipeline.vae)
        for weight in part.state_dict().values()
        if weight.dim() == 4
    ]
    assert convolutions
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in convolutions)
    assert np.abs(pixels(turned, job()) - usual).max() < 1e-4
    assert devices.lay_out({"w": convolutions[0]}, "cpu")["w"] is convolutions[0]


@pytest.mark.slow
def test_bytes_count_every_tensor_once(catalog: Catalog) -> None:
    model = load(catalog)
    parts = (model.pipeline.unet, model.pipeline.vae, model.pipeline.text_encoder)
    tensors = [tensor for part in parts for tensor in part.state_dict().values()]
    own = sum(tensor.nbytes for tensor in tensors)
    assert model.bytes == own
    spec = catalog.lookup("tiny")
    style = LoraUse(catalog.parts.lora("kohya"), 1.0, "lora_models")
    model.prepare(Plan(spec, (), 6, 8, loras=(style,)))
    before = {tensor.data_ptr() for tensor in tensors}
    changed = [weight for weight in model.pipeline.unet.state_dict().values() if weight.data_ptr() not in before]
    assert changed
    assert model.bytes == own + sum(weight.nbytes for weight in changed)
    model.prepare(Plan(spec, (), 6, 8, motion=catalog.parts.motion_module("v3_sd15_mm")))
    motion = model.pipeline.unet.state_dict()
    put_in = sum(weight.nbytes for name, weight in motion.items() if ".motion_modules." in name)
    assert model.bytes == own + put_in  # the LoRA and whatever else was worn before are gone
    meta = torch.empty(1000, device="meta")
    whole = torch.zeros(10)
    assert devices.storage_bytes([meta, whole, whole[2:], whole.view(2, 5)]) == 40


def test_without_guidance_one_row_is_run(model: AnimateDiffModel, batches: list[int]) -> None:
    pixels(model, job(guidance_scale=1.0))
    assert batches == [1] * 6


@pytest.mark.slow
@pytest.mark.parametrize(("share", "guided"), [(1.0, 6), (0.5, 3), (0.51, 4), (0.0, 0)])
def test_guidance_can_end_early(model: AnimateDiffModel, batches: list[int], share: float, guided: int) -> None:
    cut = pixels(model, job(), Means(Optimizations(guidance_until=share)))
    assert batches == [2] * guided + [1] * (6 - guided)
    exact = pixels(model, job())
    assert np.array_equal(cut, exact) == (guided == 6)
    if guided == 0:
        assert np.array_equal(cut, pixels(model, job(guidance_scale=1.0)))


@pytest.mark.slow
def test_deep_blocks_are_run_in_every_nth_step(catalog: Catalog, model: AnimateDiffModel) -> None:

    def run(model: AnimateDiffModel) -> Any:
        made = model.run(moving_frames(6, 64, 64), job(width=64, height=64), on_step=lambda _done: None)
        return np.stack([np.asarray(frame, dtype=float) for frame in made])

    exact = run(model)
    away = {}
    order: list[str] = []
    for every, runs in ((2, 3), (3, 2), (6, 1)):
        reusing = load(catalog, Optimizations(reuse_deep=every))
        for name in ("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.2", "up_blocks.3"):
            inner = reusing.pipeline.unet.get_submodule(name).resnets[0]
            inner.register_forward_pre_hook(lambda _block, _given, name=name: order.append(name))
        for _ in range(2):  # nothing is left for the next clip
            order.clear()
            made = run(reusing)
            counts = [order.count(name) for name in ("down_blocks.0", "down_blocks.1", "mid_block", "up_blocks.2")]
            assert counts == [6, runs, runs, runs]
            assert order.count("up_blocks.3") == 6
        assert reusing.notes() == {"approximations": {"reuse_deep": every}}
        away[every] = np.abs(made - exact).mean()
    assert 0 < away[2] < away[6] < 20


@pytest.mark.slow
def test_reuse_and_a_guidance_cut_go_together(catalog: Catalog) -> None:
    reusing = load(catalog, Optimizations(reuse_deep=2, guidance_until=0.5))
    made = reusing.run(moving_frames(6, 40, 24), job(width=40), on_step=lambda _done: None)
    assert len(made) == 6
    assert reusing.notes() == {"approximations": {"guidance_until": 0.5, "reuse_deep": 2}}
    reusing.run(moving_frames(6, 40, 24), job(width=40, guidance_scale=1.0), on_step=lambda _done: None)
    assert reusing.notes() == {"approximations": {"reuse_deep": 2}}
    reusing.run(moving_frames(6, 40, 24), job(width=40, steps=1), on_step=lambda _done: None)
    assert reusing.notes() == {}


def tiny_vae(folder: Path, **changes: Any) -> Path:
    """An ``AutoencoderTiny`` with random weights, in the latents' size."""
    channels = (8, 8, 8, 8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = load_diffusers().AutoencoderTiny(
            **{"encoder_block_out_channels": channels, "decoder_block_out_channels": channels, **changes}
        )
    vae.save_pretrained(str(folder))
    return folder


@pytest.mark.slow
def test_a_tiny_vae_stands_in(catalog: Catalog, model: AnimateDiffModel, tmp_path: Path) -> None:
    folder = tiny_vae(tmp_path / "taesd")
    other = load(catalog, Optimizations(tiny_vae=folder))
    assert type(other.pipeline.vae).__name__ == "AutoencoderTiny"
    made = other.run(moving_frames(6, 32, 24), job(), on_step=lambda _done: None)
    assert [frame.size for frame in made] == [(32, 24)] * 6
    assert other.notes() == {"approximations": {"tiny_vae": str(folder)}}
    vae = load_diffusers().AutoencoderTiny.from_pretrained(str(folder))
    saved = vae.state_dict()
    assert all(torch.equal(weight, saved[name]) for name, weight in other.pipeline.vae.state_dict().items())


def test_a_tiny_vae_that_does_not_fit_is_refused(catalog: Catalog, cache_dir: Path, tmp_path: Path) -> None:
    three = (8, 8, 8)
    few = tiny_vae(
        tmp_path / "few", encoder_block_out_channels=three, decoder_block_out_channels=three,
        num_encoder_blocks=(1, 3, 3), num_decoder_blocks=(3, 3, 1),
    )  # fmt: skip
    (tmp_path / "empty").mkdir()
    for name, problem in (
        (few, "4 channels of 4x4 pixels each"),
        (tiny_vae(tmp_path / "wide", latent_channels=16), "16 channels of 8x8"),
        (cache_dir / "tiny-1" / "vae", "contains a AutoencoderKL, not an AutoencoderTiny"),
        (tmp_path / "empty", "config.json cannot be read"),
        ("nowhere", "must be a folder that exists, or a Hub id such as org/name; got 'nowhere'"),
    ):
        with pytest.raises(ValueError, match=problem):
            load(catalog, Optimizations(tiny_vae=name))
    with pytest.raises(InvalidRequestError, match=r"tiny_vae: nobody/taesd is not on this machine"):
        load(catalog, Optimizations(tiny_vae="nobody/taesd"))


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("compile", "yes", "compile must be True or False; got 'yes'"),
        ("tiny_vae", " ", "tiny_vae must be a folder or a Hub id such as madebyollin/taesd; got ' '"),
        ("tiny_vae", 3, "tiny_vae must be"),
        ("guidance_until", 1.1, "guidance_until must be a share of the steps from 0 to 1; got 1.1"),
        ("guidance_until", -0.1, "guidance_until must be"),
        ("guidance_until", float("nan"), "guidance_until must be"),
        ("guidance_until", True, "guidance_until must be"),
        ("reuse_deep", 0, "reuse_deep must be a whole number of steps from 1; got 0"),
        ("reuse_deep", 1.5, "reuse_deep must be"),
        ("reuse_deep", True, "reuse_deep must be"),
    ],
)
def test_a_value_out_of_range_is_named(field: str, value: Any, text: str) -> None:
    with pytest.raises(ValueError, match="^" + text.replace("(", r"\(")):
        Optimizations(**{field: value})


def test_the_defaults_approximate_nothing() -> None:
    assert Optimizations().approximations() == {}
    every = Optimizations(tiny_vae=Path("a"), guidance_until=0.6, reuse_deep=2)
    assert every.approximations() == {"tiny_vae": "a", "guidance_until": 0.6, "reuse_deep": 2}
    documented = inspect.getdoc(Optimizations) or ""
    assert all(f":param {name}:" in documented for name in inspect.signature(Optimizations).parameters)


def test_meta_tells_what_was_approximated(make: Callable[..., Any]) -> None:
    assert not {"approximations", "memory_fallback"} & set(make().meta)


@pytest.mark.parametrize("chunk", [16, 4, 2])
def test_the_vae_gives_the_same_in_any_portions(model: AnimateDiffModel, chunk: int) -> None:
    given = job(steps=1, width=40, height=24)  # latents whose number is no multiple of 16, on which drawing depends
    one = pixels(model, given, Means(portions=Portions(1)), frames=18)
    assert np.abs(pixels(model, given, Means(portions=Portions(chunk)), frames=18) - one).max() < 1e-6
