"""One test for each trap of diffusers 0.42: it is there, and the engine steps around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from airflow_provider_modelslab.api.errors import ClipUnreadableError, InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.local.engine import Generated, LocalEngine
from airflow_provider_modelslab.local.families.animatediff.denoise import denoise
from airflow_provider_modelslab.local.families.animatediff.lora import read_lora
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.families.animatediff.prompt_embeddings import embed_prompt
from airflow_provider_modelslab.local.families.animatediff.schedulers import build_scheduler
from airflow_provider_modelslab.local.media.decode import read_frames
from airflow_provider_modelslab.local.media.encode import write_gif
from airflow_provider_modelslab.local.media.fetch import FetchLimits, fetch_clip
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.plan import DenoisingPass, Plan
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from tests.support.files_server import FilesServer, ServedFile
from tests.support.moving import moving_frames
from tests.support.tiny_parts import original_motion_names, save_lora, spatial_lora

Make = Callable[..., Generated]

DIFFUSERS = load_diffusers()
MotionAdapter, UNet2DConditionModel, UNetMotionModel = (
    DIFFUSERS.MotionAdapter,
    DIFFUSERS.UNet2DConditionModel,
    DIFFUSERS.UNetMotionModel,
)


def run_stock(stock: Any, **changes: Any) -> Any:
    values = {"video": moving_frames(4, 32, 24), "prompt": "a fox", "height": 24, "width": 32, "output_type": "np"}
    return stock(**{**values, "generator": torch.Generator().manual_seed(1), **changes}).frames[0]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The timesteps that the UNet was called with."""
    seen: list[int] = []
    forward = UNetMotionModel.forward

    def counted(unet: Any, sample: Any, timestep: Any, **options: Any) -> Any:
        seen.append(int(timestep))
        return forward(unet, sample, timestep, **options)

    monkeypatch.setattr(UNetMotionModel, "forward", counted)
    return seen


def test_finding_1_clip_skip(stock: Any, make: Make) -> None:
    with pytest.raises(AttributeError):
        run_stock(stock, num_inference_steps=2, clip_skip=2)
    assert not torch.equal(embed_prompt(stock, "a fox", 2), embed_prompt(stock, "a fox"))
    assert make(clip_skip=2).meta["clip_skip"] == 2


@pytest.mark.slow
def test_finding_2_freeinit(stock: Any, calls: list[int]) -> None:
    stock.scheduler = build_scheduler("ddim", stock.scheduler.config)
    stock.enable_free_init(num_iters=3)
    run_stock(stock, num_inference_steps=20, strength=0.7, guidance_scale=1.0)
    stock.disable_free_init()
    assert len(calls) == 9 + 6 + 4
    calls.clear()
    job = DenoisingPass("a fox", "", 20, 0.7, 1.0, 1, 32, 24, iterations=3)
    denoise(stock, moving_frames(4, 32, 24), job, on_step=lambda _done: None)
    assert len(calls) == 3 * 14
    assert calls[:14] == calls[14:28] == calls[28:]
    assert calls[0] == 684  # where the strength says, in every round


def test_finding_3_loading(cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # from_pretrained fills a new UNet with random numbers before it copies the real ones over them.
    drawn: list[str] = []
    original = torch.nn.init.kaiming_uniform_

    def spy(tensor: Any, *arguments: Any, **options: Any) -> Any:
        drawn.append(tensor.device.type)
        return original(tensor, *arguments, **options)

    plain = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(8,),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=8,
        norm_num_groups=2,
        attention_head_dim=1,
    )
    adapter = MotionAdapter((8,), 1, motion_num_attention_heads=1, motion_norm_num_groups=2)
    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", spy)
    UNetMotionModel.from_unet2d(plain, adapter)
    assert "cpu" in drawn
    drawn.clear()
    catalog = Catalog(None, cache_dir)
    spec = catalog.prepare(catalog.lookup("tiny"))
    model = AnimateDiffModel(spec, catalog, "cpu", torch.float32)
    model.prepare(Plan(spec, (), 3, 8))
    assert "cpu" not in drawn
    assert {weight.device.type for weight in model.pipeline.unet.state_dict().values()} == {"cpu"}


@pytest.mark.slow
def test_finding_4_gif_palettes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What takes the time: Pillow cuts a palette from all pixels of every frame; here from a few, and where it must.
    cut: list[int] = []
    convert, quantize = Image.Image.convert, Image.Image.quantize

    def counted_convert(image: Image.Image, mode: str | None = None, *arguments: Any, **options: Any) -> Image.Image:
        if mode == "P":
            cut.append(image.width * image.height)
        return convert(image, mode, *arguments, **options)

    def counted_quantize(image: Image.Image, *arguments: Any, **options: Any) -> Image.Image:
        cut.append(image.width * image.height)
        return quantize(image, *arguments, **options)

    monkeypatch.setattr(Image.Image, "convert", counted_convert)
    monkeypatch.setattr(Image.Image, "quantize", counted_quantize)
    frames = moving_frames(6, 256, 192)
    DIFFUSERS.utils.export_to_gif(frames, str(tmp_path / "theirs.gif"), fps=8)
    assert cut == [256 * 192] * 6
    cut.clear()
    write_gif(frames, tmp_path / "ours.gif", 8)
    assert sum(cut) < 6 * 256 * 192 / 4


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (50, 38)])
def test_finding_5_sizes_that_are_no_multiples_of_16(make: Make, size: tuple[int, int]) -> None:
    made = make(width=size[0], height=size[1])
    assert {frame.size for frame in read_frames(made.path, 6)[0]} == {size}


