"""Buying once: what attempts do, one after the other and next to each other, over a store in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import (
    ChangedRequestError,
    JobFailedError,
    JobLostError,
    ModelsLabError,
    RateLimitError,
    ResultExpiredError,
    StorageConfigurationError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.storage.ledger import Fingerprint, LedgerPolicy
from airflow_provider_modelslab.storage.ledger_stores import MemoryLedgerStore, MirroredLedgerStore
from airflow_provider_modelslab.storage.manifest import Job
from airflow_provider_modelslab.storage.purchase import Attempt, Landed, Ledger, Purchase, Send
from tests.support.task_ids import made_at

WANTED = Fingerprint("request", "source")
OTHER = Fingerprint("another request", "source")
RESUBMIT = LedgerPolicy(on_unknown_submission="resubmit")


class Store(MemoryLedgerStore):
    """Fails as often as it is told to; ``on_create`` sees entries before they are written."""

    def __init__(self) -> None:
        super().__init__()
        self.failing: dict[str, int] = {}
        self.on_create: Callable[[str], None] = lambda name: None

    def load(self) -> dict[str, dict[str, Any]]:
        self._maybe_fail("load")
        return super().load()

    def create(self, name: str, entry: Mapping[str, Any]) -> bool:
        self.on_create(name)
        self._maybe_fail(name)
        return super().create(name, entry)

    def _maybe_fail(self, what: str) -> None:
        if self.failing.get(what, 0) > 0:
            self.failing[what] -= 1
            raise StorageConfigurationError(f"{what} was refused")


class Bench:
    """One task instance: its ledger, and a vendor that answers as told and counts what it gets."""

    def __init__(self) -> None:
        self.store = Store()
        self.now = 1_800_000_000.0
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[float], None] = lambda seconds: None
        self.dead = False
        self.sent: list[int] = []
        self.prepared = 0
        self.answer: BaseException | Finished | None = None
        self.ledger = Ledger(self.store, clock=lambda: self.now, sleep=self._sleep, is_dead=lambda owner: self.dead)

    def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        self.on_sleep(seconds)

    def prepare(self) -> Send:
        self.prepared += 1
        return self.send

    def send(self, take: int) -> tuple[Job, Finished | None]:
        self.sent.append(take)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return Job(f"job{take}", "conn", submitted_at=self.now), self.answer

    def attempt(
        self,
        policy: LedgerPolicy | None = None,
        *,
        fingerprint: Fingerprint = WANTED,
        attempt: Attempt | None = None,
        gone: bool = False,
    ) -> Purchase | Landed:
        return self.ledger.acquire(
            fingerprint,
            policy or LedgerPolicy(),
            attempt or Attempt(),
            self.prepare,
            track_id="track{}".format,
            skip_landed=lambda manifest: gone,
        )

    def bought(self, policy: LedgerPolicy | None = None, **options: Any) -> Purchase:
        found = self.attempt(policy, **options)
        assert isinstance(found, Purchase)
        return found

    @property
    def names(self) -> set[str]:
        return set(self.store.entries)

    def claimed_by_another(self, take: int = 1) -> None:
        claim = {"request": "request", "owner": {"host": "there", "pid": 7}, "expires_at": self.now + 300}
        self.store.entries[f"{take:04d}-claim"] = claim


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_late_process_of_an_earlier_try_does_not_pay_for_the_request_before(bench: Bench) -> None:
    names = {"dag_id": "films", "task_id": "restyle", "run_id": "1", "map_index": -1}
    first = Attempt(1, names=names, task_instance=made_at(1_795_435_200_000))
    cleared = Attempt(2, 2, names=names, task_instance=made_at(1_795_435_260_000))
    assert bench.bought(attempt=first).take == 1
    assert bench.bought(fingerprint=OTHER, attempt=cleared).take == 2
    with pytest.raises(ChangedRequestError, match="Airflow had given this one up"):
        bench.attempt(attempt=first)
    assert bench.sent == [1, 2]
    assert bench.store.entries["0002-claim"]["task_instance"] == str(cleared.task_instance)


def test_what_was_asked_for_since_is_not_landed_over(bench: Bench) -> None:
    bought = bench.bought()
    bench.bought(fingerprint=OTHER)
    bench.ledger.refuse_if_superseded(bought)  # a moment ago it was the last one; a listing each would cost
    bench.now += 60
    with pytest.raises(ChangedRequestError, match="take 2 was paid for since"):
        bench.ledger.refuse_if_superseded(bought)
    bench.store.entries["0002-released"] = {}
    bench.ledger.refuse_if_superseded(bought)


def test_a_ledger_that_cannot_be_read_does_not_keep_a_result_from_landing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bought = bench.bought()
    bench.now += 60
    bench.store.failing["load"] = 1
    bench.ledger.refuse_if_superseded(bought)
    assert "not known" in caplog.text


def test_the_first_attempt_submits_once(bench: Bench) -> None:
    attempt = Attempt(try_number=2, lease=100, names={"dag_id": "d"})
    assert bench.attempt(attempt=attempt) == Purchase(1, Job("job1", "conn", submitted_at=bench.now))
    claim = bench.store.entries["0001-claim"]
    assert claim["expires_at"] == bench.now + 100
    assert (claim["try_number"], claim["track_id"], claim["dag_id"]) == (2, "track1", "d")
    assert (claim["request"], claim["source"]) == ("request", "source")
    assert bench.names == {"0001-claim", "0001-job"}


def test_a_retry_attaches_without_preparing_anything(bench: Bench) -> None:
    first = bench.bought()
    again = bench.bought()
    assert (again.take, again.job, again.resumed) == (1, first.job, True)
    assert (bench.sent, bench.prepared) == ([1], 1)


def test_a_landed_result_comes_back(bench: Bench) -> None:
    bench.ledger.landed(bench.bought().take, {"uri": "s3://b/k"})
    assert bench.attempt() == Landed(1, {"uri": "s3://b/k"})
    assert bench.sent == [1]


@pytest.mark.parametrize("error", [RateLimitError("too many"), TransportError("not reached")])
def test_a_refused_submit_is_released_and_the_next_attempt_submits(bench: Bench, error: ModelsLabError) -> None:
    bench.answer = error
    with pytest.raises(type(error)):
        bench.attempt()
    assert bench.names == {"0001-claim", "0001-released"}
    bench.answer = None
    assert bench.bought().take == 2
    assert bench.sleeps == []


@pytest.mark.parametrize("error", [SubmissionUnknownError("no answer"), KeyboardInterrupt(), TypeError("a defect")])
def test_an_unknown_outcome_is_not_submitted_again_unless_told(bench: Bench, error: BaseException) -> None:
    bench.answer = error
    with pytest.raises(type(error)):
        bench.attempt()
    assert bench.names == {"0001-claim", "0001-unknown"}
    bench.answer = None
    for _ in range(2):
        with pytest.raises(SubmissionUnknownError, match="'track1'") as caught:
            bench.attempt()
        assert caught.value.take == 1
    assert bench.sent == [1]
    assert bench.bought(RESUBMIT).take == 2
    assert bench.sleeps == []


def test_the_first_error_names_the_take_as_well(bench: Bench) -> None:
    bench.answer = SubmissionUnknownError("no answer")
    with pytest.raises(SubmissionUnknownError) as caught:
        bench.attempt()
    assert caught.value.take == 1


@pytest.mark.parametrize("error", [JobFailedError("bad clip", job_id="7"), JobLostError("gone", job_id="7")])
def test_a_job_that_fails_in_the_answer_is_followed_by_another(bench: Bench, error: ModelsLabError) -> None:
    bench.answer = error
    with pytest.raises(type(error)):
        bench.attempt()
    bench.answer = None
    assert bench.bought().take == 2
    assert bench.store.entries["0001-failed"]["job_id"] == "7"


def test_a_job_that_fails_later_is_followed_by_another(bench: Bench) -> None:
    bench.ledger.failed(bench.bought().take, JobLostError("gone", job_id="job1"))
    assert bench.bought().take == 2


def test_a_killed_task_is_picked_up(bench: Bench) -> None:
    bench.ledger.abandoned(bench.bought().take, "killed")
    assert bench.bought().job.job_id == "job1"
    assert bench.store.entries["0001-abandoned"]["why"] == "killed"


def test_a_changed_request(bench: Bench) -> None:
    bench.bought()
    with pytest.raises(ChangedRequestError, match="is job job1"):
        bench.attempt(LedgerPolicy(on_changed_request="fail"), fingerprint=OTHER)
    assert bench.bought(fingerprint=OTHER).take == 2
    assert bench.bought(fingerprint=OTHER).take == 2


def test_another_take_is_paid_once_for_each_clear(bench: Bench) -> None:
    off = LedgerPolicy(reuse_landed=False)
    bench.ledger.landed(bench.bought().take, {"uri": "s3://b/1"})
    cleared = Attempt(try_number=4, first_try=4)
    second = bench.bought(off, attempt=cleared)
    bench.ledger.landed(second.take, {"uri": "s3://b/2"})
    retry = Attempt(try_number=5, first_try=4)
    assert bench.attempt(off, attempt=retry) == Landed(2, {"uri": "s3://b/2"})
    assert bench.bought(off, attempt=Attempt(try_number=6, first_try=6)).take == 3


def test_a_landed_result_that_is_gone_is_fetched_again(bench: Bench) -> None:
    bench.ledger.landed(bench.bought().take, {"uri": "s3://b/k"})
    again = bench.bought(gone=True)
    assert (again.take, again.resumed) == (1, True)
    bench.ledger.failed(1, ResultExpiredError("too old"))
    assert bench.bought(gone=True).take == 2
    assert bench.attempt(LedgerPolicy(), gone=False) == Purchase(2, Job("job2", "conn", bench.now), None, resumed=True)


def test_a_landed_result_that_is_gone_and_has_no_job_is_paid_again(bench: Bench) -> None:
    bench.store.failing["0001-job"] = 3
    bench.ledger.landed(bench.bought().take, {"uri": "s3://b/k"})
    assert bench.bought(gone=True).take == 2


def test_a_result_that_is_finished_at_once_and_has_no_id_keeps_its_links(bench: Bench) -> None:
    bench.answer = Finished(None, ("https://h/a.mp4",), {"seed": 1}, 3.5)
    job = Job("", "conn", submitted_at=bench.now, meta={"seed": 1})
    ledger = bench.ledger
    ledger.acquire(
        WANTED, LedgerPolicy(), Attempt(), lambda: lambda take: (job, Finished(None, ("https://h/a.mp4",), {}, 3.5))
    )
    again = bench.bought()
    assert again.finished == Finished(None, ("https://h/a.mp4",), {"seed": 1}, 3.5)
    assert again.resumed


def test_a_job_with_an_id_is_asked_for_by_it(bench: Bench) -> None:
    bench.answer = Finished("job1", ("https://h/a.mp4?X-Amz-Signature=hush",), {}, 3.5)
    assert bench.bought().finished == bench.answer
    assert bench.bought().finished is None
    assert "hush" not in str(bench.store.entries), "its links are asked for again, and may be signed"


def test_an_id_that_a_person_found_is_attached_to(bench: Bench) -> None:
    assert not bench.ledger.adopt("7", conn_id="conn")
    bench.answer = SubmissionUnknownError("no answer")
    with pytest.raises(SubmissionUnknownError):
        bench.attempt()
    assert bench.ledger.adopt("7", conn_id="conn")
    assert not bench.ledger.adopt("8", conn_id="conn")
    found = bench.bought()
    assert (found.job.job_id, found.job.submitted_at) == ("7", bench.now)  # as late as the claim, and no later


def test_an_id_goes_to_the_take_that_it_was_found_for(bench: Bench) -> None:
    bench.answer = SubmissionUnknownError("no answer")
    with pytest.raises(SubmissionUnknownError):
        bench.attempt()
    bench.answer = RateLimitError("too many")
    with pytest.raises(RateLimitError):
        bench.attempt(RESUBMIT)
    assert bench.ledger.adopt("7", conn_id="conn")  # take 2 was refused, so the last one that counts is 1
    assert bench.bought().take == 1
    bench.claimed_by_another(3)
    assert not bench.ledger.adopt("7", conn_id="conn", take=1)
    assert "0003-job" not in bench.names


def test_a_store_that_cannot_be_read_is_not_an_empty_one(bench: Bench) -> None:
    bench.bought()
    bench.store.failing["load"] = 1
    with pytest.raises(StorageConfigurationError):
        bench.attempt()
    assert bench.sent == [1]


def test_without_a_claim_nothing_is_sent(bench: Bench) -> None:
    bench.store.failing["0001-claim"] = 1
    with pytest.raises(StorageConfigurationError):
        bench.attempt()
    assert (bench.sent, bench.names) == ([], set())


def test_what_cannot_be_made_ready_claims_nothing(bench: Bench) -> None:
    def prepare() -> Send:
        raise StorageConfigurationError("no bucket")

    with pytest.raises(StorageConfigurationError):
        bench.ledger.acquire(WANTED, LedgerPolicy(), Attempt(), prepare)
    assert bench.names == set()


def test_the_ledger_is_read_again_after_a_long_preparation(bench: Bench) -> None:
    def prepare() -> Send:
        bench.store.entries["0001-claim"] = {"request": "request"}
        bench.store.entries["0001-job"] = {"job_id": "theirs", "conn_id": "conn"}
        return bench.send

    found = bench.ledger.acquire(WANTED, LedgerPolicy(), Attempt(), prepare)
    assert isinstance(found, Purchase)
    assert (found.job.job_id, bench.sent) == ("theirs", [])


def test_a_note_that_is_refused_does_not_lose_the_job(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.store.failing["0001-job"] = 99
    bench.answer = Finished("job1", ("https://h/a.mp4?X-Amz-Signature=secret",), {}, None)
    assert bench.bought().job.job_id == "job1"
    last = caplog.records[-1]
    assert last.levelno == logging.ERROR
    assert "job1" in last.getMessage()
    assert "secret" not in caplog.text
    assert bench.sleeps == [0.2, 1.0]


def test_a_note_that_is_refused_once_is_repeated(bench: Bench) -> None:
    bench.store.failing["0001-job"] = 1
    bench.bought()
    assert "0001-job" in bench.names


def test_a_time_out_while_the_id_is_written_does_not_lose_it(bench: Bench) -> None:
    struck: list[str] = []

    def strike(name: str) -> None:
        if name == "0001-job" and not struck:
            struck.append(name)
            raise KeyboardInterrupt

    bench.store.on_create = strike
    with pytest.raises(KeyboardInterrupt):
        bench.attempt()
    assert bench.bought().job.job_id == "job1"


def test_a_claim_that_took_long_to_write_is_given_back(bench: Bench) -> None:
    def slow(name: str) -> None:
        bench.now += 11

    bench.store.on_create = slow
    with pytest.raises(TransportError, match="nothing was submitted"):
        bench.attempt(attempt=Attempt(lease=100))
    assert bench.sent == []
    bench.store.on_create = lambda name: None
    assert bench.bought().take == 2


def test_the_claim_of_a_live_attempt_is_waited_for(bench: Bench) -> None:
    bench.claimed_by_another()

    def write_id(seconds: float) -> None:
        if len(bench.sleeps) == 5:
            bench.store.entries["0001-job"] = {"job_id": "theirs", "conn_id": "conn"}

    bench.on_sleep = write_id
    found = bench.bought()
    assert (found.job.job_id, found.resumed) == ("theirs", True)
    assert bench.sleeps == [2.0] * 5
    assert bench.sent == []


def test_a_claim_whose_time_is_over_is_waited_for_no_longer(bench: Bench) -> None:
    bench.claimed_by_another()
    end = bench.now + 300
    with pytest.raises(SubmissionUnknownError):
        bench.attempt()
    assert bench.now == pytest.approx(end + 2)  # one more look, for what was on its way


def test_the_claim_of_a_dead_owner_is_taken_over_at_once(bench: Bench) -> None:
    bench.claimed_by_another()
    bench.dead = True
    assert bench.bought(RESUBMIT).take == 2
    assert bench.sleeps == [2.0]


def test_the_last_words_of_a_dead_owner_count(bench: Bench) -> None:
    bench.claimed_by_another()
    bench.dead = True
    bench.on_sleep = lambda seconds: bench.store.entries.update({"0001-job": {"job_id": "theirs", "conn_id": "conn"}})
    assert bench.bought(RESUBMIT).job.job_id == "theirs"
    assert bench.sent == []


def test_who_is_slower_waits_for_who_was_quicker(bench: Bench) -> None:
    bench.store.on_create = lambda name: bench.claimed_by_another() if not bench.names else None
    bench.on_sleep = lambda seconds: bench.store.entries.update({"0001-job": {"job_id": "theirs", "conn_id": "conn"}})
    assert bench.bought().job.job_id == "theirs"
    assert bench.sent == []


def test_every_state_survives_the_loss_of_either_mirror() -> None:
    for lost in (0, 1):
        stores = MemoryLedgerStore(), MemoryLedgerStore()
        bench = Bench()
        ledger = Ledger(MirroredLedgerStore(*stores), clock=lambda: 1e9, is_dead=lambda owner: False)
        ledger.acquire(WANTED, LedgerPolicy(), Attempt(), bench.prepare)
        stores[lost].entries.clear()
        again = ledger.acquire(WANTED, LedgerPolicy(), Attempt(), bench.prepare)
        assert isinstance(again, Purchase)
        assert again.job.job_id == "job1"
        ledger.landed(1, {"uri": "s3://b/k"})
        stores[1 - lost].entries.clear()
        assert ledger.acquire(WANTED, LedgerPolicy(), Attempt(), bench.prepare) == Landed(1, {"uri": "s3://b/k"})
        assert bench.sent == [1]


def test_work_that_nobody_bills_is_reused_when_it_has_landed(bench: Bench) -> None:
    def found(fingerprint: Fingerprint = WANTED, *, gone: bool = False) -> Landed | None:
        return bench.ledger.find_landed(fingerprint, LedgerPolicy(), Attempt(), skip_landed=lambda manifest: gone)

    assert found() is None
    bench.ledger.record_landed(WANTED, Attempt(), {"uri": "s3://b/k"})
    assert found() == Landed(1, {"uri": "s3://b/k"})
    assert found(OTHER) is None
    assert found(gone=True) is None
    bench.ledger.record_landed(OTHER, Attempt(), {"uri": "s3://b/other"})
    assert found(OTHER) == Landed(2, {"uri": "s3://b/other"})


def test_work_that_nobody_bills_is_done_again_when_its_process_was_killed_at_writing(bench: Bench) -> None:
    bench.claimed_by_another()
    bench.dead = True
    assert bench.ledger.find_landed(WANTED, LedgerPolicy(), Attempt()) is None
    bench.ledger.record_landed(WANTED, Attempt(), {"uri": "s3://b/k"})
    assert bench.ledger.find_landed(WANTED, LedgerPolicy(), Attempt()) == Landed(2, {"uri": "s3://b/k"})


def test_what_a_person_says_holds_for_the_take_it_was_said_of(bench: Bench) -> None:
    def attempt(*resubmit: int) -> Purchase | Landed:
        return bench.ledger.acquire(WANTED, LedgerPolicy(), Attempt(), bench.prepare, resubmit=resubmit)

    bench.answer = SubmissionUnknownError("no answer")
    for said in [(), (1,)]:
        with pytest.raises(SubmissionUnknownError, match=r"^no answer"):
            attempt(*said)
    bench.answer = None
    with pytest.raises(SubmissionUnknownError, match=r"^Take 2 "):
        attempt(1)
    assert attempt(1, 2).take == 3
