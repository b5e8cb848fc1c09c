from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.quantities import number_of, seconds_of, whole_of


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("90", 90),
        (" 1.5 ", 1.5),
        ("1e3", 1000),
        ("90s", 90),
        ("90 sec", 90),
        ("250ms", 0.25),
        ("15m", 900),
        ("15 min", 900),
        ("1h", 3600),
        ("1.5H", 5400),
        ("2d", 172800),
        ("1h30m", 5400),
        ("1d 2h 3m 4s", 93784),
        ("1:30:00", 5400),
        ("0:00:02.500000", 2.5),
        (str(timedelta(days=1, hours=2)), 93600),  # as a template renders one
        (timedelta(minutes=2), 120),
    ],
)
def test_durations(given: Any, seconds: float) -> None:
    assert seconds_of(given, "timeout", above=0) == seconds


@pytest.mark.parametrize(
    "given",
    ["", "soon", "1w", "1h30", "h", "-1h", "-5", 0, -1, "0s", True, None, [60], "nan", "inf", float("inf"), "1:75:00"],
)
def test_what_is_no_duration_is_refused_by_its_field(given: Any) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        seconds_of(given, "timeout", above=0)
    assert list(refused.value.fields) == ["timeout"]


def test_numbers() -> None:
    assert (whole_of("10", "n", least=1), whole_of(3.0, "n", least=1), number_of("0.5", "n", most=1)) == (10, 3, 0.5)
    for read in (
        lambda: whole_of("2.5", "n", least=1),
        lambda: whole_of("0", "n", least=1),
        lambda: whole_of(True, "n", least=1),
        lambda: number_of("half", "n"),
        lambda: number_of("1.5", "n", above=0, most=1),
        lambda: number_of(0, "n", above=0),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            read()
        assert list(refused.value.fields) == ["n"]
