"""One ledger for each result, in a real S3: found by one listing, claimed once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab.api.errors import ChangedRequestError, StorageConfigurationError
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import LedgerRoot, result_folder, task_folder
from airflow_provider_modelslab.ledger.model import Fingerprint, LedgerPolicy, Stored, Submission, TaskKey
from airflow_provider_modelslab.ledger.service import Ledger
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import counted
from tests.support.paid_jobs import WANTED, paid_job
from tests.support.s3 import keys_of, refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ATTEMPT = AttemptId("dag", "task", "run")


@pytest.fixture
def root(bucket: str) -> S3Uri:
    return S3Uri(bucket, "_modelslab/ledger")


class Vendor:
    """Counts what is submitted."""

    def __init__(self) -> None:
        self.submitted = 0
        self._lock = threading.Lock()

    def __call__(self, number: int) -> tuple[Job, None]:
        with self._lock:
            self.submitted += 1
            return Job(f"job-{self.submitted}", "c", submitted_at=time.time()), None


def acquire(ledger: Ledger, vendor: Vendor, fingerprint: Fingerprint = WANTED) -> Stored | Submission:
    found = paid_job(ledger, vendor, attempt=ATTEMPT, fingerprint=fingerprint).acquire()
    assert isinstance(found, Stored | Submission)
    return found


def submission(ledger: Ledger, vendor: Vendor) -> Submission:
    found = acquire(ledger, vendor)
    assert isinstance(found, Submission)
    return found


def destinations(bucket: str, *names: str) -> list[S3Uri]:
    return [S3Uri(bucket, f"out/{name}.mp4") for name in names]


@pytest.mark.usefixtures("small_pages")
def test_one_listing_tells_what_has_entries(s3: S3Client, bucket: str, root: S3Uri) -> None:
    a, b, deep, new = destinations(bucket, "a", "b", "x/y", "new")
    ledgers, vendor = LedgerRoot(s3, root), Vendor()
    found = {uri: submission(ledgers.open(uri), vendor) for uri in (a, b, deep)}
    ledgers.open(b).landed(found[b].number, {"uri": str(b)})
    listing = LedgerRoot(s3, root).list([a, b, deep, new])
    assert listing.names(a) == frozenset({"0001-claim", "0001-job"})
    assert listing.names(b) == frozenset({"0001-claim", "0001-job", "0001-landed"})
    assert listing.names(deep) == frozenset({"0001-claim", "0001-job"})
    assert listing.names(new) == frozenset()
    assert [listing.is_new(uri) for uri in (a, b, deep, new)] == [False, False, False, True]
    assert listing.names(S3Uri(bucket, "out/not-asked-for.mp4")) is None


def test_the_listing_takes_one_request_for_all_folders(s3: S3Client, bucket: str, root: S3Uri) -> None:
    deep = "/".join("abcdefghijklmnopqrst")
    uris = destinations(bucket, "a", "b", "x/a", "y/z/b", f"{deep}/a", f"{deep[:-2]}/a")
    vendor = Vendor()
    acquire(LedgerRoot(s3, root).open(uris[-1]), vendor)
    with counted(s3) as called:
        listing = LedgerRoot(s3, root).list(uris)
    assert called == ["ListObjectsV2"]
    assert [listing.is_new(uri) for uri in uris] == [True] * 5 + [False]
    assert LedgerRoot(s3, root).list([]).names(uris[0]) is None


def test_a_new_clip_is_not_read_before_its_claim(s3: S3Client, bucket: str, root: S3Uri) -> None:
    ledgers, vendor = LedgerRoot(s3, root), Vendor()
    uris = destinations(bucket, "a", "b")
    listing = ledgers.list(uris)
    acquire(ledgers.open(uris[0], listing), vendor)  # finds out about conditional puts on the way
    with counted(s3) as called:
        acquire(ledgers.open(uris[1], listing), vendor)
    assert called == ["PutObject", "PutObject"]  # the claim and the job
    assert vendor.submitted == 2


def test_conditional_puts_are_tried_once_for_all_clips(s3: S3Client, bucket: str, root: S3Uri) -> None:
    ledgers = LedgerRoot(s3, root)
    with counted(s3) as called, ThreadPoolExecutor(8) as pool:
        list(pool.map(ledgers.open, destinations(bucket, *"abcdefgh")))
    assert called.count("PutObject") == 3  # two conditional ones, and the finding
    with counted(s3) as called:
        assert LedgerRoot(s3, root).conditional
    assert called == ["GetObject"]


def test_an_old_listing_pays_nothing_twice(s3: S3Client, bucket: str, root: S3Uri) -> None:
    (uri,) = destinations(bucket, "a")
    mine, theirs, vendor = LedgerRoot(s3, root), LedgerRoot(s3, root), Vendor()
    listing = mine.list([uri])
    theirs_found = submission(theirs.open(uri), vendor)
    found = submission(mine.open(uri, listing), vendor)
    assert vendor.submitted == 1
    assert found.resumed
    assert found.job.job_id == theirs_found.job.job_id
    theirs.open(uri).landed(found.number, {"uri": str(uri)})
    assert isinstance(acquire(mine.open(uri, listing), vendor), Stored)  # the same old listing, a third time


class Clock:
    """The time of the module that keeps the ledgers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.passed = 0.0
        monkeypatch.setattr("airflow_provider_modelslab.ledger.listing.time.monotonic", lambda: 1000.0 + self.passed)


