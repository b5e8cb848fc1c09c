"""What a late attempt ends with."""

from __future__ import annotations

from airflow_provider_modelslab.api.errors import BatchSupersededError


def test_the_error_is_the_same_after_a_trip_between_processes() -> None:
    error = BatchSupersededError("try 2 has ended it")
    kind, arguments, state = error.__reduce__()
    again = kind(*arguments)
    again.__setstate__(state)
    assert (type(again), str(again), again.code) == (BatchSupersededError, "try 2 has ended it", error.code)
