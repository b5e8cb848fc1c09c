from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from airflow_provider_modelslab.api.errors import ErrorCode
from airflow_provider_modelslab.api.response import Answer, Failed, Finished, Processing
from airflow_provider_modelslab.client.polling.rate_limiter import RateLimiter

RUNNING = Processing("7")
REFUSED = Failed(ErrorCode.RATE_LIMIT, "Rate limit exceeded", http_status=429)
BROKEN = Failed(ErrorCode.TRANSPORT, "internal server error", http_status=500)


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


def ask(
    limiter: RateLimiter, clock: Clock, answer: Answer | None, *, job_id: str = "7", in_flight: int = 1
) -> float | None:
    """One call, begun when the limiter lets it and answered 0.1 s later."""
    clock.now = max(clock.now, limiter.resume_at, limiter.next_start)
    began = clock.now
    limiter.started()
    clock.now += 0.1
    return limiter.answered(job_id, answer, began=began, in_flight=in_flight)


def ask_each(limiter: RateLimiter, clock: Clock, jobs: Iterable[int], answer: Answer | None) -> list[float | None]:
    """One call for each job; the pauses."""
    return [ask(limiter, clock, answer, job_id=str(job)) for job in jobs]


@pytest.mark.parametrize(
    ("answer", "jobs"),
    [
        (RUNNING, None),
        (Finished("7", ("https://example.com/a.mp4",)), None),
        (Failed(ErrorCode.JOB_FAILED, "no frames"), None),
        (Failed(ErrorCode.JOB_LOST, "Request not found"), None),
        (Failed(ErrorCode.TRANSPORT, "no such page", http_status=404), None),
        (REFUSED, 1),
        (Failed(ErrorCode.RATE_LIMIT, "Rate limit exceeded", http_status=200), 1),
        (Failed(ErrorCode.TRANSPORT, "bad gateway", http_status=502), 10),
        (Failed(ErrorCode.TRANSPORT, "request time-out", http_status=408), 10),
        (Failed(ErrorCode.TRANSPORT, "internal server error", http_status=200), 10),
        (None, 10),
    ],
)
def test_how_many_jobs_have_to_meet_an_answer_before_it_is_about_load(
    limiter: RateLimiter, clock: Clock, answer: Answer | None, jobs: int | None
) -> None:
    pauses = ask_each(limiter, clock, range((jobs or 100) - 1), answer)
    assert (set(pauses) <= {None}, limiter.slowed, limiter.resume_at) == (True, False, -float("inf"))
    pause = ask(limiter, clock, answer, job_id="one more")
    slows = jobs is not None
    assert (pause is not None, limiter.slowed, limiter.resume_at > clock.now) == (slows, slows, slows)