def test_finding_6_raw_gif_frames(stock: Any, make: Make, tmp_path: Path) -> None:
    rgb = moving_frames(6, 32, 24)
    mixed = [rgb[0].quantize(64), *rgb[1:]]
    with pytest.raises(ValueError, match=r"same shape"):
        run_stock(stock, video=mixed, num_inference_steps=2)
    paletted = [frame.quantize(64) for frame in rgb]
    paletted[0].save(tmp_path / "p.gif", save_all=True, append_images=paletted[1:], duration=100)
    assert make(init_video=str(tmp_path / "p.gif")).meta["num_frames"] == 6


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "strength", "run"), [(5, 0.1, 1), (4, 0.01, 1), (1, 0.7, 1), (50, 0.58, 29), (5, 0, 0)]
)
def test_finding_7_strength(stock: Any, calls: list[int], steps: int, strength: float, run: int) -> None:
    if run <= 1:
        with pytest.raises((RuntimeError, ValueError)):
            run_stock(stock, num_inference_steps=steps, strength=strength)
        calls.clear()
    job = DenoisingPass("a fox", "", steps, strength, 1.0, 1, 16, 16)
    assert job.calls == run
    if run:
        stock.scheduler = build_scheduler("ddim", stock.scheduler.config)
        denoise(stock, moving_frames(2, 16, 16), job, on_step=lambda _done: None)
    assert len(calls) == run


def test_finding_8_original_loras(stock: Any, tmp_path: Path) -> None:
    tensors = spatial_lora(stock.unet, part=".motion_modules.")
    original = original_motion_names({name.removeprefix("unet."): tensor for name, tensor in tensors.items()})
    for layer, old in (("to_q", "to_q"), ("to_v", "to_v"), ("to_out.0", "to_out")):
        for half, way in (("lora_A", "down"), ("lora_B", "up")):
            new_name, old_name = f".{layer}.{half}", f".processor.{old}_lora.{way}"
            original = {name.replace(new_name, old_name): tensor for name, tensor in original.items()}
    assert all("temporal_transformer" in name and "attention_blocks" in name for name in original)
    pipeline = DIFFUSERS.AnimateDiffVideoToVideoPipeline.from_pretrained(
        stock.config._name_or_path, motion_adapter=None
    )
    save_lora(original, tmp_path / "theirs.safetensors")
    pipeline.load_lora_weights(str(tmp_path), weight_name="theirs.safetensors", adapter_name="zoom")
    with pytest.raises(ValueError, match="zoom"):
        pipeline.set_adapters(["zoom"], [1.0])
    layers = {"unet": {name.removesuffix(".weight") for name in stock.unet.state_dict()}, "text_encoder": set[str]()}
    read = read_lora(tmp_path / "theirs.safetensors", "motion_loras", layers, allow_pickle=False)
    plain = read_lora(save_lora(tensors, tmp_path / "plain.safetensors"), "motion_loras", layers, allow_pickle=False)
    ups = {part.layer: part.up for part in plain}
    assert len(read) == len(plain)
    assert all(part.up.equal(ups[part.layer]) for part in read)


@pytest.mark.slow
def test_finding_9_caches_and_compiling() -> None:
    # None of diffusers' caches knows this UNet, so the engine uses none; compiling it as one graph does work.
    assert not issubclass(UNetMotionModel, DIFFUSERS.CacheMixin)
    torch.manual_seed(0)
    adapter = MotionAdapter(
        (8,), 1, motion_num_attention_heads=1, motion_norm_num_groups=2, use_motion_mid_block=False
    ).eval()
    block = adapter.down_blocks[0].motion_modules[0]
    compiled: Any = torch.compile(block, fullgraph=True, backend="eager")
    states = torch.randn(2, 8, 4, 4)
    with torch.no_grad():
        assert compiled(states, num_frames=2).equal(block(states, num_frames=2))


def test_finding_10_fetching(files: FilesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    link = files.add("/broken.mp4", ServedFile(b"\0\0\0\x18ftypisom" + b"\0" * 5000))
    with pytest.raises(InvalidRequestError, match="public internet"):
        fetch_clip(link, tmp_path, limits=FetchLimits())
    with pytest.raises(InvalidRequestError, match="init_video"):
        fetch_clip(link, tmp_path, limits=FetchLimits(allow_private_addresses=True, max_bytes=1000))
    engine = LocalEngine(cache_dir=tmp_path / "cache", limits=FetchLimits(allow_private_addresses=True))
    with pytest.raises(ClipUnreadableError):
        engine.generate(Video2VideoRequest(model_id="tiny", prompt="a", init_video=link), tmp_path / "clip.mp4")
    assert not list((tmp_path / "tmp").iterdir())
