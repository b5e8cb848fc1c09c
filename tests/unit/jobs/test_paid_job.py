"""The paying sequence: what is returned, checked, claimed, submitted and recorded, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from airflow_provider_modelslab.api.errors import (
    ChangedRequestError,
    ClipUnreadableError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    LandingError,
    ModelsLabError,
    PaymentRequiredError,
    RateLimitError,
    ResultExpiredError,
    StorageConfigurationError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.batch.planning.known_jobs import KnownJobs
from airflow_provider_modelslab.budget.model import Change, Slot, outcome_of
from airflow_provider_modelslab.jobs.paid_job import PaidJob
from airflow_provider_modelslab.jobs.targets import Target, target_of
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import Fingerprint, LedgerPolicy, Stored, Submission
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.paid_jobs import DESTINATION, WANTED, FakeCaller, FakeHook, FakeRequest, Submit, paid_job
from tests.support.task_ids import made_at

OTHER = Fingerprint("another request", "source")
MINE = AttemptId("films", "restyle", "run 1")
RESUBMIT = LedgerPolicy(on_unknown_submission="resubmit")
MANIFEST = {"uri": str(DESTINATION)}
FINISHED = Finished("job1", ("https://h/a.mp4",))
DAY = 24 * 3600.0


class Bench:
    """One result: its ledger, and an endpoint that answers as told and counts what it gets."""

    def __init__(self) -> None:
        self.store = MemoryLedgerStore()
        self.now = time.time()
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[], object] = lambda: None
        self.dead = False
        self.ledger = Ledger(self.store, clock=lambda: self.now, sleep=self._sleep, is_dead=lambda process: self.dead)
        self.sent: list[int] = []
        self.answer: BaseException | Finished | None = None
        self.hook = FakeHook(self._submit)
        self.caller = FakeCaller()

    def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        self.on_sleep()

    def _submit(self, number: int) -> tuple[Job, Finished | None]:
        self.sent.append(number)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return Job(f"job{number}", "conn", submitted_at=self.now), self.answer

    def job(self, policy: LedgerPolicy | None = None, *, attempt: AttemptId = MINE, **options: Any) -> PaidJob:
        return paid_job(self.ledger, self.hook, policy=policy, attempt=attempt, caller=self.caller, **options)

    def acquire(self, policy: LedgerPolicy | None = None, **options: Any) -> Submission:
        found = self.job(policy, **options).acquire()
        assert isinstance(found, Submission)
        return found

    def acquire_fails(self, error: BaseException, policy: LedgerPolicy | None = None) -> None:
        """A submit that ends with an error."""
        self.answer = error
        with pytest.raises(type(error)):
            self.acquire(policy)
        self.answer = None

    @property
    def names(self) -> set[str]:
        return set(self.store.entries)

    def write(self, **entries: dict[str, Any]) -> None:
        """What another process writes: ``_0001_claim={...}``."""
        self.store.entries.update({name[1:].replace("_", "-"): entry for name, entry in entries.items()})


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- acquire ----------------------------------------------------------------------------------------------------------


def test_the_first_attempt_submits_once(bench: Bench) -> None:
    bench.hook.lease = 100
    assert bench.acquire() == Submission(1, Job("job1", "conn", submitted_at=bench.now))
    claim = bench.store.entries["0001-claim"]
    assert claim["expires_at"] == bench.now + 100
    assert (claim["name"], claim["track_id"], claim["attempt"]) == ("submission1", "submission1", MINE.record())
    assert (claim["request"], claim["source"]) == (WANTED.request, WANTED.source)
    assert bench.names == {"0001-claim", "0001-job"}
    assert bench.sleeps == []


def test_a_job_is_found_by_the_track_id_of_its_request(bench: Bench) -> None:
    bench.acquire(request=FakeRequest(track_id="mine/submission1", prompt="a cat"))
    claim = bench.store.entries["0001-claim"]
    assert (claim["name"], claim["track_id"]) == ("submission1", "mine/submission1")
    assert bench.hook.sent == [FakeRequest(track_id="mine/submission1", prompt="a cat")]


def test_a_retry_attaches_without_checking_anything(bench: Bench) -> None:
    first = bench.acquire()
    again = bench.acquire()
    assert (again.number, again.job, again.resumed) == (1, first.job, True)
    assert (bench.sent, bench.caller.confirmed) == ([1], 1)


def test_a_landed_result_comes_back(bench: Bench) -> None:
    bench.ledger.landed(bench.acquire().number, MANIFEST)
    assert bench.job().acquire() == Stored(1, MANIFEST)
    assert bench.sent == [1]


@pytest.mark.parametrize("error", [RateLimitError("too many"), TransportError("not reached")])
def test_a_refused_submit_is_released_and_the_next_attempt_submits(bench: Bench, error: ModelsLabError) -> None:
    bench.acquire_fails(error)
    assert bench.names == {"0001-claim", "0001-released"}
    assert bench.acquire().number == 2
    assert bench.sleeps == []


@pytest.mark.parametrize("error", [JobFailedError("bad clip", job_id="7"), JobLostError("gone", job_id="7")])
def test_a_job_that_fails_in_the_answer_is_followed_by_another(bench: Bench, error: ModelsLabError) -> None:
    bench.acquire_fails(error)
    assert bench.names == {"0001-claim", "0001-failed"}
    assert bench.acquire().number == 2


@pytest.mark.parametrize("error", [SubmissionUnknownError("no answer"), KeyboardInterrupt(), TypeError("a defect")])
def test_an_unknown_outcome_is_not_submitted_again_unless_told(bench: Bench, error: BaseException) -> None:
    bench.acquire_fails(error)
    assert bench.names == {"0001-claim", "0001-unknown"}
    for _ in range(2):
        with pytest.raises(SubmissionUnknownError, match=r"'submission1'.*Say what became of submission1") as caught:
            bench.acquire()
        assert caught.value.submission == 1
    assert bench.sent == [1]
    assert bench.acquire(RESUBMIT).number == 2
    assert bench.sleeps == []


@pytest.mark.parametrize(("policy", "advised"), [(LedgerPolicy(), True), (RESUBMIT, False)])
def test_the_first_error_says_what_a_person_does(bench: Bench, policy: LedgerPolicy, advised: bool) -> None:
    bench.answer = SubmissionUnknownError("no answer")
    with pytest.raises(SubmissionUnknownError) as caught:
        bench.acquire(policy)
    assert caught.value.submission == 1
    assert ("Say what became of submission1" in str(caught.value)) is advised


def test_a_changed_request(bench: Bench) -> None:
    bench.acquire()
    with pytest.raises(ChangedRequestError):
        bench.acquire(LedgerPolicy(on_changed_request="fail"), fingerprint=OTHER)
    assert bench.acquire(fingerprint=OTHER).number == 2
    assert bench.acquire(fingerprint=OTHER).number == 2


def test_a_late_process_of_an_earlier_try_does_not_pay_for_the_request_before(bench: Bench) -> None:
    first = replace(MINE, task_instance_id=made_at(1_795_435_200_000))
    cleared = replace(MINE, try_number=2, first_try=2, task_instance_id=made_at(1_795_435_260_000))
    assert bench.acquire(attempt=first).number == 1
    assert bench.acquire(attempt=cleared, fingerprint=OTHER).number == 2
    with pytest.raises(ChangedRequestError):
        bench.acquire(attempt=first)
    assert bench.sent == [1, 2]


def test_with_never_a_result_is_paid_once_for_each_clear(bench: Bench) -> None:
    never = LedgerPolicy("never")
    bench.ledger.landed(bench.acquire().number, {"uri": "s3://clips/1"})
    cleared = replace(MINE, try_number=4, first_try=4)
    bench.ledger.landed(bench.acquire(never, attempt=cleared).number, {"uri": "s3://clips/2"})
    retry = replace(cleared, try_number=5)
    assert bench.job(never, attempt=retry).acquire() == Stored(2, {"uri": "s3://clips/2"})
    assert bench.acquire(never, attempt=replace(MINE, try_number=6, first_try=6)).number == 3


# -- what is no longer in S3 ------------------------------------------------------------------------------------------


def test_a_landed_result_that_is_gone_is_fetched_again(bench: Bench) -> None:
    bench.ledger.landed(bench.acquire().number, MANIFEST)
    bench.hook.gone = {str(DESTINATION)}
    again = bench.acquire()
    assert (again.number, again.resumed) == (1, True)
    bench.ledger.failed(1, ResultExpiredError("too old"))
    assert bench.acquire().number == 2
    bench.hook.gone = set()
    assert bench.acquire() == Submission(2, Job("job2", "conn", bench.now), resumed=True)


def test_a_landed_result_that_is_gone_and_has_no_job_is_paid_again(bench: Bench) -> None:
    bench.ledger.landed(bench.acquire().number, MANIFEST)
    del bench.store.entries["0001-job"]
    bench.hook.gone = {str(DESTINATION)}
    assert bench.acquire().number == 2


# -- before a claim ---------------------------------------------------------------------------------------------------


def test_what_is_refused_before_costs_nothing(bench: Bench) -> None:
    def refuse() -> None:
        raise StorageConfigurationError("no bucket")

    bench.caller.on_confirm = refuse
    with pytest.raises(StorageConfigurationError):
        bench.acquire()
    assert (bench.names, bench.sent) == (set(), [])


def test_the_ledger_is_read_again_after_long_checks(bench: Bench) -> None:
    bench.caller.on_confirm = lambda: bench.write(
        _0001_claim={"request": WANTED.request}, _0001_job={"job_id": "theirs", "conn_id": "conn"}
    )
    assert bench.acquire().job.job_id == "theirs"
    assert bench.sent == []


def test_a_task_that_was_killed_claims_nothing(bench: Bench) -> None:
    track_ids: list[str] = []

    def stop(track_id: str) -> None:
        track_ids.append(track_id)
        raise InterruptedError

    bench.caller.on_claim = stop
    with pytest.raises(InterruptedError):
        bench.acquire()
    assert (bench.names, bench.sent, track_ids) == (set(), [], ["submission1"])


def test_who_is_slower_waits_for_who_was_quicker(bench: Bench) -> None:
    """Another process claims right before this one, and answers when this one waits."""
    theirs = {"request": WANTED.request, "expires_at": bench.now + 300}
    bench.caller.on_claim = lambda track_id: bench.write(_0001_claim=theirs)
    bench.on_sleep = lambda: bench.write(_0001_job={"job_id": "theirs", "conn_id": "conn"})
    assert bench.acquire().job.job_id == "theirs"
    assert bench.sent == []


# -- submissions of unknown outcome, and what a person found out ------------------------------------------------------

LOST: dict[str, dict[str, Any]] = {
    "claim": {"request": WANTED.request, "claimed_at": "2027-01-15T08:00:00+00:00"},
    "unknown": {"error": {"code": "SystemExit"}},
}


def lose(bench: Bench, number: int) -> None:
    """A submission whose answer was lost."""
    bench.store.entries.update({f"{number:04d}-{kind}": dict(entry) for kind, entry in LOST.items()})


def test_a_submission_that_a_person_said_to_submit_again(bench: Bench) -> None:
    lose(bench, 1)
    bench.caller.resolutions = {"submission1": "resubmit"}
    assert bench.acquire().number == 2
    assert bench.names >= {"0001-resolved", "0002-claim", "0002-job"}


def test_a_budget_is_told_by_the_ledger_that_a_person_said_to_submit_again(bench: Bench) -> None:
    """A reservation whose submit was lost is free again; before, it was held for ever."""
    lose(bench, 1)
    bench.store.entries["0001-claim"] |= {"budget": ["slot"]}
    slot = Slot("s3://b/ledger", "films.restyle", bench.now + 900)
    assert outcome_of("slot", slot, bench.store.load(), is_held=True, now=bench.now) is None
    bench.caller.resolutions = {"submission1": "resubmit"}
    bench.acquire()
    assert outcome_of("slot", slot, bench.store.load(), is_held=True, now=bench.now) == Change("slot", "released")


def test_a_job_that_a_person_found_keeps_its_reservation(bench: Bench) -> None:
    lose(bench, 1)
    bench.store.entries["0001-claim"] |= {"budget": ["slot"]}
    bench.caller.resolutions = {"submission1": "7"}
    bench.acquire()
    slot = Slot("s3://b/ledger", "films.restyle", bench.now + 900)
    assert outcome_of("slot", slot, bench.store.load(), is_held=True, now=bench.now) == Change("slot", "spent")


def test_the_answer_does_not_hold_for_the_next_submission(bench: Bench) -> None:
    lose(bench, 1)
    lose(bench, 2)
    bench.caller.resolutions = {"submission1": "resubmit"}
    with pytest.raises(SubmissionUnknownError) as caught:
        bench.acquire()
    assert caught.value.submission == 2
    bench.caller.resolutions |= {"submission2": "resubmit"}
    assert bench.acquire().number == 3


def test_two_attempts_with_the_same_answer_submit_once(bench: Bench) -> None:
    """The other one is quicker, and its answer is lost: the first must not take its own permission for a new one."""
    lose(bench, 1)
    bench.caller.resolutions = {"submission1": "resubmit"}
    bench.caller.on_confirm = lambda: lose(bench, 2)
    with pytest.raises(SubmissionUnknownError) as caught:
        bench.acquire()
    assert (caught.value.submission, bench.sent) == (2, [])


def test_a_job_that_a_person_found_is_waited_for(bench: Bench) -> None:
    lose(bench, 1)
    bench.caller.resolutions = {"submission1": "7"}
    found = bench.acquire(request=FakeRequest(prompt="a cat"))
    assert (found.number, found.job.job_id, found.resumed) == (1, "7", True)
    assert found.job.request["prompt"] == "a cat"
    assert bench.sent == []


def test_a_job_that_a_person_found_for_another_request_is_not_waited_for(bench: Bench) -> None:
    lose(bench, 1)
    bench.caller.resolutions = {"submission1": "7"}
    assert bench.acquire(fingerprint=OTHER).number == 2
    assert bench.store.entries["0001-job"]["request"] == {}


# -- afterwards -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("submitted", "asked", "expected"),
    [({"output_type": "gif"}, "mp4", "gif"), ({}, "mp4", "mp4"), ({}, None, None)],
    ids=["of the job", "of the request", "the endpoint chose"],
)
def test_a_landed_result_is_recorded(
    bench: Bench, submitted: dict[str, Any], asked: str | None, expected: str | None
) -> None:
    found = bench.acquire()
    found = replace(found, job=replace(found.job, request=submitted))
    manifest = bench.job(request=FakeRequest(output_type=asked)).land(found, FINISHED)
    assert manifest == {"job_id": "job1", **MANIFEST}
    assert bench.store.entries["0001-landed"]["manifest"] == manifest
    assert bench.hook.expected_types == [expected]


def test_what_was_superseded_is_not_landed(bench: Bench) -> None:
    first = bench.acquire()
    bench.acquire(fingerprint=OTHER)
    bench.now += 60
    with pytest.raises(ChangedRequestError):
        bench.job().land(first, FINISHED)
    assert bench.hook.expected_types == []


def test_a_result_that_expired_is_recorded_as_failed(bench: Bench) -> None:
    found = bench.acquire()
    bench.hook.land_error = ResultExpiredError("dead links")
    with pytest.raises(ResultExpiredError):
        bench.job().land(found, FINISHED)
    assert bench.store.entries["0001-failed"]["error"]["code"] == "result_expired"
    assert bench.acquire().number == 2


def test_a_result_that_could_not_be_copied_is_landed_again_by_the_next_try(bench: Bench) -> None:
    found = bench.acquire()
    bench.hook.land_error = LandingError("no space")
    with pytest.raises(LandingError):
        bench.job().land(found, FINISHED)
    assert bench.names == {"0001-claim", "0001-job"}
    assert bench.acquire().number == 1


@pytest.mark.parametrize(
    ("error", "resumed", "age", "recorded", "again"),
    [
        pytest.param(JobFailedError("bad"), False, 0, True, False, id="its own failure is left to a retry"),
        pytest.param(JobFailedError("bad"), True, 0, True, True, id="of an earlier try"),
        pytest.param(JobLostError("gone"), True, 0, True, True, id="lost"),
        pytest.param(JobLostError("gone"), True, 2 * DAY, True, False, id="lost, for nobody landed it in time"),
        pytest.param(JobFailedError("bad"), True, 2 * DAY, True, True, id="failed long ago"),
        pytest.param(JobTimeoutError("late"), True, 0, False, False, id="it may still end well"),
        pytest.param(TransportError("not reached"), True, 0, False, False, id="nothing is known"),
    ],
)
def test_a_job_that_came_to_nothing(
    bench: Bench, error: ModelsLabError, resumed: bool, age: float, recorded: bool, again: bool
) -> None:
    found = bench.acquire()
    found = replace(found, resumed=resumed, job=replace(found.job, submitted_at=time.time() - age))
    assert bench.job().close(found, error) is again
    assert ("0001-failed" in bench.names) is recorded
    assert bench.acquire().number == (2 if recorded else 1)


@pytest.mark.parametrize("resumed", [True, False])
def test_a_clip_that_cannot_be_read_is_recorded_and_not_paid_for_again(bench: Bench, resumed: bool) -> None:
    found = replace(bench.acquire(), resumed=resumed)
    assert not bench.job().close(found, ClipUnreadableError("cannot decode the video", job_id=found.job.job_id))
    for _ in range(2):
        with pytest.raises(ClipUnreadableError) as caught:
            bench.acquire()
        assert (caught.value.job_id, caught.value.sent) == (found.job.job_id, False)
    assert bench.names == {"0001-claim", "0001-job", "0001-failed"}
    assert len(bench.hook.sent) == 1


# -- a job that is another clip's -------------------------------------------------------------------------------------


def shared(job_id: str = "job1") -> KnownJobs:
    """The jobs of a batch in which another clip has this one."""
    jobs = KnownJobs()
    jobs.claim(job_id, S3Uri("clips", "out/other.mp4"), submitted_at=0.0)
    return jobs


def test_the_id_of_another_clips_job_is_not_recorded(bench: Bench) -> None:
    with pytest.raises(SubmissionUnknownError) as raised:
        bench.acquire(known_jobs=shared())
    assert (raised.value.job_id, raised.value.submission, raised.value.sent) == ("job1", 1, True)
    assert bench.names == {"0001-claim", "0001-unknown"}
    with pytest.raises(SubmissionUnknownError) as raised:
        bench.acquire()
    assert (bench.sent, raised.value.sent) == ([1], False)


def test_a_job_that_was_done_at_once_is_not_another_clips_either(bench: Bench) -> None:
    bench.answer = FINISHED
    with pytest.raises(SubmissionUnknownError):
        bench.acquire(known_jobs=shared())
    assert bench.names == {"0001-claim", "0001-unknown"}


def test_one_clip_may_have_its_job_again(bench: Bench) -> None:
    jobs = KnownJobs()
    first = bench.acquire(known_jobs=jobs)
    assert bench.acquire(known_jobs=jobs).job == first.job


def test_a_recorded_job_of_another_clip_is_submitted_again_only_where_a_person_says_so(bench: Bench) -> None:
    bench.acquire()
    with pytest.raises(SubmissionUnknownError) as raised:
        bench.acquire(known_jobs=shared())
    assert (raised.value.job_id, raised.value.submission, raised.value.sent) == ("job1", 1, False)
    assert bench.names == {"0001-claim", "0001-job"}
    bench.caller.resolutions["submission1"] = "another-id"
    with pytest.raises(SubmissionUnknownError):
        bench.acquire(known_jobs=shared())
    bench.caller.resolutions["submission1"] = "resubmit"
    assert bench.acquire(known_jobs=shared()).job.job_id == "job2"
    assert "0001-failed" in bench.names
    assert bench.sent == [1, 2]


def test_a_recorded_job_of_another_clip_is_submitted_again_where_the_task_says_so(bench: Bench) -> None:
    bench.acquire()
    assert bench.acquire(RESUBMIT, known_jobs=shared()).number == 2


def test_a_store_that_does_not_take_that_a_job_is_another_clips_ends_the_attempt(bench: Bench) -> None:
    bench.acquire()
    bench.ledger.failed = lambda number, error: None  # type: ignore[method-assign]
    with pytest.raises(SubmissionUnknownError):
        bench.acquire(RESUBMIT, known_jobs=shared())
    assert bench.sent == [1]


# -- landings at the same time ----------------------------------------------------------------------------------------


def ended_by_another() -> LandingError:
    no_upload: Any = {"Error": {"Code": "NoSuchUpload"}, "ResponseMetadata": {"HTTPStatusCode": 404}}
    error = LandingError("S3 refused UploadPart")
    error.__cause__ = ClientError(no_upload, "UploadPart")
    return error


@pytest.mark.parametrize("times", [1, 2])
def test_a_landing_that_another_one_ended_is_made_once_more(bench: Bench, times: int) -> None:
    errors = [ended_by_another() for _ in range(times)]
    land = bench.hook.land

    def landing(*arguments: Any, **options: Any) -> dict[str, Any]:
        bench.hook.land_error = errors.pop() if errors else None
        return land(*arguments, **options)

    bench.hook.land = landing  # type: ignore[method-assign]
    job, submission = bench.job(), bench.acquire()
    if times == 1:
        assert job.land(submission, FINISHED) == {"job_id": "job1", "uri": str(DESTINATION)}
        assert "0001-landed" in bench.names
        return
    with pytest.raises(LandingError):
        job.land(submission, FINISHED)
    assert bench.names == {"0001-claim", "0001-job"}


# -- a chain of places ------------------------------------------------------------------------------------------------

NO_CREDITS = PaymentRequiredError("no credits")
CHAIN = (Target("conn", None), Target("other", None), Target("third", None))


class ChainBench(Bench):
    """The same with three places, each of which answers as told."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, BaseException | None] = {}
        self.sent_to: list[str] = []
        self.hooks = {place.conn_id: FakeHook(self._submit_to(place.conn_id)) for place in CHAIN}
        for conn_id, hook in self.hooks.items():
            hook.modelslab_conn_id = conn_id
        self.hook = self.hooks["conn"]

    def _submit_to(self, conn_id: str) -> Submit:
        def submit(number: int) -> tuple[Job, Finished | None]:
            self.sent_to.append(conn_id)
            if (error := self.answers.get(conn_id)) is not None:
                raise error
            return Job(f"job{number}", conn_id, submitted_at=self.now), None

        return submit

    def acquire(self, policy: LedgerPolicy | None = None, **options: Any) -> Submission:
        return super().acquire(policy, places=CHAIN, hooks=self.hooks, **options)


