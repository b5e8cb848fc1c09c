"""Context windows cover a clip in every step, and begin elsewhere in each."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from airflow_provider_modelslab.local.families.wan_clip_run import latent_windows
from airflow_provider_modelslab.local.families.windows import ContextWindows


@pytest.mark.parametrize("total", [1, 15, 16, 17, 18, 31, 33, 100, 301])
@pytest.mark.parametrize(("length", "overlap"), [(16, 4), (16, 15), (7, 0), (5, 3), (1, 0)])
def test_each_frame_is_seen_in_each_step_and_neighbours_overlap(total: int, length: int, overlap: int) -> None:
    windows = ContextWindows(total, length, overlap)
    for step in range(9):
        starts = windows.starts(step)
        assert starts[0] == 0
        assert starts[-1] + windows.size == total
        assert all(0 < other - one <= windows.size - min(overlap, windows.size - 1) for one, other in pairwise(starts))


def test_a_clip_that_is_not_longer_than_a_window_is_one_window() -> None:
    for total in (1, 9, 16):
        windows = ContextWindows(total, 16, 4)
        assert [windows.starts(step) for step in range(3)] == [[0]] * 3
        assert windows.size == total


def test_no_border_is_the_same_in_two_of_eight_steps() -> None:
    windows = ContextWindows(1000, 16, 4)
    inner = [set(windows.starts(step)[1:-1]) for step in range(8)]
    most = len(windows.starts(0))
    assert all(len(one & other) < most / 4 for number, one in enumerate(inner) for other in inner[:number])
    assert {len(starts) for starts in map(windows.starts, range(8))} <= {most, most + 1}


def test_what_all_windows_agree_on_is_the_result() -> None:
    latents = torch.randn(1, 2, 50, 3, 3)
    for step in range(4):
        averaged = ContextWindows(50, 16, 4).average(latents, step, lambda window: 2 * window)
        assert torch.allclose(averaged, 2 * latents, atol=1e-6)
        assert averaged.dtype == latents.dtype


def test_the_middle_of_a_window_counts_more_than_its_border() -> None:
    numbers = iter(range(100))

    def predict(window: Any) -> Any:
        return torch.full_like(window, float(next(numbers)))

    (seen,) = ContextWindows(28, 16, 4).average(torch.zeros(1, 1, 28, 1, 1), 0, predict).squeeze((0, 3, 4))
    assert seen[:12].tolist() == [0.0] * 12
    assert seen[16:].tolist() == [1.0] * 12
    assert seen[12:16].tolist() == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5])


def test_windows_of_wan_are_counted_in_latents() -> None:
    assert latent_windows(ContextWindows(300, 17, 4)) == ContextWindows(76, 5, 1)
    assert latent_windows(ContextWindows(3, 17, 0)) == ContextWindows(2, 5, 0)
    assert latent_windows(ContextWindows(30, 5, 4)) == ContextWindows(9, 2, 1)
    assert latent_windows(ContextWindows(30, 1, 0)) == ContextWindows(9, 1, 0)
