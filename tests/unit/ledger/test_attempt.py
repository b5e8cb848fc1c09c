"""Which of two attempts began before the other, from what Airflow tells of them."""

from __future__ import annotations

from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
import uuid6

from airflow_provider_modelslab.storage.writer import Writer
from tests.support.task_ids import made_at

NOON = 1_795_435_200_000  # milliseconds since the epoch


@pytest.mark.parametrize(
    ("mine", "other", "before"),
    [
        pytest.param(Writer(1, made_at(NOON)), Writer(2, made_at(NOON + 60_000)), True, id="a retry"),
        pytest.param(Writer(2, made_at(NOON + 60_000)), Writer(1, made_at(NOON)), False, id="its successor"),
        pytest.param(Writer(1, made_at(NOON)), Writer(1, made_at(NOON)), False, id="itself"),
        pytest.param(Writer(1, made_at(NOON + 60_000)), Writer(3, made_at(NOON)), False, id="a run made anew"),
        pytest.param(Writer(2, made_at(NOON)), Writer(1, made_at(NOON + 60_000)), False, id="a higher try"),
        pytest.param(Writer(1, made_at(NOON)), Writer(1, made_at(NOON + 60_000)), False, id="the same try"),
        pytest.param(Writer(1), Writer(2), True, id="no ids"),
        pytest.param(Writer(2), Writer(2), False, id="no ids, the same try"),
        pytest.param(Writer(1), Writer(2, made_at(NOON)), True, id="one id"),
        pytest.param(Writer(1, UUID(int=2**127)), Writer(2, UUID(int=1)), True, id="ids without a time"),
    ],
)
def test_an_attempt_is_before_another_when_all_that_is_known_says_so(mine: Writer, other: Writer, before: bool) -> None:
    assert mine.is_before(other) is before
    assert not (mine.is_before(other) and other.is_before(mine))


def test_airflows_own_ids_are_in_the_order_of_the_tries() -> None:
    ids = [uuid6.uuid7() for _ in range(3)]  # what Airflow gives to a task instance, and anew to each try
    tries = [Writer.of(SimpleNamespace(try_number=number, id=found)) for number, found in enumerate(ids, 1)]
    assert tries[0].is_before(tries[1])
    assert tries[0].is_before(tries[2])
    assert not tries[2].is_before(tries[1])


@pytest.mark.parametrize("writer", [Writer(3, made_at(NOON)), Writer(0), Writer(1, uuid4())])
def test_an_object_says_who_wrote_it(writer: Writer) -> None:
    stored = writer.metadata()
    assert Writer.read(stored) == writer
    assert Writer.read({name.title(): value for name, value in stored.items()} | {"Other": "x"}) == writer


@pytest.mark.parametrize("metadata", [{}, {"modelslab-try": ""}, {"modelslab-try": "last"}, {"modelslab-try": "-1"}])
def test_an_object_that_does_not_say_has_no_writer(metadata: dict[str, str]) -> None:
    assert Writer.read(metadata) is None


@pytest.mark.parametrize("writer", [Writer(3, made_at(NOON)), Writer(0)])
def test_a_claim_says_who_wrote_it(writer: Writer) -> None:
    assert Writer.of_claim({"dag_id": "films", **writer.claim()}) == writer
    assert Writer.of_claim({}) is None  # it was lost, and stands for a take alone


def test_an_id_that_is_none_is_left_out() -> None:
    assert Writer.read({"modelslab-try": "2", "modelslab-task-instance": "?"}) == Writer(2)
    assert Writer.of(SimpleNamespace(try_number=2)) == Writer(2)
