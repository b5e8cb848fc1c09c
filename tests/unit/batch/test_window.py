from __future__ import annotations

import json

import pytest

from airflow_provider_modelslab.api.errors import EndpointUnreachableError, RateLimitError
from airflow_provider_modelslab.batch.running.window import Window

REFUSED = RateLimitError("full")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_refusal_halves_the_window_and_pauses_everyone(clock: Clock) -> None:
    window = Window(16, clock=clock)
    assert (window.limit, window.pause()) == (16, 0.0)
    assert window.refused(REFUSED, in_flight=12) == 2.0
    assert (window.limit, window.pause()) == (8, 2.0)
    clock.now += 2.0
    assert window.pause() == 0.0


def test_the_window_is_no_larger_than_what_ran_when_it_was_refused(clock: Clock) -> None:
    window = Window(100, clock=clock)
    window.refused(REFUSED, in_flight=5)
    assert window.limit == 5
    clock.now += 10
    window.refused(REFUSED, in_flight=0)
    assert window.limit == 1


def test_refusals_of_the_same_moment_count_once(clock: Clock) -> None:
    window = Window(16, clock=clock)
    for _ in range(5):
        window.refused(REFUSED, in_flight=16)
    assert (window.limit, window.pause()) == (8, 2.0)


def test_pauses_double_up_to_two_minutes(clock: Clock) -> None:
    window = Window(16, clock=clock)
    pauses = []
    for _ in range(9):
        pauses.append(window.refused(REFUSED, in_flight=1))
        clock.now += pauses[-1]
    assert pauses == [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 120.0, 120.0, 120.0]
    window.accepted()
    assert window.refused(REFUSED, in_flight=1) == 2.0


def test_the_endpoint_may_ask_for_more(clock: Clock) -> None:
    window = Window(4, clock=clock)
    assert window.refused(RateLimitError("later", retry_after=77), in_flight=4) == 77.0


def test_a_pause_is_ten_minutes_at_most_and_no_longer_than_patience_lasts(clock: Clock) -> None:
    assert Window(4, clock=clock).refused(RateLimitError("tomorrow", retry_after=86400), in_flight=4) == 600.0
    window = Window(4, clock=clock)
    assert window.refused(RateLimitError("later", retry_after=77), in_flight=0, refusal_timeout=50) == 50.0
    clock.now += 49
    assert window.refused(REFUSED, in_flight=0, refusal_timeout=50) == 1.0


def test_an_endpoint_that_is_not_reached_is_paused_for_like_one_that_refuses(clock: Clock) -> None:
    window = Window(16, clock=clock)
    pauses = []
    for _ in range(3):
        pauses.append(window.refused(EndpointUnreachableError("Connection refused"), in_flight=16))
        clock.now += pauses[-1]
    assert pauses == [2.0, 4.0, 8.0]


def test_it_grows_by_one_for_each_window_full_up_to_the_most(clock: Clock) -> None:
    window = Window(4, clock=clock)
    window.refused(REFUSED, in_flight=4)
    assert window.limit == 2
    limits = []
    for _ in range(8):
        window.accepted()
        limits.append(window.limit)
    assert limits == [2, 3, 3, 3, 4, 4, 4, 4]


def test_it_knows_for_how_long_nothing_was_accepted(clock: Clock) -> None:
    window = Window(4, clock=clock)
    assert window.refused_for() == 0.0
    window.refused(REFUSED, in_flight=0)
    clock.now += 30
    window.refused(REFUSED, in_flight=0)
    assert window.refused_for() == 30.0
    window.accepted()
    assert window.refused_for() == 0.0


def test_the_time_in_the_triggerer_counts_as_refused(clock: Clock) -> None:
    wall = Clock()
    window = Window(16, clock=clock, wall=wall)
    window.refused(REFUSED, in_flight=0)
    clock.now += 30
    wall.now += 30
    state = json.loads(json.dumps(window.state()))
    wall.now += 3600
    other = Clock()
    other.now = 7.0  # another machine's monotonic clock
    again = Window(16, clock=other, wall=wall)
    again.resume(state)
    assert again.refused_for() == 3630.0
    again.accepted()
    again.resume(again.state())
    assert again.refused_for() == 0.0


def test_another_process_goes_on_where_it_was(clock: Clock) -> None:
    window = Window(16, clock=clock, wall=clock)
    window.refused(REFUSED, in_flight=16)
    clock.now += 30
    window.refused(REFUSED, in_flight=16)
    state = json.loads(json.dumps(window.state()))
    clock.now += 3600
    again = Window(16, clock=clock, wall=clock)
    again.resume(state)
    assert (again.limit, again.pause(), again.refused_for()) == (4, 0.0, 0.0)  # jobs of its own ran
    assert again.refused(REFUSED, in_flight=1) == 8.0
    fewer = Window(2, clock=clock, wall=clock)
    fewer.resume(state)
    assert fewer.limit == 2
