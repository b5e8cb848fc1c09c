from __future__ import annotations

from typing import Any

import pytest
import torch

from airflow_provider_modelslab.local.families.animatediff.freeinit import low_pass, mix_noise


@pytest.mark.parametrize("size", [(16, 8, 8), (6, 4, 3), (1, 5, 7), (25, 12, 12)])
def test_the_filter_is_that_of_diffusers(stock: Any, size: tuple[int, int, int]) -> None:
    theirs = stock._get_free_init_freq_filter((1, 4, *size), "cpu", "butterworth", 4, 0.25, 0.25)
    ours = low_pass(*size)
    assert ours.allclose(theirs[0, 0], atol=1e-6)
    assert theirs[0].allclose(ours.expand(4, *size), atol=1e-6)


def test_the_mix_is_that_of_diffusers(stock: Any) -> None:
    first, fresh = torch.randn(1, 4, 6, 8, 8), torch.randn(1, 4, 6, 8, 8)
    low = low_pass(6, 8, 8)
    assert mix_noise(first, fresh, low).allclose(stock._apply_freq_filter(first, fresh, low.expand(1, 4, -1, -1, -1)))


def test_what_all_frames_share_is_kept_and_the_rest_is_fresh() -> None:
    still = torch.ones(1, 4, 8, 8, 8)
    low = low_pass(8, 8, 8)
    assert mix_noise(still, torch.zeros_like(still), low).allclose(still, atol=1e-2)
    assert mix_noise(torch.zeros_like(still), still, low).abs().max() < 1e-2
    noise = torch.randn(1, 4, 8, 8, 8)
    assert mix_noise(noise, noise, low).allclose(noise, atol=1e-5)


def test_half_precision_stays_what_it_is() -> None:
    noise = torch.randn(1, 4, 6, 8, 8).to(torch.bfloat16)
    assert mix_noise(noise, noise, low_pass(6, 8, 8)).dtype == torch.bfloat16
