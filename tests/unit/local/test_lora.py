from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.local.families.animatediff.lora import add_loras, read_lora
from airflow_provider_modelslab.local.runtime.lazy_imports import load_diffusers
from tests.support.tiny_parts import kohya, save_lora, spatial_lora

Tensors = dict[str, torch.Tensor]


@pytest.fixture
def layers(stock: Any) -> dict[str, set[str]]:
    return {
        "unet": {name.removesuffix(".weight") for name in stock.unet.state_dict()},
        "text_encoder": {name.removesuffix(".weight") for name in stock.text_encoder.state_dict()},
    }


@pytest.fixture
def lora(stock: Any) -> Tensors:
    return spatial_lora(stock.unet, stock.text_encoder, part=".attentions.")


def old_diffusers(tensors: Tensors) -> Tensors:
    """The names before diffusers 0.22: attention processors."""
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, half = name.partition(".lora_")
        way = "down" if half.startswith("A") else "up"
        head, _, last = layer.removesuffix(".0").rpartition(".")
        if layer.startswith("text_encoder"):
            last = {"q_proj": "to_q", "out_proj": "to_out"}[last]
            renamed[f"{head}.{last}_lora.{way}.weight"] = tensor
        else:
            renamed[f"{head}.processor.{last}_lora.{way}.weight"] = tensor
    return renamed


def new_diffusers(tensors: Tensors) -> Tensors:
    renamed = {}
    for name, tensor in tensors.items():
        middle = ".lora_linear_layer." if name.startswith("text") else ".lora."
        name = name.replace(".lora_A.", f"{middle}down.").replace(".lora_B.", f"{middle}up.")
        renamed[name] = tensor
    return renamed


def without_prefix(tensors: Tensors) -> Tensors:
    return {f"base_model.model.{n.removeprefix('unet.')}": t for n, t in tensors.items() if n.startswith("unet.")}


@pytest.mark.parametrize("rename", [old_diffusers, new_diffusers, lambda t: kohya(t, 2.0)])
def test_every_naming_is_read_alike(lora: Tensors, layers: Any, tmp_path: Path, rename: Any) -> None:
    plain = read_lora(save_lora(lora, tmp_path / "a.safetensors"), "lora_models", layers, allow_pickle=False)
    other = read_lora(save_lora(rename(lora), tmp_path / "b.safetensors"), "lora_models", layers, allow_pickle=False)
    assert {part.target for part in plain} == {"unet", "text_encoder"}
    assert len(plain) == len(lora) // 2
    key = {(part.target, part.layer): part for part in plain}
    assert {(part.target, part.layer) for part in other} == set(key)
    for part in other:
        assert part.up.equal(key[part.target, part.layer].up)
        assert part.down.equal(key[part.target, part.layer].down)
        assert part.scale == 1.0


def test_names_without_a_prefix_are_the_unets(lora: Tensors, layers: Any, tmp_path: Path) -> None:
    path = save_lora(without_prefix(lora), tmp_path / "a.safetensors")
    assert {part.target for part in read_lora(path, "lora_models", layers, allow_pickle=False)} == {"unet"}


@pytest.mark.slow
@pytest.mark.parametrize("rename", [lambda t: t, lambda t: kohya(t, 1.0)], ids=["peft", "kohya"])
def test_the_sum_is_that_of_diffusers(stock: Any, lora: Tensors, layers: Any, tmp_path: Path, rename: Any) -> None:
    path = save_lora(rename(lora), tmp_path / "pytorch_lora_weights.safetensors")
    kind = load_diffusers().AnimateDiffVideoToVideoPipeline
    pipeline = kind.from_pretrained(stock.config._name_or_path, motion_adapter=None)
    pipeline.load_lora_weights(str(tmp_path), weight_name=path.name, adapter_name="it")
    pipeline.set_adapters(["it"], [0.7])
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    read = read_lora(path, "lora_models", layers, allow_pickle=False)
    for target in ("unet", "text_encoder"):
        before = getattr(stock, target).state_dict()
        theirs = getattr(pipeline, target).state_dict()
        changed = add_loras(before, [(read, 0.7)], target)
        assert set(changed) == {name for name in before if not before[name].equal(theirs[name])}
        assert all(weight.allclose(theirs[name], atol=1e-5) for name, weight in changed.items())


