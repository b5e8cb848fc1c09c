"""The metrics of paid jobs: their names, kinds and tags."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import RateLimitError
from airflow_provider_modelslab.jobs import metrics

TAGS = {"conn_id": "c"}


class _Stats:
    def __init__(self) -> None:
        self.seen: list[tuple[str, Any, dict[str, str]]] = []

    def incr(self, stat: str, count: int = 1, *, tags: dict[str, str]) -> None:
        self.seen.append((stat, count, tags))

    def timing(self, stat: str, dt: timedelta, *, tags: dict[str, str]) -> None:
        self.seen.append((stat, dt.total_seconds(), tags))


@pytest.fixture
def stats(monkeypatch: pytest.MonkeyPatch) -> _Stats:
    stats = _Stats()
    monkeypatch.setattr(metrics, "Stats", stats)
    return stats


def test_a_job(stats: _Stats) -> None:
    metrics.submitted("c", 0.5)
    metrics.landed("c", {"bytes": 9, "cost": "0.105", "currency": "EUR"}, waited=4.0, seconds=0.2)
    assert stats.seen == [
        ("modelslab.submitted", 1, TAGS),
        ("modelslab.submit", 0.5, TAGS),
        ("modelslab.landed", 1, TAGS),
        ("modelslab.landed_bytes", 9, TAGS),
        ("modelslab.cost_thousandths", 105, {**TAGS, "currency": "EUR"}),
        ("modelslab.wait", 4.0, TAGS),
        ("modelslab.landing", 0.2, TAGS),
    ]


def test_what_costs_nothing(stats: _Stats) -> None:
    metrics.refused("c", RateLimitError("full"))
    metrics.refused("c", KeyboardInterrupt())
    metrics.reused("c")
    assert stats.seen == [
        ("modelslab.refused", 1, {**TAGS, "code": "rate_limit"}),
        ("modelslab.refused", 1, {**TAGS, "code": "KeyboardInterrupt"}),
        ("modelslab.reused", 1, TAGS),
    ]


def test_every_metric_is_in_the_table(stats: _Stats) -> None:
    metrics.submitted("c", 0.5)
    metrics.landed("c", {"cost": "1"}, waited=4.0, seconds=0.2)
    metrics.refused("c", RateLimitError("full"))
    metrics.reused("c")
    assert len({name for name, _, _ in stats.seen}) == 9
    assert metrics.__doc__ is not None
    assert all(f"``{name}``" in metrics.__doc__ for name, _, _ in stats.seen)