@pytest.mark.parametrize("bad", [20, 50])
def test_some_bad_jobs_of_many_slow_nobody(clock: Clock, bad: int) -> None:
    limiter = RateLimiter(clock=clock)
    for round_ in range(10):
        for job in range(5000):
            answer = BROKEN if job % (5000 // bad) == 0 else RUNNING
            began, clock.now = clock.now, clock.now + 0.006
            assert limiter.answered(str(job), answer, began=began, in_flight=1) is None, round_
    assert (limiter.slowed, limiter.resume_at) == (False, -float("inf"))


def test_bad_jobs_that_are_polled_before_all_others_slow_nothing_from_the_second_round_on(clock: Clock) -> None:
    limiter = RateLimiter(clock=clock, uniform=lambda low, high: low)
    ask_each(limiter, clock, range(50), BROKEN)  # all that is known of the endpoint: it may be down
    ask_each(limiter, clock, range(50, 5000), RUNNING)
    for _ in range(5):
        pauses = ask_each(limiter, clock, range(50), BROKEN) + ask_each(limiter, clock, range(50, 5000), RUNNING)
        assert set(pauses) == {None}


def test_the_bad_jobs_that_are_left_of_a_batch_do_not_slow_the_last_good_ones(clock: Clock) -> None:
    limiter = RateLimiter(clock=clock)
    for good in (1000, 100, 10, 1):
        for _ in range(10):
            pauses = ask_each(limiter, clock, range(good), RUNNING)
            for bad in range(50):
                pauses += [ask(limiter, clock, BROKEN, job_id=f"bad {bad}")]
                pauses += ask_each(limiter, clock, range(bad, good, 50), RUNNING)
            assert set(pauses) == {None}
            clock.now += 30


def test_a_bad_job_has_no_say_in_the_pause_that_another_answer_began(limiter: RateLimiter, clock: Clock) -> None:
    began = clock.now
    limiter.started()
    clock.now += 0.1
    limiter.answered("1", REFUSED, began=began, in_flight=2)
    resume_at = limiter.resume_at
    told = Failed(ErrorCode.TRANSPORT, "down", http_status=503, retry_after=600)
    assert limiter.answered("2", told, began=began, in_flight=1) is None
    assert limiter.resume_at == resume_at


@pytest.mark.parametrize("answer", [BROKEN, Failed(ErrorCode.TRANSPORT, "down", http_status=503), None])
def test_an_outage_slows_all_within_a_second_and_ends_with_it(clock: Clock, answer: Answer | None) -> None:
    limiter = RateLimiter(clock=clock, uniform=lambda low, high: low)

    def poll(job: int, answer: Answer | None) -> float | None:
        began = clock.now = max(clock.now, limiter.next_start, limiter.resume_at)
        limiter.started()
        clock.now += 0.006
        return limiter.answered(str(job % 5000), answer, began=began, in_flight=1)

    jobs = itertools.count()
    for _ in range(5000):
        assert poll(next(jobs), RUNNING) is None
    outage = clock.now
    pauses = [poll(next(jobs), answer) for _ in range(60)]
    assert clock.now - outage > 10
    assert [pause for pause in pauses if pause is not None] == [1.0, 2.0, 4.0, 8.0]
    assert next(n for n, pause in enumerate(pauses) if pause is not None) * 0.006 < 0.2
    while clock.now < outage + 600:
        poll(next(jobs), answer)
    assert limiter.rate == 1.0
    again = clock.now = max(clock.now, limiter.resume_at)
    while limiter.slowed:
        assert poll(next(jobs), RUNNING) is None
    assert clock.now - again < 200


def test_an_endpoint_that_answers_a_tenth_of_the_polls_stays_slowed(clock: Clock) -> None:
    limiter = RateLimiter(clock=clock, uniform=lambda low, high: low)
    polls = 0
    while clock.now < 1600:
        ask(limiter, clock, RUNNING if polls % 10 == 0 else BROKEN, job_id=str(polls % 499))
        polls += 1
    assert limiter.slowed
    assert polls < 6000 * 0.5  # of those that would fit into the time


def test_an_outage_right_after_another_is_seen_again(clock: Clock) -> None:
    limiter = RateLimiter(clock=clock, uniform=lambda low, high: low)
    ask_each(limiter, clock, range(40), BROKEN)
    ask_each(limiter, clock, range(3), RUNNING)
    ask_each(limiter, clock, range(3, 40), BROKEN)  # each may be its own trouble: others were answered since
    assert any(pause is not None for pause in ask_each(limiter, clock, range(40), BROKEN))


def test_what_is_remembered_of_failing_jobs_is_bounded(clock: Clock) -> None:
    limiter = RateLimiter(clock=clock)
    for job in range(20_000):
        limiter.answered(str(job), BROKEN, began=clock.now, in_flight=1)
        limiter.answered("good", RUNNING, began=clock.now, in_flight=1)
    assert len(limiter._failing) <= 10_000
    assert len(limiter._recent_jobs) <= 40


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
    assert ask_each(limiter, clock, range(10), unavailable)[-1] == 20


def test_a_pause_is_lengthened_at_random(clock: Clock) -> None:
    limiter = RateLimiter(clock=clock, uniform=lambda low, high: high)
    assert ask(limiter, clock, REFUSED) == 1.25


def test_what_was_in_flight_counts_once(limiter: RateLimiter, clock: Clock) -> None:
    began = clock.now
    for _ in range(60):
        limiter.started()
    clock.now += 0.2
    limiter.answered("7", REFUSED, began=began, in_flight=60)
    after_one = (limiter.rate, limiter.concurrency)
    assert after_one[1] == 30
    for left in range(59, 0, -1):
        later = Failed(ErrorCode.RATE_LIMIT, "wait", http_status=429, retry_after=5.0 if left == 1 else None)
        assert limiter.answered("7", later, began=began, in_flight=left) is None
    assert (limiter.rate, limiter.concurrency) == after_one
    assert limiter.resume_at == clock.now + 5  # though the one that knew how long is believed
    limiter.answered("7", RUNNING, began=began, in_flight=1)
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
