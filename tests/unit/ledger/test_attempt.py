"""Which of two attempts began before the other, and what an attempt writes down of itself."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
import uuid6

from airflow_provider_modelslab.ledger.attempt import AttemptId
from tests.support.task_ids import made_at

NOON = 1_795_435_200_000  # milliseconds since the epoch
MINE = AttemptId("films", "restyle", "run 1", 3, 2, 2, made_at(NOON))


def attempt(try_number: int, task_instance_id: UUID | None = None) -> AttemptId:
    return AttemptId(try_number=try_number, task_instance_id=task_instance_id)


@pytest.mark.parametrize(
    ("mine", "other", "before"),
    [
        pytest.param(attempt(1, made_at(NOON)), attempt(2, made_at(NOON + 60_000)), True, id="a retry"),
        pytest.param(attempt(2, made_at(NOON + 60_000)), attempt(1, made_at(NOON)), False, id="its successor"),
        pytest.param(attempt(1, made_at(NOON)), attempt(1, made_at(NOON)), False, id="itself"),
        pytest.param(attempt(1, made_at(NOON + 60_000)), attempt(3, made_at(NOON)), False, id="a run made anew"),
        pytest.param(attempt(2, made_at(NOON)), attempt(1, made_at(NOON + 60_000)), False, id="a higher try"),
        pytest.param(attempt(1, made_at(NOON)), attempt(1, made_at(NOON + 60_000)), False, id="the same try"),
        pytest.param(attempt(1), attempt(2), True, id="no ids"),
        pytest.param(attempt(2), attempt(2), False, id="no ids, the same try"),
        pytest.param(attempt(1), attempt(2, made_at(NOON)), True, id="one id"),
        pytest.param(attempt(1, UUID(int=2**127)), attempt(2, UUID(int=1)), True, id="ids without a time"),
    ],
)
def test_an_attempt_is_before_another_when_all_that_is_known_says_so(
    mine: AttemptId, other: AttemptId, before: bool
) -> None:
    assert mine.is_before(other) is before
    assert not (mine.is_before(other) and other.is_before(mine))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (attempt(2, made_at(NOON)), True),
        (attempt(1, made_at(NOON)), False),
        (attempt(2, made_at(NOON + 60_000)), False),
        (attempt(2), False),
    ],
)
def test_two_processes_of_one_try_have_its_number_and_its_id(other: AttemptId, same: bool) -> None:
    mine = attempt(2, made_at(NOON))
    assert (mine.is_same_try(other), other.is_same_try(mine)) == (same, same)
    assert not attempt(2).is_same_try(attempt(2))  # perhaps a run that was deleted and made anew


def test_airflows_own_ids_are_in_the_order_of_the_tries() -> None:
    ids = [uuid6.uuid7() for _ in range(3)]  # what Airflow gives to a task instance, and anew to each try
    tries = [AttemptId.of_task(task_instance(number, id=found)) for number, found in enumerate(ids, 1)]
    assert tries[0].is_before(tries[1])
    assert tries[0].is_before(tries[2])
    assert not tries[2].is_before(tries[1])


@pytest.mark.parametrize(
    ("change", "same_run", "same_task"),
    [
        ({}, True, True),
        ({"try_number": 1}, True, True),
        ({"map_index": -1}, True, False),
        ({"task_id": "upscale"}, True, False),
        ({"run_id": "run 2"}, False, False),
        ({"dag_id": "ads"}, False, False),
    ],
)
def test_one_run_and_one_task(change: dict[str, Any], same_run: bool, same_task: bool) -> None:
    other = replace(MINE, **change)
    assert (MINE.is_same_run(other), MINE.is_same_task(other)) == (same_run, same_task)


@pytest.mark.parametrize(
    ("change", "since_clear"),
    [({}, True), ({"try_number": 3}, True), ({"try_number": 1}, False), ({"run_id": "run 2"}, False)],
)
def test_since_the_task_was_cleared(change: dict[str, Any], since_clear: bool) -> None:
    assert MINE.is_since_clear(replace(MINE, **change)) is since_clear


@pytest.mark.parametrize("written", [attempt(3, made_at(NOON)), attempt(0), attempt(1, uuid4())])
def test_an_object_says_who_wrote_it(written: AttemptId) -> None:
    stored = written.metadata()
    assert AttemptId.from_metadata(stored) == written
    renamed = {name.title(): value for name, value in stored.items()} | {"Other": "x"}
    assert AttemptId.from_metadata(renamed) == written


@pytest.mark.parametrize("metadata", [{}, {"modelslab-try": ""}, {"modelslab-try": "last"}, {"modelslab-try": "-1"}])
def test_an_object_that_does_not_say_has_no_writer(metadata: dict[str, str]) -> None:
    assert AttemptId.from_metadata(metadata) is None


@pytest.mark.parametrize("written", [MINE, attempt(0), replace(MINE, map_index=-1, task_instance_id=None)])
def test_a_claim_says_who_wrote_it(written: AttemptId) -> None:
    # Not since which try: that is for the reader's own attempt.
    assert AttemptId.from_claim({"attempt": written.record()}) == replace(written, first_try=1)


@pytest.mark.parametrize("claim", [{}, {"attempt": None}, {"attempt": "films"}])
def test_a_claim_that_does_not_say(claim: dict[str, Any]) -> None:
    assert AttemptId.from_claim(claim) is None


def test_an_id_that_is_none_is_left_out() -> None:
    assert AttemptId.from_metadata({"modelslab-try": "2", "modelslab-task-instance": "?"}) == attempt(2)
    assert AttemptId.of_task(task_instance(2)).task_instance_id is None


def test_the_attempt_of_a_task() -> None:
    ti = task_instance(2, map_index=None, id=made_at(NOON))
    assert AttemptId.of_task(ti, first_try=2) == AttemptId("films", "restyle", "run 1", -1, 2, 2, made_at(NOON))
    assert AttemptId.of_task(ti, map_index=4).map_index == 4


def task_instance(try_number: int, **more: Any) -> Any:
    named = {"dag_id": "films", "task_id": "restyle", "run_id": "run 1", "map_index": 3}
    return SimpleNamespace(**{**named, "try_number": try_number, **more})
