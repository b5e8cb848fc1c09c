from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.store import (
    MAX_ATTEMPTS,
    QueueFullError,
    QueueStore,
    StateInUseError,
    TooManyDetailsError,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QueueStore]:
    with closing(QueueStore(tmp_path / "state")) as opened:
        yield opened


def add(store: QueueStore, name: str = "a", **changes: Any) -> QueuedJob:
    values: dict[str, Any] = {
        "owner": "me",
        "body": {"prompt": name},
        "base_url": "http://h",
        "file_prefix": name,
        "meta": {"seed": 1},
        "future_links": ["http://h/x.mp4"],
        "now": 100.0,
    }
    return store.add(**{**values, **changes})


def succeed(store: QueueStore, job: QueuedJob, *, seconds: float = 1.0, now: float = 200.0) -> QueuedJob | None:
    return store.succeed(job.id, output=["l"], files=["generations/f"], meta={"seed": 2}, seconds=seconds, now=now)


def test_jobs_come_out_in_the_order_in_which_they_went_in(store: QueueStore) -> None:
    first, second = add(store, "a"), add(store, "b")
    claimed = store.claim(101.0)
    assert claimed is not None
    assert (claimed.id, claimed.status, claimed.attempts, claimed.started_at) == (first.id, "running", 1, 101.0)
    following = store.claim(102.0)
    assert following is not None
    assert following.id == second.id
    assert store.claim(103.0) is None


def test_an_interrupted_job_keeps_its_place_and_is_not_blamed(store: QueueStore) -> None:
    first = add(store, "a")
    add(store, "b")
    store.claim(1.0)
    store.requeue(first.id)
    again = store.claim(2.0)
    assert again is not None
    assert (again.id, again.attempts) == (first.id, 1)


def test_a_finished_job_is_remembered_whole(store: QueueStore) -> None:
    job = add(store)
    store.claim(1.0)
    assert succeed(store, job) == store.get(job.id) == store.by_prefix("a")
    done = store.get(job.id)
    assert done is not None
    assert (done.status, done.output, done.files, done.meta) == ("success", ("l",), ("generations/f",), {"seed": 2})
    assert done.future_links == ("http://h/x.mp4",)
    assert (done.seconds, done.finished_at, done.created_at) == (1.0, 200.0, 100.0)


def test_everything_is_on_disk_at_once(store: QueueStore, tmp_path: Path) -> None:
    job = add(store)
    with closing(sqlite3.connect(tmp_path / "state" / "endpoint.db")) as other:
        assert other.execute("SELECT id, status FROM jobs").fetchall() == [(job.id, "queued")]
        store.claim(1.0)
        assert other.execute("SELECT status FROM jobs").fetchall() == [("running",)]
        succeed(store, job)
        assert other.execute("SELECT status FROM jobs").fetchall() == [("success",)]


def test_what_was_accepted_is_synced_to_the_disk_and_the_rest_costs_no_sync(store: QueueStore) -> None:
    def synchronous() -> int:
        level: int = store.database._writer.execute("PRAGMA synchronous").fetchone()[0]
        return level

    full, normal = 2, 1
    store.claim(1.0)
    assert synchronous() == normal
    job = add(store)
    assert synchronous() == full
    store.claim(1.0)
    succeed(store, job)
    assert synchronous() == normal
    store.clear()
    assert synchronous() == full
    store.expire(1.0)
    store.set_s3("me", "video", {})
    assert synchronous() == full


def test_jobs_of_a_dead_process_go_back_to_the_queue(tmp_path: Path) -> None:
    with closing(QueueStore(tmp_path)) as before:
        job = add(before)
        before.claim(1.0)
    with closing(QueueStore(tmp_path)) as after:
        after.recover(2.0)
        again = after.claim(3.0)
        assert again is not None
        assert (again.id, again.attempts, again.body) == (job.id, 2, {"prompt": "a"})


def test_a_job_that_kills_the_process_again_and_again_is_given_up(store: QueueStore) -> None:
    job = add(store)
    for _ in range(MAX_ATTEMPTS):
        assert store.claim(1.0) is not None
        store.recover(2.0)
    assert store.claim(3.0) is None
    given_up = store.get(job.id)
    assert given_up is not None
    assert given_up.status == "failed"
    assert "stopped 3 times" in given_up.message


def test_only_one_endpoint_at_a_time_has_a_state_directory(store: QueueStore, tmp_path: Path) -> None:
    with pytest.raises(StateInUseError, match="another state directory"):
        QueueStore(tmp_path / "state")
    store.close()
    store.close()  # once more does nothing
    with closing(QueueStore(tmp_path / "state")) as following:
        assert following.claim(1.0) is None


def test_the_database_is_for_its_owner_alone(store: QueueStore, tmp_path: Path) -> None:
    add(store)
    files = list((tmp_path / "state").iterdir())
    assert {"endpoint.db", "endpoint.db-wal", "lock"} <= {file.name for file in files}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_the_key_is_not_kept(store: QueueStore, tmp_path: Path) -> None:
    owner = store.owner("secret-key-1")
    assert owner == store.owner("secret-key-1") != store.owner("secret-key-2")
    with closing(QueueStore(tmp_path / "another")) as another:
        assert another.owner("secret-key-1") != owner
    add(store, owner=owner)
    assert not any(b"secret-key-1" in file.read_bytes() for file in (tmp_path / "state").iterdir())


