"""The ledger of one result: finding, claiming, recording and waiting, over a store in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import (
    ChangedRequestError,
    ErrorCode,
    JobFailedError,
    JobLostError,
    ModelsLabError,
    RateLimitError,
    StorageConfigurationError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import (
    FORMAT_VERSION,
    Entry,
    Fingerprint,
    LedgerPolicy,
    Stored,
    Submission,
    SubmitNew,
    entry_name,
)
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.ledger.stores import MemoryLedgerStore, MirroredLedgerStore
from airflow_provider_modelslab.storage.result_manifest import Job

WANTED = Fingerprint("request", "source")
OTHER = Fingerprint("another request", "source")
MINE = AttemptId("films", "restyle", "run 1", try_number=2)
OTHER_RUN = replace(MINE, run_id="run 2")
MANIFEST = {"uri": "s3://clips/k"}
FINISHED = Finished("job1", ("https://h/a.mp4?X-Amz-Signature=secret",), {}, 3.5)


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
    """A ledger in a time of its own."""

    def __init__(self) -> None:
        self.store = Store()
        self.now = 1_800_000_000.0
        self.sleeps: list[float] = []
        self.on_sleep: Callable[[float], None] = lambda seconds: None
        self.dead = False
        self.ledger = Ledger(self.store, clock=lambda: self.now, sleep=self._sleep, is_dead=lambda process: self.dead)

    def _sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds
        self.on_sleep(seconds)

    @property
    def names(self) -> set[str]:
        return set(self.store.entries)

    def find(
        self,
        policy: LedgerPolicy | None = None,
        *,
        fingerprint: Fingerprint = WANTED,
        attempt: AttemptId = MINE,
        gone: tuple[int, ...] = (),
    ) -> Stored | Submission | SubmitNew:
        return self.ledger.find(fingerprint, policy or LedgerPolicy(), attempt, gone=gone)

    def found(self, policy: LedgerPolicy | None = None, **options: Any) -> Submission:
        found = self.find(policy, **options)
        assert isinstance(found, Submission)
        return found

    def claim(self, number: int = 1, *, fingerprint: Fingerprint = WANTED, lease: float = 300.0) -> bool:
        return self.ledger.claim(number, fingerprint, MINE, lease=lease, name=f"name{number}", track_id="track")

    def record(self, number: int = 1, *, finished: Finished | None = None, job_id: str | None = None) -> Submission:
        job = Job(f"job{number}" if job_id is None else job_id, "conn", submitted_at=self.now)
        return self.ledger.record(number, job, finished)

    def submit(self, number: int = 1, *, fingerprint: Fingerprint = WANTED) -> Submission:
        """Claim, and record a job."""
        assert self.claim(number, fingerprint=fingerprint)
        return self.record(number)

    def claimed_by_another(self, number: int = 1, *, attempt: AttemptId = MINE) -> None:
        self.store.entries[f"{number:04d}-claim"] = {
            "request": "request",
            "process": {"host": "there", "pid": 7},
            "expires_at": self.now + 300,
            "attempt": attempt.record(),
        }

    def write(self, *names: str) -> None:
        """What the other process writes."""
        known: dict[str, dict[str, Any]] = {
            "job": {"job_id": "theirs", "conn_id": "conn"},
            "landed": {"manifest": MANIFEST},
        }
        self.store.entries.update({name: known[name.partition("-")[2]] for name in names})


@pytest.fixture
def bench() -> Bench:
    return Bench()


# -- claiming ---------------------------------------------------------------------------------------------------------


def test_a_claim_says_who_when_and_for_what(bench: Bench) -> None:
    assert bench.claim(lease=100)
    claim = dict(bench.store.entries["0001-claim"])
    assert claim.pop("process")["pid"] > 0
    assert claim == {
        "version": FORMAT_VERSION,
        "identity_version": WANTED.version,
        "request": "request",
        "source": "source",
        "attempt": MINE.record(),
        "claimed_at": "2027-01-15T08:00:00.000+00:00",
        "expires_at": bench.now + 100,
        "name": "name1",
        "track_id": "track",
        "billed": True,
    }


def test_a_claim_is_won_once(bench: Bench) -> None:
    assert bench.claim()
    assert not bench.claim()
    assert bench.sleeps == [0.1]


def test_a_claim_that_is_not_written_is_an_error(bench: Bench) -> None:
    bench.store.failing["0001-claim"] = 1
    with pytest.raises(StorageConfigurationError):
        bench.claim()
    assert bench.names == set()


@pytest.mark.parametrize(("lease", "seconds", "safe"), [(100, 10, True), (100, 11, False), (600, 21, False)])
def test_a_claim_that_took_long_to_write_is_given_back(bench: Bench, lease: float, seconds: float, safe: bool) -> None:
    def slow(name: str) -> None:
        bench.now += seconds

    bench.store.on_create = slow
    if safe:
        assert bench.claim(lease=lease)
        return
    with pytest.raises(TransportError):
        bench.claim(lease=lease)
    assert bench.store.entries["0001-released"]["error"]["code"] == ErrorCode.TRANSPORT
    assert bench.find() == SubmitNew(2, "the previous submission was refused")


# -- finding ----------------------------------------------------------------------------------------------------------


def test_nothing_was_submitted(bench: Bench) -> None:
    assert bench.find() == SubmitNew(1, "nothing was submitted before")
    assert bench.sleeps == []


def test_a_recorded_job_is_found(bench: Bench) -> None:
    first = bench.submit()
    assert (first.resumed, first.known_at) == (False, first.job.submitted_at)
    bench.now += 5
    again = bench.found()
    assert again == replace(first, resumed=True)
    assert again.known_at == bench.now
    assert {entry["version"] for entry in bench.store.entries.values()} == {FORMAT_VERSION}


def test_a_landed_result_is_found(bench: Bench) -> None:
    bench.ledger.landed(bench.submit().number, MANIFEST)
    assert bench.find() == Stored(1, MANIFEST)


def test_a_landed_result_that_is_gone_is_fetched_again(bench: Bench) -> None:
    bench.ledger.landed(bench.submit().number, MANIFEST)
    again = bench.found(gone=(1,))
    assert (again.number, again.resumed) == (1, True)
    bench.ledger.failed(1, JobLostError("too old"))
    assert bench.find(gone=(1,)) == SubmitNew(2, "the previous job failed (job_lost)")


def test_a_failed_job_is_followed_by_another(bench: Bench) -> None:
    bench.ledger.failed(bench.submit().number, JobLostError("gone", job_id="job1"))
    assert bench.find() == SubmitNew(2, "the previous job failed (job_lost)")
    assert bench.store.entries["0001-failed"]["error"]["job_id"] == "job1"


def test_an_abandoned_job_is_found(bench: Bench) -> None:
    bench.ledger.abandoned(bench.submit().number, "killed")
    assert bench.found().job.job_id == "job1"
    assert bench.store.entries["0001-abandoned"]["why"] == "killed"


def test_a_changed_request(bench: Bench) -> None:
    bench.submit()
    with pytest.raises(ChangedRequestError):
        bench.find(LedgerPolicy(on_changed_request="fail"), fingerprint=OTHER)
    found = bench.find(fingerprint=OTHER)
    assert isinstance(found, SubmitNew)
    assert found.number == 2


def test_a_store_that_cannot_be_read_is_not_an_empty_one(bench: Bench) -> None:
    bench.submit()
    bench.store.failing["load"] = 1
    with pytest.raises(StorageConfigurationError):
        bench.find()


# -- waiting for another process --------------------------------------------------------------------------------------


def test_the_claim_of_a_live_attempt_is_waited_for(bench: Bench) -> None:
    bench.claimed_by_another()
    bench.on_sleep = lambda seconds: bench.write("0001-job") if len(bench.sleeps) == 5 else None
    found = bench.found()
    assert (found.job.job_id, found.resumed) == ("theirs", True)
    assert bench.sleeps == [2.0] * 5


def test_a_claim_whose_lease_is_over_is_waited_for_no_longer(bench: Bench) -> None:
    bench.claimed_by_another()
    end = bench.now + 300
    with pytest.raises(SubmissionUnknownError):
        bench.find()
    assert bench.now == pytest.approx(end + 2)  # one more read, for what was on its way


def test_the_claim_of_a_dead_process_is_taken_over_at_once(bench: Bench) -> None:
    bench.claimed_by_another()
    bench.dead = True
    found = bench.find(LedgerPolicy(on_unknown_submission="resubmit"))
    assert isinstance(found, SubmitNew)
    assert found.number == 2
    assert bench.sleeps == [2.0]


def test_what_a_dead_process_wrote_last_counts(bench: Bench) -> None:
    bench.claimed_by_another()
    bench.dead = True
    bench.on_sleep = lambda seconds: bench.write("0001-job")
    assert bench.found(LedgerPolicy(on_unknown_submission="resubmit")).job.job_id == "theirs"


# -- another Dag run waits for the same job ---------------------------------------------------------------------------


def marked(attempt: AttemptId, number: int = 1) -> str:
    return entry_name(number, Entry.ATTACHED, attempt)


def test_a_run_that_waits_for_the_job_of_another_is_noted_once(bench: Bench) -> None:
    bench.submit()
    bench.found()
    assert bench.names == {"0001-claim", "0001-job"}, "its own run's job"
    for _ in range(2):
        assert bench.found(attempt=OTHER_RUN).number == 1
    assert bench.names == {"0001-claim", "0001-job", marked(OTHER_RUN)}
    assert bench.store.entries[marked(OTHER_RUN)]["attempt"] == OTHER_RUN.record()
    bench.ledger.landed(1, MANIFEST)
    assert bench.find(attempt=replace(OTHER_RUN, try_number=3, first_try=3)) == Stored(1, MANIFEST)
    assert isinstance(bench.find(attempt=replace(MINE, run_id="run 3")), SubmitNew)


@pytest.mark.parametrize("dead", [False, True])
def test_a_run_that_waits_for_the_claim_of_another_gets_its_result_however_quickly_it_lands(
    bench: Bench, dead: bool
) -> None:
    bench.claimed_by_another()
    bench.dead = dead
    bench.on_sleep = lambda seconds: bench.write("0001-job", "0001-landed")
    assert bench.find(attempt=OTHER_RUN) == Stored(1, MANIFEST)
    assert bench.sleeps == [2.0]


def test_a_run_that_waits_for_another_request_is_not_noted(bench: Bench) -> None:
    bench.claimed_by_another()
    bench.on_sleep = lambda seconds: bench.write("0001-job", "0001-landed")
    assert isinstance(bench.find(fingerprint=OTHER, attempt=OTHER_RUN), SubmitNew)
    assert marked(OTHER_RUN) not in bench.names


@pytest.mark.parametrize("over", ["landed", "failed"])
def test_what_is_over_is_not_waited_for(bench: Bench, over: str) -> None:
    bench.submit()
    bench.store.entries[f"0001-{over}"] = {"manifest": MANIFEST, "error": {}}
    assert isinstance(bench.find(attempt=OTHER_RUN), SubmitNew)
    assert marked(OTHER_RUN) not in bench.names


def test_a_run_whose_note_is_refused_waits_all_the_same(bench: Bench) -> None:
    bench.submit()
    bench.store.failing[marked(OTHER_RUN)] = 99
    assert bench.found(attempt=OTHER_RUN).number == 1
    assert bench.sleeps == [0.2, 1.0]


# -- recording --------------------------------------------------------------------------------------------------------


def test_a_result_that_is_finished_at_once_and_has_no_id_keeps_its_links(bench: Bench) -> None:
    bench.claim()
    job = Job("", "conn", submitted_at=bench.now, meta={"seed": 1})
    bench.ledger.record(1, job, Finished(None, ("https://h/a.mp4",), {}, 3.5))
    again = bench.found()
    assert again.finished == Finished(None, ("https://h/a.mp4",), {"seed": 1}, 3.5)
    assert again.resumed


def test_a_job_with_an_id_is_polled_by_it(bench: Bench) -> None:
    bench.claim()
    assert bench.record(finished=FINISHED).finished == FINISHED
    assert bench.found().finished is None
    assert "secret" not in str(bench.store.entries), "its links are fetched again, and may be signed"


def test_a_record_that_is_refused_does_not_lose_the_job(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    bench.claim()
    bench.store.failing["0001-job"] = 99
    assert bench.record(finished=FINISHED).job.job_id == "job1"
    last = caplog.records[-1]
    assert last.levelno == logging.ERROR
    assert "job1" in last.getMessage()
    assert "secret" not in caplog.text
    assert bench.sleeps == [0.2, 1.0]


def test_a_record_that_is_refused_once_is_repeated(bench: Bench) -> None:
    bench.claim()
    bench.store.failing["0001-job"] = 1
    bench.record()
    assert "0001-job" in bench.names


def test_a_time_out_while_the_id_is_written_does_not_lose_it(bench: Bench) -> None:
    struck: list[str] = []

    def strike(name: str) -> None:
        if name == "0001-job" and not struck:
            struck.append(name)
            raise KeyboardInterrupt

    bench.claim()
    bench.store.on_create = strike
    with pytest.raises(KeyboardInterrupt):
        bench.record()
    assert bench.found().job.job_id == "job1"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RateLimitError("too many"), "released"),
        (TransportError("not reached"), "released"),
        (JobFailedError("bad clip", job_id="7"), "failed"),
        (JobLostError("gone", job_id="7"), "failed"),
        (SubmissionUnknownError("no answer"), "unknown"),
    ],
)
def test_how_a_submit_failed(bench: Bench, error: ModelsLabError, kind: str) -> None:
    bench.claim()
    bench.ledger.record_error(1, error)
    assert bench.names == {"0001-claim", f"0001-{kind}"}
    told = bench.store.entries[f"0001-{kind}"]["error"]
    assert (told["code"], told["job_id"]) == (error.code, error.job_id)
    assert error.sent
    assert getattr(error, "submission", 1) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), TypeError("a defect")])
def test_a_submit_that_ended_in_any_other_way_may_have_left(bench: Bench, error: BaseException) -> None:
    bench.claim()
    bench.ledger.record_error(1, error)
    assert bench.store.entries["0001-unknown"]["error"] == {"code": type(error).__name__}


def test_every_state_survives_the_loss_of_either_mirror() -> None:
    for lost in (0, 1):
        stores = MemoryLedgerStore(), MemoryLedgerStore()
        ledger = Ledger(MirroredLedgerStore(*stores), clock=lambda: 1e9, is_dead=lambda process: False)
        assert ledger.claim(1, WANTED, MINE, lease=300, name="name", track_id="track")
        ledger.record(1, Job("job1", "conn"))
        stores[lost].entries.clear()
        found = ledger.find(WANTED, LedgerPolicy(), MINE)
        assert isinstance(found, Submission)
        assert found.job.job_id == "job1"
        ledger.landed(1, MANIFEST)
        stores[1 - lost].entries.clear()
        assert ledger.find(WANTED, LedgerPolicy(), MINE) == Stored(1, MANIFEST)


# -- what a person decides --------------------------------------------------------------------------------------------


def test_a_person_lets_the_next_attempt_submit_again(bench: Bench) -> None:
    bench.claim()
    bench.ledger.record_error(1, SubmissionUnknownError("no usable answer"))
    assert bench.ledger.resolve(1, by="maria@ops", why="the gateway was down")
    entry = bench.store.entries["0001-resolved"]
    assert (entry["decision"], entry["by"], entry["why"], entry["version"]) == (
        "resubmit",
        "maria@ops",
        "the gateway was down",
        FORMAT_VERSION,
    )
    found = bench.find()
    assert isinstance(found, SubmitNew)
    assert found.number == 2
    assert not bench.ledger.resolve(1, by="maria@ops", why="once more")


def test_only_what_is_unknown_is_resolved(bench: Bench) -> None:
    assert not bench.ledger.resolve(1, by="x", why="nothing was submitted")
    bench.claim()
    assert not bench.ledger.resolve(1, by="x", why="its process may be submitting")
    bench.now += 301
    assert not bench.ledger.resolve(2, by="x", why="another submission")
    bench.record()
    assert not bench.ledger.resolve(1, by="x", why="its job is known")
    assert "0001-resolved" not in bench.names


def test_a_claim_whose_process_ended_without_an_outcome_is_resolved(bench: Bench) -> None:
    bench.claim()
    bench.now += 301
    assert bench.ledger.resolve(1, by="x", why="the worker is gone")
    assert isinstance(bench.find(), SubmitNew)


def test_a_job_that_turns_up_after_a_person_decided_is_waited_for(bench: Bench) -> None:
    bench.claim()
    bench.now += 301
    assert bench.ledger.resolve(1, by="x", why="the worker is gone")
    bench.record(1)  # it was only slow
    assert bench.found().job.job_id == "job1"


@pytest.mark.parametrize("copy_alone", [False, True])
def test_what_a_person_decides_in_s3_counts_where_entries_are_mirrored(copy_alone: bool) -> None:
    """The command sees S3 alone; the task reads S3 and its state, which may know a job that S3 does not."""
    stores = MemoryLedgerStore(), MemoryLedgerStore()
    now = 1e9
    task = Ledger(MirroredLedgerStore(*stores), clock=lambda: now, sleep=lambda _: None, is_dead=lambda _: False)
    assert task.claim(1, WANTED, MINE, lease=300, name="name", track_id="track")
    if copy_alone:
        task.record(1, Job("job1", "conn"))
        del stores[0].entries["0001-job"]
    now += 301
    assert Ledger(stores[0], clock=lambda: now, is_dead=lambda _: False).resolve(1, by="x", why="gone")
    found = task.find(WANTED, LedgerPolicy(), MINE)
    assert isinstance(found, Submission if copy_alone else SubmitNew)
    assert found.number == (1 if copy_alone else 2)


# -- superseded -------------------------------------------------------------------------------------------------------


def test_what_was_superseded_is_not_landed(bench: Bench) -> None:
    first = bench.submit()
    bench.submit(2, fingerprint=OTHER)
    bench.ledger.refuse_if_superseded(first)  # a moment ago it was the last one; a listing each would cost
    bench.now += 60
    with pytest.raises(ChangedRequestError) as caught:
        bench.ledger.refuse_if_superseded(first)
    assert caught.value.job_id == "job1"
    bench.store.entries["0002-released"] = {}
    bench.ledger.refuse_if_superseded(first)


def test_a_ledger_that_cannot_be_read_does_not_keep_a_result_from_landing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    first = bench.submit()
    bench.now += 60
    bench.store.failing["load"] = 1
    bench.ledger.refuse_if_superseded(first)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


# -- what a person found out ------------------------------------------------------------------------------------------


def adopt(bench: Bench, job_id: str = "7", *, number: int | None = None, fingerprint: Fingerprint = WANTED) -> bool:
    request = {"prompt": "a cat"}
    return bench.ledger.adopt(job_id, number=number, conn_id="conn", fingerprint=fingerprint, request=request)


def test_a_job_that_a_person_found_is_attached_to(bench: Bench) -> None:
    assert not adopt(bench), "nothing was claimed"
    bench.claim()
    bench.now += 9
    bench.ledger.record_error(1, SubmissionUnknownError("no answer"))
    assert adopt(bench)
    assert not adopt(bench, "8"), "it has one"
    found = bench.found()
    assert (found.job.job_id, found.job.request) == ("7", {"prompt": "a cat"})
    # As late as the claim, and no later.
    assert found.job.submitted_at == datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp()


def test_a_job_goes_to_the_submission_that_it_was_found_for(bench: Bench) -> None:
    bench.claim()
    bench.ledger.record_error(1, SubmissionUnknownError("no answer"))
    bench.claim(2)
    bench.ledger.record_error(2, RateLimitError("too many"))
    assert adopt(bench)  # submission 2 was refused, so the last one that counts is 1
    assert bench.found().number == 1
    bench.claimed_by_another(3)
    assert not adopt(bench, number=1)
    assert "0003-job" not in bench.names


def test_the_request_of_now_is_not_stored_with_a_job_that_was_for_another(bench: Bench) -> None:
    bench.claim()
    bench.ledger.record_error(1, SubmissionUnknownError("no answer"))
    assert adopt(bench, number=1, fingerprint=OTHER)
    assert bench.store.entries["0001-job"]["request"] == {}


# -- work that nobody is billed for -----------------------------------------------------------------------------------


def test_local_work_is_reused_when_it_has_landed(bench: Bench) -> None:
    def found(fingerprint: Fingerprint = WANTED, *, gone: tuple[int, ...] = ()) -> Stored | None:
        return bench.ledger.find_stored(fingerprint, LedgerPolicy(), MINE, gone=gone)

    assert found() is None
    bench.ledger.record_stored(WANTED, MINE, MANIFEST)
    assert bench.store.entries["0001-claim"]["billed"] is False
    assert found() == Stored(1, MANIFEST)
    assert found(OTHER) is None
    assert found(gone=(1,)) is None
    other = {"uri": "s3://clips/other"}
    bench.ledger.record_stored(OTHER, MINE, other)
    assert found(OTHER) == Stored(2, other)


def test_local_work_is_done_again_when_its_process_was_killed_at_writing(bench: Bench) -> None:
    bench.claimed_by_another()
    bench.store.entries["0001-claim"]["billed"] = False
    bench.dead = True
    assert bench.ledger.find_stored(WANTED, LedgerPolicy(), MINE) is None
    bench.ledger.record_stored(WANTED, MINE, MANIFEST)
    assert bench.ledger.find_stored(WANTED, LedgerPolicy(), MINE) == Stored(2, MANIFEST)
    assert bench.find() == Stored(2, MANIFEST)


def test_local_work_asks_nobody_about_a_submission_of_unknown_outcome(bench: Bench) -> None:
    bench.claim()
    bench.ledger.record_error(1, SubmissionUnknownError("no answer"))
    assert bench.ledger.find_stored(WANTED, LedgerPolicy(), MINE) is None


def test_what_was_made_while_another_did_the_same_is_recorded_behind_it(bench: Bench) -> None:
    bench.store.on_create = lambda name: bench.claimed_by_another() if name == "0001-claim" else None
    bench.ledger.record_stored(WANTED, MINE, MANIFEST)
    assert bench.store.entries["0002-landed"]["manifest"] == MANIFEST
