from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.endpoint.faults.plan import FaultPlan
from airflow_provider_modelslab.endpoint.queue.billing import Bills, fingerprint
from airflow_provider_modelslab.endpoint.queue.store import QueueFullError, QueueStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QueueStore]:
    with closing(QueueStore(tmp_path / "state")) as opened:
        yield opened


def add(store: QueueStore, name: str, **changes: Any) -> int:
    values: dict[str, Any] = {
        "owner": "me",
        "body": {"prompt": name, "track_id": f"track {name}"},
        "base_url": "http://h",
        "file_prefix": name,
        "meta": {},
        "future_links": [],
        "now": 100.0,
        "bill": "mark",
    }
    return store.add(**{**values, **changes}).id


def request(**changes: Any) -> Video2VideoRequest:
    return Video2VideoRequest(**{"model_id": "m", "prompt": "p", "init_video": "https://h/a.gif", **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"track_id": "t"},
        {"webhook": "https://h/hook"},
        {"extra_parameters": {"x_faults": ["hang"]}},
        {"num_frames": 16, "strength": "0.7"},
    ],
)
def test_requests_for_the_same_job_share_a_fingerprint(changes: Any) -> None:
    assert fingerprint(request(**changes)) == fingerprint(request())


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "q"},
        {"seed": 0},
        {"init_video": "https://h/a.gif?X-Amz-Signature=1"},
        {"temp": True},
        {"extra_parameters": {"x_clip_mode": "whole"}},
    ],
)
def test_requests_for_another_job_do_not(changes: Any) -> None:
    assert fingerprint(request(**changes)) != fingerprint(request())


def test_a_job_and_its_bill_are_written_at_once_or_not_at_all(store: QueueStore) -> None:
    faults = FaultPlan().asked(["hang", "malformed"], "a", 0)
    first = add(store, "a", faults=faults, max_queue=1)
    with pytest.raises(QueueFullError):
        add(store, "b", max_queue=1)
    with pytest.raises(sqlite3.IntegrityError):
        add(store, "a")  # the same file_prefix
    unbilled = add(store, "c", bill=None)
    assert Bills(store).jobs() == [
        {
            "id": first,
            "track_id": "track a",
            "fingerprint": "mark",
            "key_hash": "me",
            "accepted_at": 100.0,
            "status": "queued",
            "faults": ["hang", "malformed"],
        }
    ]
    kept = store.get(first)
    assert kept is not None
    assert kept.faults == faults
    assert store.get(unbilled) is not None


def test_bills_outlive_the_jobs_and_the_process(store: QueueStore, tmp_path: Path) -> None:
    add(store, "a")
    add(store, "b")
    assert len(store.clear()) == 2
    store.close()
    with closing(QueueStore(tmp_path / "state")) as following:
        assert [bill["status"] for bill in Bills(following).jobs()] == ["gone", "gone"]


def test_a_job_that_is_not_to_end_is_never_taken_and_counts_as_unfinished(store: QueueStore) -> None:
    stuck = add(store, "a", faults=FaultPlan().asked("never_ending", "a", 0))
    assert store.claim(1.0) is None
    assert (store.unfinished("me"), store.ahead_of()) == (1, 0)
    with pytest.raises(QueueFullError):
        add(store, "b", max_queue=1)
    store.recover(2.0)
    assert store.claim(3.0) is None
    store.recover(4.0, keep_stuck=False)
    claimed = store.claim(5.0)
    assert claimed is not None
    assert claimed.id == stuck


def test_tallies(store: QueueStore) -> None:
    bills = Bills(store)
    assert [bills.tally("submits", "a"), bills.tally("submits", "a"), bills.tally("submits", "b")] == [1, 2, 1]
    assert bills.tally("fetches", "a") == 1
    add(store, "a")
    bills.reset("submits")
    assert (bills.jobs(), bills.tallies("submits"), bills.tallies("fetches")) == ([], {}, {"a": 1})


def test_a_database_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path) -> None:
    with closing(QueueStore(tmp_path)) as store:
        job = add(store, "a", bill=None)
    with closing(sqlite3.connect(tmp_path / "endpoint.db")) as database:
        database.execute("ALTER TABLE jobs DROP COLUMN faults")
        database.execute("DROP TABLE bills")
    with closing(QueueStore(tmp_path)) as store:
        claimed = store.claim(1.0)
        assert claimed is not None
        assert (claimed.id, bool(claimed.faults)) == (job, False)
        assert Bills(store).jobs() == []
