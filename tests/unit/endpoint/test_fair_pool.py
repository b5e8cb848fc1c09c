from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator

import pytest

from airflow_provider_modelslab.endpoint.workers.fair_pool import FairPool


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    opened = threading.Event()
    yield opened
    opened.set()


@pytest.fixture
def began() -> queue.Queue[str]:
    return queue.Queue()


Submit = Callable[[str], bool]


@pytest.fixture
def pool() -> Iterator[FairPool]:
    made = FairPool("pool-of-test", threads=3, per_owner=2, waiting_per_owner=4, waiting=6)
    yield made
    assert made.close(60)


@pytest.fixture
def submit(pool: FairPool, gate: threading.Event, began: queue.Queue[str]) -> Submit:
    """Submits a task that says its owner and waits for the gate."""

    def task(owner: str) -> bool:
        def work() -> None:
            began.put(owner)
            gate.wait(60)

        return pool.submit(owner, work)

    return task


def test_one_owner_cannot_use_every_thread(
    submit: Submit, pool: FairPool, gate: threading.Event, began: queue.Queue[str]
) -> None:
    for _ in range(2):
        assert submit("flood")
        assert began.get(timeout=60) == "flood"
    assert all(submit("flood") for _ in range(3))
    assert submit("other")
    assert began.get(timeout=60) == "other"
    assert pool.figures() == {"running": 3, "waiting": 3}
    gate.set()


def test_owners_take_turns(submit: Submit, gate: threading.Event, began: queue.Queue[str]) -> None:
    for owner in ("x", "y", "z"):  # no thread is left
        assert submit(owner)
        assert began.get(timeout=60) == owner
    assert all(submit(owner) for owner in "aaabc")
    gate.set()
    assert sorted(began.get(timeout=60) for _ in range(3)) == ["a", "b", "c"]


def test_what_waits_is_bounded_for_an_owner_and_in_all(
    submit: Submit, pool: FairPool, gate: threading.Event, began: queue.Queue[str]
) -> None:
    taken = [submit("flood") for _ in range(2)]
    for _ in taken:
        began.get(timeout=60)
    assert [submit("flood") for _ in range(5)] == [True] * 4 + [False]
    assert submit("a")
    assert began.get(timeout=60) == "a"
    assert [submit("b"), submit("c"), submit("d")] == [True, True, False]
    assert pool.figures() == {"running": 3, "waiting": 6}
    assert sum(thread.name.startswith("pool-of-test") for thread in threading.enumerate()) == 3
    gate.set()


def test_a_task_that_fails_ends_no_thread(pool: FairPool, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    for _ in range(5):
        while not pool.submit("a", lambda: [][0]):
            done.wait(0.01)
    while not pool.submit("a", done.set):
        done.wait(0.01)
    assert done.wait(60)
    assert "IndexError" in caplog.text


def test_closing_ends_what_waits_and_takes_no_more(gate: threading.Event) -> None:
    pool = FairPool("closing", threads=1, per_owner=1, waiting_per_owner=9, waiting=9)
    done: list[str] = []
    began = threading.Event()

    def first() -> None:
        began.set()
        gate.wait(60)
        done.append("first")

    pool.submit("a", first)
    assert began.wait(60)
    pool.submit("a", lambda: done.append("second"))
    assert not pool.close(0.01)
    assert pool.closed
    assert not pool.submit("a", lambda: done.append("third"))
    gate.set()
    assert pool.close(60)
    assert done == ["first"]