def test_a_listing_is_trusted_for_a_minute_from_when_it_was_made(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch lists once, and comes to its last clip hours later: another run may have made that one by then."""
    (uri,) = destinations(bucket, "a")
    clock, mine = Clock(monkeypatch), LedgerRoot(s3, root)
    listing = mine.list([uri])
    LedgerRoot(s3, root).open(uri).record_stored(WANTED, ATTEMPT, {"uri": str(uri), "job_id": "theirs"})
    clock.passed = 59.0
    assert mine.open(uri, listing, claims=False).find_stored(WANTED, LedgerPolicy(), ATTEMPT) is None
    clock.passed = 61.0
    found = mine.open(uri, listing, claims=False).find_stored(WANTED, LedgerPolicy(), ATTEMPT)
    assert found == Stored(1, {"uri": str(uri), "job_id": "theirs"})


def test_what_is_claimed_first_is_not_listed_however_old_the_listing(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each clip of a long batch: a listing costs as much as two puts."""
    clock, ledgers, vendor = Clock(monkeypatch), LedgerRoot(s3, root), Vendor()
    first, second = destinations(bucket, "a", "b")
    listing = ledgers.list([first, second])
    assert ledgers.conditional
    theirs = submission(LedgerRoot(s3, root).open(second), vendor)
    clock.passed = 3600.0
    with counted(s3) as called:
        acquire(ledgers.open(first, listing), vendor)
    assert called == ["PutObject", "PutObject"]  # the claim and the job
    found = submission(ledgers.open(second, listing), vendor)
    assert (found.job, found.resumed, vendor.submitted) == (theirs.job, True, 2)


def test_what_landed_is_recorded_although_another_did_the_same_since_the_listing(
    s3: S3Client, bucket: str, root: S3Uri
) -> None:
    (uri,) = destinations(bucket, "a")
    mine = LedgerRoot(s3, root)
    listing = mine.list([uri])
    for job_id, ledger in [("theirs", LedgerRoot(s3, root).open(uri)), ("mine", mine.open(uri, listing))]:
        ledger.record_stored(WANTED, ATTEMPT, {"uri": str(uri), "job_id": job_id})
    found = mine.open(uri).find_stored(WANTED, LedgerPolicy(), ATTEMPT)
    assert found == Stored(2, {"uri": str(uri), "job_id": "mine"})


def test_whether_a_job_is_still_the_last_one_costs_no_request_after_a_recent_listing(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    (uri,) = destinations(bucket, "a")
    clock, vendor = Clock(monkeypatch), Vendor()
    paid = submission(LedgerRoot(s3, root).open(uri), vendor)
    ledgers = LedgerRoot(s3, root)  # of the process that resumes
    resumed, listing = Submission(paid.number, paid.job), ledgers.list([uri])
    assert ledgers.conditional
    with counted(s3) as called:
        ledgers.open(uri).refuse_if_superseded(paid)
        ledgers.open(uri, listing).refuse_if_superseded(resumed)
    assert called == []
    other = Fingerprint("another", "s")
    acquire(LedgerRoot(s3, root).open(uri), vendor, other)
    clock.passed = 61.0
    with counted(s3) as called, pytest.raises(ChangedRequestError, match="submission 2") as raised:
        ledgers.open(uri, listing).refuse_if_superseded(resumed)
    assert (called, raised.value.job_id) == (["ListObjectsV2"], "job-1")


def test_many_workers_with_the_same_old_listing_pay_once_for_each_clip(s3: S3Client, bucket: str, root: S3Uri) -> None:
    uris = destinations(bucket, "a", "b", "c")
    ledgers, vendor = LedgerRoot(s3, root), Vendor()
    listing = ledgers.list(uris)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda uri: (uri, submission(ledgers.open(uri, listing), vendor)), uris * 2))
    assert vendor.submitted == 3
    jobs: dict[S3Uri, set[str]] = {}
    for uri, paid in found:
        jobs.setdefault(uri, set()).add(paid.job.job_id)
    assert all(len(ids) == 1 for ids in jobs.values())


