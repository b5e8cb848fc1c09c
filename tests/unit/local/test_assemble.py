from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.families.animatediff.assemble import (
    build_skeleton,
    fill_skeleton,
    skeleton_config,
    skeleton_key,
)
from airflow_provider_modelslab.local.families.animatediff.model import AnimateDiffModel
from airflow_provider_modelslab.local.families.animatediff.motion import read_motion
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.models.inspection import read_json
from airflow_provider_modelslab.local.models.weights import read_tensors
from airflow_provider_modelslab.local.plan import Plan
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from tests.support.tiny_parts import motion_adapter, original_motion_names, save_lora, split_model, unet_weights


@pytest.fixture(scope="module", params=[{}, {"use_motion_mid_block": False}], ids=["v2", "v3"])
def model_dir(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as Stable Diffusion 1.5 is saved, with a motion adapter in a folder beside."""
    folder = tmp_path_factory.mktemp("models")
    split_model(folder / "plain")
    motion_adapter(5, **request.param).save_pretrained(str(folder / "motion_modules" / "v2_sd15_mm"))
    return folder


def ours(model_dir: Path, dtype: torch.dtype = torch.float32) -> AnimateDiffModel:
    catalog = Catalog(model_dir, offline=True)
    spec = catalog.prepare(catalog.lookup("plain"))
    model = AnimateDiffModel(spec, catalog, "cpu", dtype)
    model.prepare(Plan(spec, (), 8, 8, motion=catalog.parts.motion_module("v2_sd15_mm")))
    return model


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_tensor_is_that_of_from_pretrained(model_dir: Path, dtype: torch.dtype) -> None:
    adapter = load_diffusers().MotionAdapter.from_pretrained(
        str(model_dir / "motion_modules" / "v2_sd15_mm"), dtype=dtype
    )
    stock = load_diffusers().AnimateDiffVideoToVideoPipeline.from_pretrained(
        str(model_dir / "plain"), motion_adapter=adapter, dtype=dtype, use_safetensors=True
    )
    mine = ours(model_dir, dtype).pipeline
    for part in ("unet", "vae", "text_encoder"):
        theirs, own = getattr(stock, part).state_dict(), getattr(mine, part).state_dict()
        assert list(own) == list(theirs)
        assert all(own[name].equal(theirs[name]) and own[name].dtype == theirs[name].dtype for name in theirs)
    skipped = {"_name_or_path", "_use_default_values", "_class_name"}
    settings = {name: value for name, value in mine.unet.config.items() if name not in skipped}
    assert settings == {name: value for name, value in stock.unet.config.items() if name not in skipped}


def test_no_tensor_is_copied(model_dir: Path) -> None:
    model = ours(model_dir)
    weights = {name: weight.data_ptr() for name, weight in model.pipeline.unet.state_dict().items()}
    assert {name: weights[name] for name in model._spatial} == {n: t.data_ptr() for n, t in model._spatial.items()}


def test_modules_of_one_build_share_a_shell() -> None:
    plain, longer = {"a": 1, "b": True}, {"a": 2, "b": True}
    assert skeleton_key(plain) == skeleton_key(dict(reversed(plain.items()))) != skeleton_key(longer)


def test_original_names_give_the_same_unet(model_dir: Path, tmp_path: Path) -> None:
    folder = model_dir / "motion_modules" / "v2_sd15_mm"
    tensors = read_tensors([folder / "diffusion_pytorch_model.safetensors"])
    renamed = original_motion_names(tensors)
    assert not set(renamed) & set(tensors)
    save_lora(renamed, tmp_path / "mm" / "v2.safetensors")
    (tmp_path / "mm" / "config.json").write_text((folder / "config.json").read_text())
    original = read_motion(tmp_path / "mm", device="cpu", dtype=torch.float32, allow_pickle=False)
    diffusers = read_motion(folder, device="cpu", dtype=torch.float32, allow_pickle=False)
    assert original.config == diffusers.config
    assert set(original.tensors) == set(diffusers.tensors)
    assert all(tensor.equal(diffusers.tensors[name]) for name, tensor in original.tensors.items())


def test_tables_of_positions_that_are_left_out_are_computed(model_dir: Path, tmp_path: Path) -> None:
    folder = model_dir / "motion_modules" / "v2_sd15_mm"
    tensors = read_tensors([folder / "diffusion_pytorch_model.safetensors"])
    save_lora({n: t for n, t in tensors.items() if not n.endswith(".pe")}, tmp_path / "mm" / "v2.safetensors")
    (tmp_path / "mm" / "config.json").write_text((folder / "config.json").read_text())
    motion = read_motion(tmp_path / "mm", device="cpu", dtype=torch.float32, allow_pickle=False)
    shell = build_skeleton(skeleton_config(read_json(model_dir / "plain" / "unet" / "config.json"), motion.config))
    fill_skeleton(shell, unet_weights(model_dir / "plain") | motion.tensors)
    filled = shell.state_dict()
    assert all(filled[name].equal(tensor) for name, tensor in tensors.items())


def test_a_module_of_another_size_is_an_error(model_dir: Path) -> None:
    wide: Any = motion_adapter(1, block_out_channels=(8, 8, 8, 16))
    config = skeleton_config(
        read_json(model_dir / "plain" / "unet" / "config.json"),
        {"motion_num_attention_heads": 2, "motion_max_seq_length": 32, "use_motion_mid_block": True,
         "temporal_transformer_layers_per_block": 1, "temporal_transformer_layers_per_mid_block": 1},
    )  # fmt: skip
    with pytest.raises(InvalidRequestError, match=r"motion_module: .*does not fit the model: .*size mismatch"):
        fill_skeleton(build_skeleton(config), unet_weights(model_dir / "plain") | wide.state_dict())