@pytest.fixture
def chain() -> ChainBench:
    return ChainBench()


def test_places_that_refuse_are_followed_by_the_next(chain: ChainBench) -> None:
    chain.answers = {"conn": NO_CREDITS, "other": JobFailedError("at once", job_id="9")}
    found = chain.acquire()
    assert chain.sent_to == ["conn", "other", "third"]
    assert (found.number, found.job.conn_id) == (3, "third")
    assert found.job.chain is not None
    assert found.job.chain["made_by"] == CHAIN[2].record()
    assert [(one["modelslab_conn_id"], one["code"]) for one in found.job.chain["fallback_from"]] == [
        ("conn", "payment"),
        ("other", "job_failed"),
    ]
    claims = [chain.store.entries[f"{number:04d}-claim"] for number in (1, 2, 3)]
    assert [claim["place"] for claim in claims] == [place.record() for place in CHAIN]
    assert {(claim["request"], claim["source"]) for claim in claims} == {(WANTED.request, WANTED.source)}
    again = chain.acquire()
    assert (again.number, again.resumed, again.job.chain) == (3, True, found.job.chain)
    assert len(chain.sent_to) == 3


@pytest.mark.parametrize(
    "error",
    [
        SubmissionUnknownError("no answer"),
        RateLimitError("slow down"),
        TransportError("no route"),
        ClipUnreadableError("no video", job_id="9"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_followed_by_no_other_place(chain: ChainBench, error: BaseException) -> None:
    chain.answers = {"conn": error}
    with pytest.raises(type(error)):
        chain.acquire()
    assert chain.sent_to == ["conn"]


def test_an_unknown_outcome_at_a_later_place_ends_the_chain(chain: ChainBench) -> None:
    chain.answers = {"conn": NO_CREDITS, "other": SubmissionUnknownError("no answer")}
    for _ in range(2):
        with pytest.raises(SubmissionUnknownError):
            chain.acquire()
    assert chain.sent_to == ["conn", "other"]
    chain.caller.resolutions = {"submission2": "resubmit"}
    chain.answers = {}
    assert chain.acquire().job.conn_id == "other"  # never the first one again


def test_the_job_that_a_person_found_belongs_to_the_place_of_its_claim(chain: ChainBench) -> None:
    chain.answers = {"conn": NO_CREDITS, "other": SubmissionUnknownError("no answer")}
    with pytest.raises(SubmissionUnknownError):
        chain.acquire()
    chain.caller.resolutions = {"submission2": "77"}
    found = chain.acquire()
    assert (found.job.job_id, found.job.conn_id) == ("77", "other")
    assert target_of(found.job) == CHAIN[1]


def test_a_refusal_for_a_moment_is_repeated_at_the_same_place(chain: ChainBench) -> None:
    chain.answers = {"conn": NO_CREDITS, "other": RateLimitError("slow down")}
    with pytest.raises(RateLimitError):
        chain.acquire()
    chain.answers = {}
    assert chain.acquire().job.conn_id == "other"
    assert chain.sent_to == ["conn", "other", "other"]


def test_the_last_refusal_is_raised(chain: ChainBench) -> None:
    chain.answers = dict.fromkeys(("conn", "other", "third"), NO_CREDITS)
    with pytest.raises(PaymentRequiredError):
        chain.acquire()
    assert chain.sent_to == ["conn", "other", "third"]


def test_one_without_other_places_leaves_a_job_at_another_one_alone(chain: ChainBench) -> None:
    chain.answers = {"conn": NO_CREDITS}
    chain.acquire()
    with pytest.raises(ChangedRequestError):
        chain.job().acquire()
    assert chain.sent_to == ["conn", "other"]


def test_a_failed_job_of_the_last_place_has_no_other(chain: ChainBench) -> None:
    job = chain.job(places=CHAIN, hooks=chain.hooks)
    failed = JobFailedError("no", job_id="1")
    assert [job.has_place_after(place, failed) for place in (*CHAIN, None)] == [True, True, False, False]
    assert not job.has_place_after(CHAIN[0], JobLostError("gone", job_id="1"))
