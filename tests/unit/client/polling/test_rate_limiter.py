from __future__ import annotations

import itertools

import pytest

from airflow_provider_modelslab.api.errors import ErrorCode
from airflow_provider_modelslab.api.response import Answer, Failed, Finished, Processing
from airflow_provider_modelslab.client.polling.rate_limiter import RateLimiter

RUNNING = Processing("7")
REFUSED = Failed(ErrorCode.RATE_LIMIT, "Rate limit exceeded", http_status=429)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> RateLimiter:
    return RateLimiter(max_concurrent=64, max_rate=400.0, clock=clock, uniform=lambda low, high: low)


def ask(limiter: RateLimiter, clock: Clock, answer: Answer, *, in_flight: int = 1) -> float | None:
    """One call, begun when the limiter lets it and answered 0.1 s later."""
    clock.now = max(clock.now, limiter.resume_at, limiter.next_start)
    began = clock.now
    limiter.started()
    clock.now += 0.1
    return limiter.answered(answer, began=began, in_flight=in_flight)


@pytest.mark.parametrize(
    ("answer", "slows"),
    [
        (RUNNING, False),
        (Finished("7", ("https://example.com/a.mp4",)), False),
        (Failed(ErrorCode.JOB_FAILED, "no frames"), False),
        (Failed(ErrorCode.JOB_LOST, "Request not found"), False),
        (Failed(ErrorCode.TRANSPORT, "no such page", http_status=404), False),
        (REFUSED, True),
        (Failed(ErrorCode.RATE_LIMIT, "Rate limit exceeded", http_status=200), True),
        (Failed(ErrorCode.TRANSPORT, "bad gateway", http_status=502), True),
        (Failed(ErrorCode.TRANSPORT, "internal server error", http_status=200), True),
    ],
)
def test_only_answers_about_load_slow_down(limiter: RateLimiter, clock: Clock, answer: Answer, slows: bool) -> None:
    pause = ask(limiter, clock, answer)
    assert (pause is not None, limiter.slowed, limiter.resume_at > clock.now) == (slows, slows, slows)


def test_calls_are_spread_over_time(limiter: RateLimiter, clock: Clock) -> None:
    begun = 0
    end = clock.now + 10
    while clock.now < end:
        if clock.now >= limiter.next_start:
            limiter.started()
            begun += 1
        else:
            clock.now = limiter.next_start
    assert begun == pytest.approx(4000, rel=0.01)


def test_time_without_calls_saves_up_no_burst(limiter: RateLimiter, clock: Clock) -> None:
    clock.now += 3600
    begun = 0
    while clock.now >= limiter.next_start:
        limiter.started()
        begun += 1
    assert begun <= 10


def test_the_first_cut_is_made_from_what_was_asked_of_late(limiter: RateLimiter, clock: Clock) -> None:
    for _ in range(600):  # 10 calls a second
        ask(limiter, clock, RUNNING)
    ask(limiter, clock, REFUSED, in_flight=8)
    assert limiter.rate == pytest.approx(5, rel=0.1)
    assert limiter.concurrency == 4


def test_refusals_in_a_row_pause_longer_and_reach_the_slowest(limiter: RateLimiter, clock: Clock) -> None:
    pauses = [ask(limiter, clock, REFUSED) for _ in range(9)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (limiter.rate, limiter.concurrency) == (1, 1)


def test_the_endpoint_says_how_long(limiter: RateLimiter, clock: Clock) -> None:
    for asked, kept in ((30.0, 30.0), (0.0, 0.0), (86400.0, 600.0)):
        told = Failed(ErrorCode.RATE_LIMIT, "wait", http_status=429, retry_after=asked)
        assert ask(limiter, clock, told) == kept
        assert limiter.resume_at >= clock.now + kept
    unavailable = Failed(ErrorCode.TRANSPORT, "down", http_status=503, retry_after=20)
    assert ask(limiter, clock, unavailable) == 20


def test_a_pause_is_lengthened_at_random(clock: Clock) -> None:
    limiter = RateLimiter(clock=clock, uniform=lambda low, high: high)
    assert ask(limiter, clock, REFUSED) == 1.25


def test_what_was_in_flight_counts_once(limiter: RateLimiter, clock: Clock) -> None:
    began = clock.now
    for _ in range(60):
        limiter.started()
    clock.now += 0.2
    limiter.answered(REFUSED, began=began, in_flight=60)
    after_one = (limiter.rate, limiter.concurrency)
    assert after_one[1] == 30
    for left in range(59, 0, -1):
        later = Failed(ErrorCode.RATE_LIMIT, "wait", http_status=429, retry_after=5.0 if left == 1 else None)
        assert limiter.answered(later, began=began, in_flight=left) is None
    assert (limiter.rate, limiter.concurrency) == after_one
    assert limiter.resume_at == clock.now + 5  # though the one that knew how long is believed
    limiter.answered(RUNNING, began=began, in_flight=1)
    assert (limiter.rate, limiter.concurrency) == after_one  # and a good one from before brings nothing back


def test_good_answers_bring_the_speed_back_little_by_little(limiter: RateLimiter, clock: Clock) -> None:
    for _ in range(8):
        ask(limiter, clock, REFUSED)
    seen = [(limiter.rate, limiter.concurrency)]
    while limiter.slowed:
        ask(limiter, clock, RUNNING, in_flight=limiter.concurrency)
        seen.append((limiter.rate, limiter.concurrency))
        assert len(seen) < 10_000
    assert [seen[0], seen[-1]] == [(1, 1), (400, 64)]
    rates = [rate for rate, _ in seen]
    assert rates == sorted(rates)
    assert max(later / earlier for earlier, later in itertools.pairwise(rates)) <= 1.1 + 1e-9
    assert ask(limiter, clock, REFUSED) == 1  # a refusal after good answers is the first again
