from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.local.families.animatediff.prompt_embeddings import embed_prompt


def test_embeddings_are_those_of_diffusers(stock: Any) -> None:
    with torch.no_grad():
        theirs, negative = stock.encode_prompt("a fox", "cpu", 1, True, "bad")
    assert torch.equal(embed_prompt(stock, "a fox"), theirs)
    assert torch.equal(embed_prompt(stock, "bad"), negative)
    assert torch.equal(embed_prompt(stock, "a fox", 0), theirs)


def test_clip_skip_takes_an_earlier_layer_through_the_last_norm(stock: Any) -> None:
    layers = [embed_prompt(stock, "a fox", skip) for skip in range(6)]
    assert {tuple(layer.shape) for layer in layers} == {(1, 77, 32)}
    assert not any(torch.allclose(layers[0], layer) for layer in layers[1:])
    assert all(abs(float(layer.mean())) < 1e-5 for layer in layers)  # the norm's weights are ones, its biases zeros


def test_a_long_prompt_is_cut_with_a_warning(stock: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        long = embed_prompt(stock, "fox " * 60)
    assert tuple(long.shape) == (1, 77, 32)
    assert "reads the first 77 and drops the rest" in caplog.text