def test_a_full_queue_counts_the_unfinished_jobs_of_one_key(store: QueueStore) -> None:
    first = add(store, "a", max_queue=2)
    store.claim(1.0)
    add(store, "b", max_queue=2)
    with pytest.raises(QueueFullError):
        add(store, "c", max_queue=2)
    add(store, "d", owner="you", max_queue=2)
    succeed(store, first)
    assert add(store, "c", max_queue=2).status == "queued"


def test_a_full_queue_counts_the_unfinished_jobs_of_all_keys(store: QueueStore) -> None:
    for owner in "abc":
        add(store, owner, owner=owner, max_queue=2, max_total_queue=3)
    with pytest.raises(QueueFullError) as caught:
        add(store, "d", owner="d", max_queue=2, max_total_queue=3)
    assert caught.value.most == 3
    assert store.clear("a") == [1]
    assert add(store, "d", owner="d", max_queue=2, max_total_queue=3).status == "queued"


def test_keys_take_turns_and_each_ones_jobs_keep_their_order(store: QueueStore) -> None:
    for name in ("a1", "a2", "a3", "b1", "c1", "c2"):
        add(store, name, owner=name[0])

    def order(most: int, **served: int) -> str:
        return " ".join(f"{job.owner}{job.id}" for job in store.waiting(most, served))

    assert order(9) == "a1 b4 c5 a2 c6 a3"
    assert order(9, a=2, b=1) == "c5 b4 a1 c6 a2 a3"
    assert order(2, a=2, b=1) == "c5 b4"
    assert order(1, b=1) == "a1"
    store.clear()
    assert order(9) == ""


def test_s3_details_of_so_many_and_no_more_are_kept(store: QueueStore) -> None:
    store.set_s3("a", "video", {"n": "1"}, most=2)
    store.set_s3("a", "flux", {"n": "2"}, most=2)
    with pytest.raises(TooManyDetailsError):
        store.set_s3("b", "video", {"n": "3"}, most=2)
    store.set_s3("a", "flux", {"n": "4"}, most=2)  # in the place of another
    assert store.s3("a", "flux") == {"n": "4"}
    store.reset_s3("a", "video")
    store.set_s3("b", "video", {"n": "3"}, most=2)


def test_many_threads_never_pass_the_limit_nor_share_a_job(store: QueueStore) -> None:
    claimed: list[int] = []

    def submit_and_claim(worker: int) -> None:
        for i in range(5):
            try:
                add(store, f"{worker}-{i}", max_queue=30)
            except QueueFullError:
                continue
        while (job := store.claim(1.0)) is not None:
            claimed.append(job.id)

    threads = [threading.Thread(target=submit_and_claim, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(claimed) == list(range(1, 31))


def test_clearing_forgets_unfinished_jobs_and_never_gives_their_ids_again(store: QueueStore) -> None:
    done, running, queued = add(store, "a"), add(store, "b"), add(store, "c")
    store.claim(1.0)
    succeed(store, done)
    store.claim(1.0)
    assert len(store.clear()) == 2
    assert store.get(running.id) is store.get(queued.id) is None
    assert succeed(store, running) is None
    assert store.fail(running.id, message="x", now=1.0) is None
    store.requeue(running.id)
    assert store.claim(1.0) is None
    assert store.get(done.id) is not None
    assert add(store, "d").id > queued.id


def test_expiry_takes_finished_jobs_only(store: QueueStore) -> None:
    old, young = add(store, "a"), add(store, "b")
    add(store, "c")
    for job, now in ((old, 200.0), (young, 201.0)):
        store.claim(1.0)
        succeed(store, job, now=now)
    assert [job.files for job in store.expire(200.0)] == [("generations/f",)]
    assert store.get(old.id) is None
    assert store.get(young.id) is not None
    assert store.claim(1.0) is not None


def test_figures_for_the_estimate(store: QueueStore) -> None:
    assert store.typical_seconds() is None
    assert store.ahead_of() == 0
    jobs = [add(store, name) for name in "abcde"]
    for job, seconds in zip(jobs[:3], (1.0, 9.0, 2.0), strict=True):
        store.claim(1.0)
        succeed(store, job, seconds=seconds)
    store.claim(1.0)
    assert store.typical_seconds() == 2.0
    assert (store.ahead_of(jobs[3].id), store.ahead_of(jobs[4].id), store.ahead_of()) == (0, 1, 2)


def test_s3_details_belong_to_a_key_and_a_deploy_type(store: QueueStore) -> None:
    store.set_s3("me", "video", {"region_name": "a"})
    store.set_s3("me", "video", {"region_name": "b"})
    assert store.s3("me", "video") == {"region_name": "b"}
    assert store.s3("me", "text_to_image") is store.s3("you", "video") is None
    store.reset_s3("me", "video")
    assert store.s3("me", "video") is None