def test_an_alpha_in_the_metadata_counts(lora: Tensors, layers: Any, tmp_path: Path) -> None:
    some = {name: tensor for name, tensor in lora.items() if name.startswith("unet.")}
    special = next(iter(some)).removeprefix("unet.").partition(".lora_")[0]
    saved = {"unet.lora_alpha": 6, "unet.r": 2, "unet.alpha_pattern": {special: 1}}
    save_file(some, str(tmp_path / "a.safetensors"), metadata={"lora_adapter_metadata": json.dumps(saved)})
    read = read_lora(tmp_path / "a.safetensors", "lora_models", layers, allow_pickle=False)
    assert {part.layer: part.scale for part in read if part.scale != 3.0} == {special: 0.5}


def test_nothing_that_fits_is_an_error(layers: Any, tmp_path: Path) -> None:
    other = {
        "unet.no.such.layer.lora_A.weight": torch.zeros(2, 4),
        "unet.no.such.layer.lora_B.weight": torch.zeros(4, 2),
    }
    path = save_lora(other, tmp_path / "a.safetensors")
    with pytest.raises(InvalidRequestError, match=r"lora_models: .*none of its 2 tensors"):
        read_lora(path, "lora_models", layers, allow_pickle=False)


def test_layers_that_are_not_there_are_left_out_with_a_warning(
    lora: Tensors, layers: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    extra = {"unet.no.such.lora_A.weight": torch.zeros(2, 4), "unet.no.such.lora_B.weight": torch.zeros(4, 2)}
    path = save_lora(lora | extra, tmp_path / "a.safetensors")
    with caplog.at_level(logging.WARNING):
        assert len(read_lora(path, "lora_models", layers, allow_pickle=False)) == len(lora) // 2
    assert "1 of its layers do not exist in this model" in caplog.text


@pytest.mark.parametrize("kind", ["lokr_w1", "hada_w1_a", "dora_scale"])
def test_other_kinds_are_refused_by_name(lora: Tensors, layers: Any, tmp_path: Path, kind: str) -> None:
    path = save_lora(lora | {f"lora_unet_x.{kind}": torch.zeros(2)}, tmp_path / "a.safetensors")
    with pytest.raises(InvalidRequestError, match=kind.split("_")[0]):
        read_lora(path, "lora_models", layers, allow_pickle=False)


def test_convolutions_take_loras(stock: Any, layers: Any, tmp_path: Path) -> None:
    tensors = spatial_lora(stock.unet, part=".resnets.")
    read = read_lora(save_lora(tensors, tmp_path / "a.safetensors"), "lora_models", layers, allow_pickle=False)
    weights = stock.unet.state_dict()
    changed = add_loras(weights, [(read, 2.0)], "unet")
    assert len(changed) == len(read) > 5
    part = read[0]
    expected = torch.einsum("or,rihw->oihw", part.up[..., 0, 0], part.down) * 2
    name = f"{part.layer}.weight"
    assert (changed[name] - weights[name]).allclose(expected, atol=1e-5)


def test_the_weights_themselves_stay(stock: Any, lora: Tensors, layers: Any, tmp_path: Path) -> None:
    read = read_lora(save_lora(lora, tmp_path / "a.safetensors"), "lora_models", layers, allow_pickle=False)
    weights = {name: weight.to(torch.bfloat16) for name, weight in stock.unet.state_dict().items()}
    before = {name: weight.clone() for name, weight in weights.items()}
    changed = add_loras(weights, [(read, 1.0), (read, -0.5)], "unet")
    assert all(weight.equal(before[name]) for name, weight in weights.items())
    assert {weight.dtype for weight in changed.values()} == {torch.bfloat16}
