"""One ledger for each result, in a real S3: found by one look, claimed once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from airflow_provider_modelslab.batch.ledgers import ClipLedgers
from airflow_provider_modelslab.storage.ledger import Fingerprint, LedgerPolicy
from airflow_provider_modelslab.storage.ledger_stores import MemoryLedgerStore, MirroredLedgerStore
from airflow_provider_modelslab.storage.purchase import Attempt, Landed, Ledger, Purchase, Send

from airflow_provider_modelslab.api.errors import ChangedRequestError, StorageConfigurationError
from airflow_provider_modelslab.storage.manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import counted
from tests.support.s3 import keys_of, refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FINGERPRINT = Fingerprint("r", "s")


@pytest.fixture
def root(bucket: str) -> S3Uri:
    return S3Uri(bucket, "_modelslab/ledger")


class Seller:
    """Counts what is paid for."""

    def __init__(self) -> None:
        self.sold = 0
        self._lock = threading.Lock()

    def __call__(self, take: int) -> tuple[Job, None]:
        with self._lock:
            self.sold += 1
            return Job(f"job-{self.sold}", "c", submitted_at=1.0), None

    def prepare(self) -> Send:
        return self


def buy(ledger: Ledger, seller: Seller) -> Purchase | Landed:
    return ledger.acquire(FINGERPRINT, LedgerPolicy(), Attempt(), seller.prepare)


def destinations(bucket: str, *names: str) -> list[S3Uri]:
    return [S3Uri(bucket, f"out/{name}.mp4") for name in names]


@pytest.mark.usefixtures("small_pages")
def test_one_look_tells_what_has_entries(s3: S3Client, bucket: str, root: S3Uri) -> None:
    a, b, deep, new = destinations(bucket, "a", "b", "x/y", "new")
    ledgers, seller = ClipLedgers(s3, root), Seller()
    found = {uri: buy(ledgers.open(uri), seller) for uri in (a, b, deep)}
    ledgers.open(b).landed(found[b].take, {"uri": str(b)})
    survey = ClipLedgers(s3, root).survey([a, b, deep, new])
    assert survey.names(a) == frozenset({"0001-claim", "0001-job"})
    assert survey.names(b) == frozenset({"0001-claim", "0001-job", "0001-landed"})
    assert survey.names(deep) == frozenset({"0001-claim", "0001-job"})
    assert survey.names(new) == frozenset()
    assert [survey.is_new(uri) for uri in (a, b, deep, new)] == [False, False, False, True]
    assert survey.names(S3Uri(bucket, "out/not-asked-for.mp4")) is None


def test_the_look_takes_one_request_for_all_folders(s3: S3Client, bucket: str, root: S3Uri) -> None:
    deep = "/".join("abcdefghijklmnopqrst")
    uris = destinations(bucket, "a", "b", "x/a", "y/z/b", f"{deep}/a", f"{deep[:-2]}/a")
    seller = Seller()
    buy(ClipLedgers(s3, root).open(uris[-1]), seller)
    with counted(s3) as called:
        survey = ClipLedgers(s3, root).survey(uris)
    assert called == ["ListObjectsV2"]
    assert [survey.is_new(uri) for uri in uris] == [True] * 5 + [False]
    assert ClipLedgers(s3, root).survey([]).names(uris[0]) is None


def test_a_new_clip_is_not_read_before_its_claim(s3: S3Client, bucket: str, root: S3Uri) -> None:
    ledgers, seller = ClipLedgers(s3, root), Seller()
    uris = destinations(bucket, "a", "b")
    survey = ledgers.survey(uris)
    buy(ledgers.open(uris[0], survey), seller)  # finds out about conditional puts on the way
    with counted(s3) as called:
        buy(ledgers.open(uris[1], survey), seller)
    assert called == ["PutObject", "GetObject", "PutObject"]  # the claim, read back, and the job
    assert seller.sold == 2


def test_conditional_puts_are_tried_once_for_all_clips(s3: S3Client, bucket: str, root: S3Uri) -> None:
    ledgers = ClipLedgers(s3, root)
    with counted(s3) as called, ThreadPoolExecutor(8) as pool:
        list(pool.map(ledgers.open, destinations(bucket, *"abcdefgh")))
    assert called.count("PutObject") == 3  # two conditional ones, and the finding
    with counted(s3) as called:
        assert ClipLedgers(s3, root).conditional
    assert called == ["GetObject"]


def test_an_old_look_pays_nothing_twice(s3: S3Client, bucket: str, root: S3Uri) -> None:
    (uri,) = destinations(bucket, "a")
    mine, theirs, seller = ClipLedgers(s3, root), ClipLedgers(s3, root), Seller()
    survey = mine.survey([uri])
    theirs_found = buy(theirs.open(uri), seller)
    found = buy(mine.open(uri, survey), seller)
    assert seller.sold == 1
    assert isinstance(found, Purchase)
    assert isinstance(theirs_found, Purchase)
    assert found.resumed
    assert found.job.job_id == theirs_found.job.job_id
    theirs.open(uri).landed(found.take, {"uri": str(uri)})
    assert isinstance(buy(mine.open(uri, survey), seller), Landed)  # the same old look, a third time


class Clock:
    """The time of the module that keeps the ledgers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0.0
        monkeypatch.setattr("airflow_provider_modelslab.batch.ledgers.time.monotonic", lambda: 1000.0 + self.passed)


