from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.storage.landing import LandingPolicy
from airflow_provider_modelslab.storage.upload import MAX_PARTS, MIB, part_size_for


@pytest.mark.parametrize("length", [None, 0, 1, 8 * MIB * MAX_PARTS])
def test_the_part_size_stays(length: int | None) -> None:
    assert part_size_for(length, 8 * MIB) == 8 * MIB


@pytest.mark.parametrize("length", [8 * MIB * MAX_PARTS + 1, 200 * 1024 * MIB, 5 * 1024 * 1024 * MIB])
def test_the_part_size_grows_with_the_file(length: int) -> None:
    size = part_size_for(length, 8 * MIB)
    assert size % MIB == 0
    assert size * MAX_PARTS >= length
    assert (size - MIB) * MAX_PARTS < length


@pytest.mark.parametrize(
    "values",
    [
        {"part_size": 5 * MIB - 1},
        {"parts_in_flight": 0},
        {"min_backoff": 0},
        {"min_backoff": 20},
        {"backoff": 0.5},
        {"jitter": 1},
    ],
)
def test_policies_that_cannot_work(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Need"):
        LandingPolicy(**values)
