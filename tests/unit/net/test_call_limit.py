"""The limit of one call with a clock and a socket made up; real servers: ``integration/test_slow_answers.py``."""

from __future__ import annotations

import pytest

from airflow_provider_modelslab.net.call_limit import CallLimit, CallLimitError


class Wire:
    """A socket that takes a while for each read, and the clock that shows it."""

    def __init__(self, timeout: float | None = 60.0) -> None:
        self.now = 100.0
        self.timeout = timeout

    def clock(self) -> float:
        return self.now

    def gettimeout(self) -> float | None:
        return self.timeout

    def settimeout(self, seconds: float) -> None:
        self.timeout = seconds

    def receive(self, limit: CallLimit, size: int, seconds: float) -> int | None:
        """``size`` bytes that come after ``seconds``, or a time-out."""

        def read() -> int:
            waits = seconds if self.timeout is None else min(seconds, self.timeout)
            self.now += waits
            if waits < seconds:
                raise TimeoutError("timed out")
            return size

        return limit.read(read, self)

    def receive_all(self, limit: CallLimit, size: int, reads: int) -> None:
        """As many reads, each of which takes a second."""
        for _ in range(reads):
            self.receive(limit, size, 1.0)


def test_bytes_that_keep_coming_do_not_prolong_a_call() -> None:
    wire = Wire()
    limit = CallLimit(10, clock=wire.clock)
    with pytest.raises(CallLimitError) as caught:
        wire.receive_all(limit, 1, 100)
    assert wire.now == 110
    assert caught.value.strerror == "no complete response within 10 s"


@pytest.mark.parametrize("timeout", [60.0, None])
def test_a_read_lasts_no_longer_than_what_is_left(timeout: float | None) -> None:
    wire = Wire(timeout)
    limit = CallLimit(10, clock=wire.clock)
    wire.receive(limit, 1, 4.0)
    with pytest.raises(CallLimitError):
        wire.receive(limit, 1, 30.0)
    assert wire.now == 110


def test_silence_is_still_the_sockets_own_time_out() -> None:
    wire = Wire(2.0)
    with pytest.raises(TimeoutError) as caught:
        wire.receive(CallLimit(10, clock=wire.clock), 1, 3.0)
    assert not isinstance(caught.value, CallLimitError)
    assert wire.timeout == 2.0


def test_nothing_is_read_when_the_time_is_over() -> None:
    wire = Wire()
    limit = CallLimit(-3, clock=wire.clock)
    with pytest.raises(CallLimitError, match="within 0 s"):
        limit.read(lambda: pytest.fail("it was read"), wire)


def slow(wire: Wire) -> CallLimit:
    return CallLimit(3600, min_speed=1000, speed_time=10, clock=wire.clock)


def test_a_slow_answer_fails_after_the_time_over_which_its_speed_is_measured() -> None:
    wire = Wire()
    limit = slow(wire)
    with pytest.raises(CallLimitError, match="slower than 1000 bytes/s"):
        wire.receive_all(limit, 999, 100)
    assert wire.now == 111  # the wait for the first byte does not count


def test_an_answer_at_the_lowest_speed_may_take_its_time() -> None:
    wire = Wire()
    limit = slow(wire)
    wire.receive_all(limit, 1000, 1000)
    assert wire.now == 1100


def test_an_answer_that_becomes_slow_fails_too() -> None:
    wire = Wire()
    limit = slow(wire)
    wire.receive_all(limit, 10**9, 11)
    with pytest.raises(CallLimitError):
        wire.receive_all(limit, 1, 10)


def test_the_time_between_two_reads_is_the_callers_own() -> None:
    wire = Wire()
    limit = slow(wire)
    for _ in range(50):
        assert wire.receive(limit, 1000, 0.5) == 1000
        wire.now += 20


def test_the_end_of_an_answer_is_never_too_slow() -> None:
    wire = Wire()
    limit = slow(wire)
    wire.receive(limit, 1, 1.0)
    assert wire.receive(limit, 0, 59.0) == 0
