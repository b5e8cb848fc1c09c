"""What waits is left out of the garbage collector's full runs, and nothing stays out for good."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from airflow_provider_modelslab.triggers import heap
from airflow_provider_modelslab.triggers.heap import held_out


class Thing:
    """Can be referred to weakly."""


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(heap, "_heap", heap._Heap())
    gc.unfreeze()
    gc.disable()  # the runs here are those that are asked for
    yield
    gc.enable()
    gc.unfreeze()


def in_a_cycle() -> weakref.ref[Thing]:
    thing: Any = Thing()
    thing.itself = thing
    return weakref.ref(thing)


def test_a_few_waiting_jobs_leave_the_collector_as_it_is() -> None:
    with ExitStack() as stack:
        for _ in range(heap._MANY - 1):
            stack.enter_context(held_out())
        assert gc.get_freeze_count() == 0


def test_many_are_left_out_of_a_full_run_until_the_last_one_leaves() -> None:
    with ExitStack() as stack:
        for _ in range(heap._MANY):
            stack.enter_context(held_out())
        frozen = gc.get_freeze_count()
        assert frozen > 10_000  # all that this process has loaded
        assert len(gc.get_objects(generation=2)) < frozen / 100
    assert gc.get_freeze_count() == 0


def test_a_batch_counts_as_its_jobs() -> None:
    with held_out(heap._MANY):
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_garbage_is_collected_before_the_rest_is_frozen() -> None:
    gc.collect()
    young = in_a_cycle()
    with held_out(heap._MANY):
        assert young() is None
        old = in_a_cycle()
        gc.collect(1)  # as the collector does now and then; what it finds alive is old from then on
        kept: Any = Thing()
        kept.itself = kept
        later = weakref.ref(kept)
        gc.collect(1)
        del kept
        with held_out(heap._MANY):
            assert old() is None
            assert later() is None


def test_cycles_among_what_is_frozen_are_found_after_many_have_left() -> None:
    with held_out(heap._MANY):
        kept: Any = Thing()
        kept.itself = kept
        waiting = held_out(heap._MANY)
        waiting.__enter__()
        was = weakref.ref(kept)
        del kept
        gc.collect()
        assert was() is not None  # the price, until it is looked at again
        waiting.__exit__(None, None, None)
        with held_out(heap._LOOK_AGAIN):
            pass
        assert was() is None
        assert gc.get_freeze_count() > 0  # the others still wait
    assert gc.get_freeze_count() == 0


def test_those_who_come_and_go_one_by_one_freeze_nothing() -> None:
    for _ in range(3 * heap._MANY):
        with held_out():
            pass
    assert gc.get_freeze_count() == 0