def test_a_look_is_believed_for_a_minute_from_when_it_was_taken(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch looks once, and comes to its last clip hours later: another run may have made that one by then."""
    (uri,) = destinations(bucket, "a")
    clock, mine = Clock(monkeypatch), ClipLedgers(s3, root)
    survey = mine.survey([uri])
    ClipLedgers(s3, root).open(uri).record_landed(FINGERPRINT, Attempt(), {"uri": str(uri), "job_id": "theirs"})
    clock.passed = 59.0
    assert mine.open(uri, survey, claims=False).find_landed(FINGERPRINT, LedgerPolicy(), Attempt()) is None
    clock.passed = 61.0
    found = mine.open(uri, survey, claims=False).find_landed(FINGERPRINT, LedgerPolicy(), Attempt())
    assert found == Landed(1, {"uri": str(uri), "job_id": "theirs"})


def test_what_is_claimed_first_is_not_listed_however_old_the_look(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each clip of a long batch: a listing costs as much as two puts."""
    clock, ledgers, seller = Clock(monkeypatch), ClipLedgers(s3, root), Seller()
    first, second = destinations(bucket, "a", "b")
    survey = ledgers.survey([first, second])
    assert ledgers.conditional
    theirs = buy(ClipLedgers(s3, root).open(second), seller)
    clock.passed = 3600.0
    with counted(s3) as called:
        buy(ledgers.open(first, survey), seller)
    assert called == ["PutObject", "GetObject", "PutObject"]  # the claim, read back, and the job
    found = buy(ledgers.open(second, survey), seller)
    assert isinstance(found, Purchase)
    assert isinstance(theirs, Purchase)
    assert (found.job, found.resumed, seller.sold) == (theirs.job, True, 2)


def test_what_landed_is_recorded_although_another_did_the_same_since_the_look(
    s3: S3Client, bucket: str, root: S3Uri
) -> None:
    (uri,) = destinations(bucket, "a")
    mine = ClipLedgers(s3, root)
    survey = mine.survey([uri])
    for job_id, ledger in [("theirs", ClipLedgers(s3, root).open(uri)), ("mine", mine.open(uri, survey))]:
        ledger.record_landed(FINGERPRINT, Attempt(), {"uri": str(uri), "job_id": job_id})
    found = mine.open(uri).find_landed(FINGERPRINT, LedgerPolicy(), Attempt())
    assert found == Landed(2, {"uri": str(uri), "job_id": "mine"})


def test_whether_a_job_is_still_the_last_one_costs_no_request_after_a_recent_look(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    (uri,) = destinations(bucket, "a")
    clock, seller = Clock(monkeypatch), Seller()
    bought = buy(ClipLedgers(s3, root).open(uri), seller)
    assert isinstance(bought, Purchase)
    ledgers = ClipLedgers(s3, root)  # of the process that resumes
    resumed, survey = Purchase(bought.take, bought.job), ledgers.survey([uri])
    assert ledgers.conditional
    with counted(s3) as called:
        ledgers.open(uri).refuse_if_superseded(bought)
        ledgers.open(uri, survey).refuse_if_superseded(resumed)
    assert called == []
    other = Fingerprint("another", "s")
    ClipLedgers(s3, root).open(uri).acquire(other, LedgerPolicy(), Attempt(), seller.prepare)
    clock.passed = 61.0
    with counted(s3) as called, pytest.raises(ChangedRequestError, match="take 2 was paid for since") as raised:
        ledgers.open(uri, survey).refuse_if_superseded(resumed)
    assert (called, raised.value.job_id) == (["ListObjectsV2"], "job-1")


def test_many_workers_with_the_same_old_look_pay_once_for_each_clip(s3: S3Client, bucket: str, root: S3Uri) -> None:
    uris = destinations(bucket, "a", "b", "c")
    ledgers, seller = ClipLedgers(s3, root), Seller()
    survey = ledgers.survey(uris)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda uri: (uri, buy(ledgers.open(uri, survey), seller)), uris * 2))
    assert seller.sold == 3
    jobs: dict[S3Uri, set[str]] = {}
    for uri, bought in found:
        assert isinstance(bought, Purchase)
        jobs.setdefault(uri, set()).add(bought.job.job_id)
    assert all(len(ids) == 1 for ids in jobs.values())