@pytest.mark.usefixtures("small_pages")
def test_a_folder_with_far_more_ledgers_is_not_listed_to_its_end(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.ledger.listing.listing_budget", lambda requests: 4 * requests)
    ledgers, vendor = LedgerRoot(s3, root), Vendor()
    uris = destinations(bucket, *(f"{number:02d}" for number in range(8)))
    for uri in uris:
        acquire(ledgers.open(uri), vendor)
    first, *_, last = sorted(uris, key=lambda uri: ledgers.folder(uri).key)
    with counted(s3) as called:
        listing = ledgers.list([last, first])
    assert called == ["ListObjectsV2"] * 4  # pages of two entries
    assert listing.names(first) == frozenset({"0001-claim", "0001-job"})
    assert listing.names(last) is None  # unknown, and so not taken for new
    assert not listing.is_new(last)
    assert (submission(ledgers.open(last, listing), vendor).resumed, vendor.submitted) == (True, 8)


@pytest.mark.usefixtures("small_pages")
@pytest.mark.parametrize("budget", range(1, 11, 2))
def test_a_listing_that_ends_anywhere_takes_none_for_new_that_is_not(
    s3: S3Client, bucket: str, root: S3Uri, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.ledger.listing.listing_budget", lambda requests: budget)
    ledgers, vendor = LedgerRoot(s3, root), Vendor()
    uris, new = destinations(bucket, "a", "b", "c"), destinations(bucket, "d", "e", "f")
    for uri in uris:
        ledgers.open(uri).landed(submission(ledgers.open(uri), vendor).number, {"uri": str(uri)})
    listing = ledgers.list(uris + new)
    for uri in uris:
        assert listing.names(uri) in (None, frozenset({"0001-claim", "0001-job", "0001-landed"}))
    for uri in new:
        assert listing.names(uri) in (None, frozenset())


def test_whoever_asks_finds_the_ledger_of_a_destination(s3: S3Client, bucket: str, root: S3Uri) -> None:
    (uri,) = destinations(bucket, "x/a")
    folder = LedgerRoot(s3, root).folder(uri)
    assert folder == result_folder(S3Uri(bucket, "_modelslab/ledger/"), S3Uri.parse(str(uri)))
    assert folder.key.startswith("_modelslab/ledger/results/")
    acquire(LedgerRoot(s3, root).open(uri), Vendor())
    assert [key for key in keys_of(s3, bucket) if key.startswith(f"{folder.key}/")] == [
        f"{folder.key}/0001-claim.json",
        f"{folder.key}/0001-job.json",
    ]


def test_a_task_without_a_destination_has_a_ledger_of_its_own(root: S3Uri) -> None:
    task = TaskKey("dag", "task", "run")
    assert task_folder(root, task).key == f"_modelslab/ledger/tasks/{task.digest()}"


def test_a_listing_that_is_refused_is_an_error(s3: S3Client, bucket: str, root: S3Uri) -> None:
    with (
        refusing(s3, "ListObjectsV2", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError, match="s3:ListBucket"),
    ):
        LedgerRoot(s3, root).list(destinations(bucket, "a"))
