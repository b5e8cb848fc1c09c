"""What the second family has of the levers."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch

from airflow_provider_modelslab.local.families.wan import WanModel
from airflow_provider_modelslab.local.models.catalog import Catalog
from airflow_provider_modelslab.local.plan import DenoisingPass
from airflow_provider_modelslab.local.runtime.optimizations import Optimizations
from tests.support.moving import moving_frames
from tests.support.tiny_parts import wan_model


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = tmp_path_factory.mktemp("models")
    wan_model(folder / "wan")
    return Catalog(folder, folder, offline=True)


def load(catalog: Catalog, speed: Optimizations, calls: list[int]) -> WanModel:
    model = WanModel(catalog.lookup("wan"), catalog, "cpu", torch.float32, speed)
    model.pipeline.transformer.register_forward_pre_hook(lambda *_given: calls.append(1))
    return model


def run(model: WanModel, **changes: Any) -> Any:
    values: dict[str, Any] = {"prompt": "a fox", "negative_prompt": "bad", "steps": 4, "guidance_scale": 5.0}
    job = DenoisingPass(
        **{**values, "strength": 1.0, "seed": 3, "width": 32, "height": 32, "scheduler": "own", **changes}
    )
    made = model.run(moving_frames(5, 32, 32), job, on_step=lambda _done: None)
    return np.stack([np.asarray(frame) for frame in made])


@pytest.mark.slow
@pytest.mark.parametrize(("share", "count"), [(1.0, 8), (0.5, 6), (0.0, 4)])
def test_guidance_can_end_early(catalog: Catalog, share: float, count: int) -> None:
    calls: list[int] = []
    model = load(catalog, Optimizations(guidance_until=share), calls)
    made = run(model)
    assert len(calls) == count
    assert model.notes() == ({} if share == 1 else {"approximations": {"guidance_until": share}})
    exact = run(load(catalog, Optimizations(), []), **({"guidance_scale": 1.0} if share == 0 else {}))
    assert np.array_equal(made, exact) == (share != 0.5)
    again = run(model)
    assert np.array_equal(made, again)  # guidance is back for the next clip


def test_a_prompt_is_embedded_once(catalog: Catalog) -> None:
    model = load(catalog, Optimizations(), [])
    seen: list[int] = []
    model.pipeline.text_encoder.register_forward_pre_hook(lambda *_given: seen.append(1))
    first = run(model)
    assert np.array_equal(run(model), first)
    assert len(seen) == 2


def test_what_is_not_for_this_family_is_left_out_with_a_warning(
    catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        model = load(catalog, Optimizations(tiny_vae="org/vae", reuse_deep=2), [])
    assert "wan: its family does not support tiny_vae, reuse_deep, which is ignored" in caplog.text
    run(model, steps=1)
    assert model.notes() == {}


def test_the_transformer_is_compiled(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple[Any, str]] = []
    monkeypatch.setattr(
        "airflow_provider_modelslab.local.families.pipeline_model.compile_forward",
        lambda part, name: compiled.append((part, name)),
    )
    model = load(catalog, Optimizations(compile=True), [])
    assert compiled == [(model.pipeline.transformer, "wan")]


def test_bytes_are_those_of_the_parts(catalog: Catalog) -> None:
    model = load(catalog, Optimizations(), [])
    parts = (model.pipeline.transformer, model.pipeline.vae, model.pipeline.text_encoder)
    weights = {weight.data_ptr(): weight.nbytes for part in parts for weight in part.state_dict().values()}
    assert model.bytes == sum(weights.values())