@pytest.mark.usefixtures("small_pages")
def test_a_folder_with_far_more_ledgers_is_not_listed_to_its_end(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.batch.ledgers.listing_budget", lambda requests: 4 * requests)
    ledgers, seller = ClipLedgers(s3, root), Seller()
    uris = destinations(bucket, *(f"{number:02d}" for number in range(8)))
    for uri in uris:
        buy(ledgers.open(uri), seller)
    first, *_, last = sorted(uris, key=lambda uri: ledgers.folder(uri).key)
    with counted(s3) as called:
        survey = ledgers.survey([last, first])
    assert called == ["ListObjectsV2"] * 4  # pages of two entries
    assert survey.names(first) == frozenset({"0001-claim", "0001-job"})
    assert survey.names(last) is None  # unknown, and so not taken for new
    assert not survey.is_new(last)
    bought = buy(ledgers.open(last, survey), seller)
    assert (isinstance(bought, Purchase) and bought.resumed, seller.sold) == (True, 8)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("budget", range(1, 11, 2))
def test_a_look_that_ends_anywhere_takes_none_for_new_that_is_not(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.batch.ledgers.listing_budget", lambda requests: budget)
    ledgers, seller = ClipLedgers(s3, root), Seller()
    uris, new = destinations(bucket, "a", "b", "c"), destinations(bucket, "d", "e", "f")
    for uri in uris:
        ledgers.open(uri).landed(buy(ledgers.open(uri), seller).take, {"uri": str(uri)})
    survey = ledgers.survey(uris + new)
    for uri in uris:
        assert survey.names(uri) in (None, frozenset({"0001-claim", "0001-job", "0001-landed"}))
    for uri in new:
        assert survey.names(uri) in (None, frozenset())


def test_any_batch_finds_the_ledger_of_a_destination(s3: S3Client, bucket: str, root: S3Uri) -> None:
    (uri,) = destinations(bucket, "x/a")
    folder = ClipLedgers(s3, root).folder(uri)
    assert folder == ClipLedgers(s3, S3Uri(bucket, "_modelslab/ledger/")).folder(S3Uri.parse(str(uri)))
    assert folder.key.startswith("_modelslab/ledger/clips/")
    buy(ClipLedgers(s3, root).open(uri), Seller())
    assert [key for key in keys_of(s3, bucket) if key.startswith(f"{folder.key}/")] == [
        f"{folder.key}/0001-claim.json",
        f"{folder.key}/0001-job.json",
    ]


def test_a_second_copy_can_be_put_around_each_store(s3: S3Client, bucket: str, root: S3Uri) -> None:
    copies: dict[S3Uri, MemoryLedgerStore] = {}

    def wrap(store: Any, destination: S3Uri) -> MirroredLedgerStore:
        return MirroredLedgerStore(store, copies.setdefault(destination, MemoryLedgerStore()))

    (uri,) = destinations(bucket, "a")
    buy(ClipLedgers(s3, root, wrap=wrap).open(uri), Seller())
    assert sorted(copies[uri].entries) == ["0001-claim", "0001-job"]


def test_a_look_that_is_refused_is_an_error(s3: S3Client, bucket: str, root: S3Uri) -> None:
    with (
        refusing(s3, "ListObjectsV2", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError, match="grant s3:ListBucket"),
    ):
        ClipLedgers(s3, root).survey(destinations(bucket, "a"))
