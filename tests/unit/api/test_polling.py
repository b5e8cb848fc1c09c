"""The poller with a clock of its own: no test here waits."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    ErrorCode,
    InvalidRequestError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    ModelsLabError,
    PaymentRequiredError,
    PermissionDeniedError,
    RateLimitError,
    TransportError,
)
from airflow_provider_modelslab.api.polling import Decision, Done, GiveUp, JobPoller, PollPolicy, Wait
from airflow_provider_modelslab.api.response import Answer, Failed, Finished, Processing

START = 1_000_000.0
STEADY = PollPolicy(jitter=0)
WORKING = Processing(None)
DONE = Finished("7", ("https://r2.example/a.gif",))


@dataclass
class Clock:
    now: float = START

    def __call__(self) -> float:
        return self.now


def poller(
    clock: Clock, *, lasts: float = 3600, eta: float | None = None, policy: PollPolicy = STEADY, draw: float = 0.0
) -> JobPoller:
    return JobPoller(
        "7",
        submitted_at=START,
        deadline=START + lasts,
        eta=eta,
        policy=policy,
        clock=clock,
        uniform=lambda low, high: low + draw * (high - low),
    )


def feed(subject: JobPoller, what: Answer | ModelsLabError) -> Decision:
    return subject.on_error(what) if isinstance(what, ModelsLabError) else subject.on_answer(what)


def pause(decision: Decision) -> float:
    assert isinstance(decision, Wait)
    return decision.seconds


def gave_up(decision: Decision) -> ModelsLabError:
    assert isinstance(decision, GiveUp)
    return decision.error


def test_done() -> None:
    assert poller(Clock()).on_answer(DONE) == Done(DONE)


def test_done_counts_even_after_the_deadline() -> None:
    assert poller(Clock(START + 9999)).on_answer(DONE) == Done(DONE)


def test_pauses_grow_from_the_shortest_to_the_longest() -> None:
    subject = poller(Clock())
    assert subject.first_delay() == 2
    pauses = [pause(subject.on_answer(WORKING)) for _ in range(9)]
    assert pauses == [2, 3, 4.5, 6.75, 10.125, 15.1875, 22.78125, 30, 30]


def test_pauses_grow_while_polls_fail_too() -> None:
    bad = Failed(ErrorCode.TRANSPORT, "internal server error", http_status=500)
    subject = poller(Clock())
    assert [pause(feed(subject, bad)) for _ in range(9)] == [2, 3, 4.5, 6.75, 10.125, 15.1875, 22.78125, 30, 30]


def test_the_eta_comes_first_and_then_short_pauses() -> None:
    clock = Clock()
    subject = poller(clock, eta=10)
    assert subject.first_delay() == 10
    clock.now += 10
    assert pause(subject.on_answer(WORKING)) == 2


def test_a_long_eta_is_approached_in_the_longest_pauses() -> None:
    clock = Clock()
    subject = poller(clock, eta=70)
    pauses = [subject.first_delay()]
    for _ in range(3):
        clock.now += pauses[-1]
        pauses.append(pause(subject.on_answer(WORKING)))
    assert pauses == [30, 30, 10, 2]


def test_a_newer_eta_replaces_the_older() -> None:
    subject = poller(Clock(START + 5), eta=1000)
    assert pause(subject.on_answer(Processing(None, eta=12))) == 12


@pytest.mark.parametrize("eta", [0.0, -5.0, None])
def test_an_eta_of_nothing_is_none(eta: float | None) -> None:
    assert poller(Clock(), eta=eta).first_delay() == 2


@pytest.mark.parametrize(("eta", "first"), [(1.5, 1.5), (0.5, 0.5), (0.01, 0.5)])
def test_a_job_that_is_expected_sooner_is_polled_sooner(eta: float, first: float) -> None:
    subject = poller(Clock(), eta=eta)
    assert subject.first_delay() == first
    assert pause(subject.on_answer(WORKING)) == 2


def test_a_job_whose_eta_has_passed_is_polled_soon() -> None:
    assert poller(Clock(START + 100), eta=10).first_delay() == 0.5


def test_jitter_shortens_by_its_share_at_most() -> None:
    policy = PollPolicy(jitter=0.2)
    assert poller(Clock(), eta=10, policy=policy, draw=1.0).first_delay() == pytest.approx(8)
    assert poller(Clock(), eta=10, policy=policy, draw=0.0).first_delay() == 10


@pytest.mark.parametrize(
    "kind", [AuthenticationError, PaymentRequiredError, PermissionDeniedError, JobFailedError, InvalidRequestError]
)
def test_refusals_and_failed_jobs_end_the_wait_at_once(kind: type[ModelsLabError]) -> None:
    error = kind("no")
    assert gave_up(poller(Clock()).on_error(error)) is error
    assert error.job_id == "7"


def test_a_failed_answer_ends_it_with_its_own_kind() -> None:
    error = gave_up(poller(Clock()).on_answer(Failed(JobFailedError.code, "no GPU", http_status=200)))
    assert isinstance(error, JobFailedError)
    assert (error.message, error.job_id, error.http_status) == ("no GPU", "7", 200)


def test_not_found_is_forgiven_for_a_while_after_the_submission() -> None:
    clock = Clock(START + 60)
    subject = poller(clock)
    assert isinstance(subject.on_error(JobLostError("Request not found")), Wait)
    clock.now += 0.1
    assert isinstance(gave_up(subject.on_error(JobLostError("Request not found"))), JobLostError)


def test_not_found_can_be_asked_to_be_said_several_times_in_a_row() -> None:
    clock = Clock(START + 61)
    subject = poller(clock, policy=PollPolicy(jitter=0, lost_after=3))
    lost = JobLostError("Request not found")
    assert all(isinstance(subject.on_error(lost), Wait) for _ in range(2))
    assert isinstance(subject.on_error(TransportError("HTTP 502")), Wait)  # says nothing about the job
    assert isinstance(subject.on_answer(WORKING), Wait)  # there it is: from the beginning
    assert all(isinstance(subject.on_error(lost), Wait) for _ in range(2))
    assert isinstance(gave_up(subject.on_error(lost)), JobLostError)


def test_transport_errors_never_end_it_early_and_warn_after_a_while() -> None:
    subject = poller(Clock(), policy=PollPolicy(jitter=0, warn_after=3))
    told = [subject.on_error(TransportError("HTTP 502")) for _ in range(50)]
    waits = [decision for decision in told if isinstance(decision, Wait)]
    assert len(waits) == 50
    assert [wait.warn for wait in waits[:4]] == [False, False, True, True]
    assert waits[2].note == "3 failed poll(s) in a row (transport): HTTP 502"
    subject.on_answer(WORKING)
    after = subject.on_error(TransportError("HTTP 502"))
    assert isinstance(after, Wait)
    assert not after.warn


def test_retry_after_lengthens_the_pause() -> None:
    assert pause(poller(Clock(), draw=0.5).on_error(RateLimitError("slow", retry_after=45))) == 46
    assert pause(poller(Clock()).on_error(RateLimitError("slow", retry_after=0.5))) == 2
    assert pause(poller(Clock()).on_error(RateLimitError("slow"))) == 2


def test_unknown_status_words_are_noted() -> None:
    decision = poller(Clock()).on_answer(Processing(None, status="brewing"))
    assert isinstance(decision, Wait)
    assert "'brewing'" in decision.note
    quiet = poller(Clock()).on_answer(Processing(None, status="queued"))
    assert isinstance(quiet, Wait)
    assert not quiet.note
    assert quiet.answer == Processing(None, status="queued")


def test_the_deadline_message_says_that_the_job_goes_on() -> None:
    subject = poller(Clock(START + 600), lasts=600)
    error = gave_up(subject.on_error(TransportError("HTTP 502")))
    assert isinstance(error, JobTimeoutError)
    assert "600 s after its submission" in error.message
    assert "HTTP 502" in error.message
    assert error.job_id == "7"


FINAL = (AuthenticationError, PaymentRequiredError, PermissionDeniedError, JobFailedError, InvalidRequestError)
PASSING = st.one_of(
    st.builds(Processing, st.none(), st.sampled_from(["processing", "odd"]), st.none() | st.floats(-10, 2000)),
    st.builds(lambda: TransportError("HTTP 502")),
    st.builds(lambda seconds: RateLimitError("slow", retry_after=seconds), st.none() | st.floats(0, 500)),
)
POLICIES = st.builds(
    lambda low, extra, backoff, jitter: PollPolicy(low, low + extra, backoff, jitter),
    st.floats(0.1, 10),
    st.floats(0, 60),
    st.floats(1, 3),
    st.floats(0, 0.99),
)


@settings(deadline=None)
@given(
    policy=POLICIES,
    lasts=st.floats(0, 5000),
    late=st.floats(0, 6000),
    eta=st.none() | st.floats(-10, 5000),
    draw=st.floats(0, 1),
    events=st.lists(PASSING, max_size=60),
)
def test_never_past_the_deadline_and_never_given_up_before_it(
    policy: PollPolicy, lasts: float, late: float, eta: float | None, draw: float, events: list[Answer | ModelsLabError]
) -> None:
    clock = Clock(START + late)
    subject = poller(clock, lasts=lasts, eta=eta, policy=policy, draw=draw)
    deadline = max(START + lasts, clock.now)
    first = subject.first_delay()
    assert 0 <= first <= policy.max_interval
    clock.now += first
    assert clock.now <= deadline + 1e-6
    for event in events:
        decision = feed(subject, event)
        if isinstance(decision, GiveUp):
            assert clock.now >= START + lasts
            assert isinstance(decision.error, JobTimeoutError)
            return
        clock.now += pause(decision)
        assert clock.now <= deadline + 1e-6


@settings(deadline=None)
@given(events=st.lists(PASSING, min_size=1, max_size=30), kind=st.sampled_from(FINAL))
def test_a_refusal_ends_it_whatever_came_before(
    events: list[Answer | ModelsLabError], kind: type[ModelsLabError]
) -> None:
    subject = poller(Clock())
    for event in events:
        assert isinstance(feed(subject, event), Wait)
    assert type(gave_up(subject.on_error(kind("no")))) is kind


@settings(deadline=None)
@given(policy=POLICIES, draws=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_without_an_eta_pauses_stay_within_the_policy(policy: PollPolicy, draws: list[float]) -> None:
    drawn = iter(draws)
    subject = JobPoller(
        "7",
        submitted_at=START,
        deadline=START + 1e9,
        policy=policy,
        clock=Clock(),
        uniform=lambda a, b: a + next(drawn) * (b - a),
    )
    for _ in draws:
        seconds = pause(subject.on_answer(WORKING))
        assert policy.min_interval * (1 - policy.jitter) - 1e-9 <= seconds <= policy.max_interval + 1e-9


def test_policies_travel_as_json_and_forgive_other_versions() -> None:
    policy = PollPolicy(min_interval=1, warn_after=9)
    assert PollPolicy.from_dict({**policy.to_dict(), "of_next_year": 1}) == policy
    assert PollPolicy.from_dict(None) == PollPolicy()


@pytest.mark.parametrize(
    "wrong",
    [
        {"min_interval": 0},
        {"min_interval": 40},
        {"backoff": 0.5},
        {"jitter": 1.0},
        {"jitter": -0.1},
        {"max_interval": 1},
    ],
)
def test_policies_that_cannot_work(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        PollPolicy.from_dict(wrong)
