from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_modelslab.endpoint.queue.scheduler import (
    MOST_OVERTAKES,
    MOST_SLOW,
    ScheduledJob,
    Scheduler,
    choose,
)
from airflow_provider_modelslab.endpoint.queue.store import MAX_ATTEMPTS, QueueStore, Waiting
from airflow_provider_modelslab.endpoint.workers.reading import Reading
from tests.support.endpoint_engine import ScriptedEngine, StagedEngine


@pytest.fixture
def store(tmp_path: Path) -> Iterator[QueueStore]:
    with closing(QueueStore(tmp_path)) as opened:
        yield opened


def add(store: QueueStore, *models: str, owner: str = "me") -> list[int]:
    """Queue a job for each model; returns their ids."""
    return [
        store.add(
            owner=owner, body={"model_id": model}, base_url="http://h", file_prefix=f"{model}-{store.ahead_of()}",
            meta={}, future_links=[], now=1.0,
        ).id
        for model in models
    ]  # fmt: skip


def scheduler_of(store: QueueStore, *engines: ScriptedEngine) -> Scheduler:
    return Scheduler(store, engines, lambda: 5.0)


def taken(scheduler: Scheduler, worker: int = 0) -> ScheduledJob:
    found = scheduler.take(worker)
    assert found is not None
    return found


def warm(*models: str) -> StagedEngine:
    return StagedEngine(models=list(models))


def waiting(*models: str) -> list[Waiting]:
    return [Waiting(number, model, 0) for number, model in enumerate(models)]


@pytest.mark.parametrize(
    ("models", "mine", "elsewhere", "overtaken", "chosen"),
    [
        ("abc", "", "", {}, 0),
        ("abc", "c", "", {}, 2),
        ("abcb", "b", "", {}, 1),
        ("abc", "", "a", {}, 1),
        ("abc", "", "abc", {}, 0),
        ("abc", "c", "ab", {0: MOST_OVERTAKES - 1}, 2),
        ("abc", "c", "ab", {0: MOST_OVERTAKES}, 0),
        ("abc", "c", "", {1: MOST_OVERTAKES}, 1),
        ("", "a", "", {}, None),
    ],
)
def test_which_job_a_worker_takes(
    models: str, mine: str, elsewhere: str, overtaken: dict[int, int], chosen: int | None
) -> None:
    found = choose(waiting(*models), set(mine), set(elsewhere), overtaken)
    assert (found and found.id) == chosen


def test_engines_that_tell_nothing_get_jobs_in_their_order(store: QueueStore) -> None:
    ids = add(store, "a", "b", "a", "b")
    scheduler = scheduler_of(store, ScriptedEngine(), ScriptedEngine())
    assert [taken(scheduler, worker).job.id for worker in (0, 1, 1, 0)] == ids
    assert scheduler.take(0) is None


def test_a_worker_prefers_the_model_that_it_has(store: QueueStore) -> None:
    a, b, second_a, second_b = add(store, "a", "b", "a", "b")
    scheduler = scheduler_of(store, warm("b"), warm("a"))
    assert [taken(scheduler, worker).job.id for worker in (0, 0, 1, 1)] == [b, second_b, a, second_a]


def test_a_worker_without_a_model_leaves_jobs_to_the_worker_that_has_it(store: QueueStore) -> None:
    a, b = add(store, "a", "b")
    scheduler = scheduler_of(store, warm("a"), warm())
    assert taken(scheduler, 1).job.id == b
    assert taken(scheduler, 1).job.id == a  # rather than to stand still


def test_what_a_worker_is_loading_counts_as_its_own(store: QueueStore) -> None:
    a, second_a, b = add(store, "a", "a", "b")
    scheduler = scheduler_of(store, warm(), warm())
    assert taken(scheduler, 0).job.id == a
    assert taken(scheduler, 1).job.id == b
    assert taken(scheduler, 0).job.id == second_a


def test_nobody_is_overtaken_for_ever(store: QueueStore) -> None:
    (lonely,) = add(store, "rare")
    engine = warm("common")
    scheduler = scheduler_of(store, engine)
    order = []
    for _ in range(2 * MOST_OVERTAKES):
        add(store, "common")
        order.append(taken(scheduler).job.id)
        scheduler.ended(order[-1])
    assert order.index(lonely) == MOST_OVERTAKES
    assert order == [*range(2, 2 + MOST_OVERTAKES), lonely, *range(2 + MOST_OVERTAKES, 1 + 2 * MOST_OVERTAKES)]


def test_each_of_many_rare_jobs_is_overtaken_so_often_and_no_more(store: QueueStore) -> None:
    rare = add(store, *"xyz")
    scheduler = scheduler_of(store, warm("common"))
    order = []
    for _ in range(40):
        add(store, "common")
        order.append(taken(scheduler).job.id)
    overtaken = {job: sum(other > job for other in order[: order.index(job)]) for job in rare}
    assert all(count <= MOST_OVERTAKES for count in overtaken.values())
    assert order.index(rare[0]) == MOST_OVERTAKES


def died(store: QueueStore, job: int, times: int) -> None:
    for _ in range(times):
        assert store.claim(1.0, job) is not None
        store.recover(2.0)


def test_a_job_on_its_last_attempt_runs_alone(store: QueueStore) -> None:
    one, other, blamed, last = add(store, "a", "a", "a", "a")
    died(store, blamed, MAX_ATTEMPTS - 1)
    died(store, last, MAX_ATTEMPTS - 2)
    scheduler = scheduler_of(store, warm("a"), warm("a"))
    alone = taken(scheduler, 0)
    assert (alone.job.id, alone.alone, alone.job.attempts) == (blamed, True, MAX_ATTEMPTS)
    assert scheduler.take(1) is None
    assert scheduler.read_ahead() is None
    assert scheduler.ended(blamed)  # workers look again
    following = [taken(scheduler, worker) for worker in (0, 1, 0)]
    assert [found.job.id for found in following] == [one, other, last]
    assert not any(found.alone for found in following)
    assert not scheduler.ended(one)


def test_a_last_attempt_waits_for_those_that_run(store: QueueStore) -> None:
    (one,) = add(store, "a")
    scheduler = scheduler_of(store, warm("a"), warm("a"))
    assert taken(scheduler, 0).job.id == one
    (blamed,) = add(store, "a")
    store.database.write("UPDATE jobs SET attempts = ? WHERE id = ?", (MAX_ATTEMPTS - 1, blamed))
    assert scheduler.take(1) is None
    assert scheduler.ended(one)
    assert taken(scheduler, 1).job.id == blamed


def test_a_last_attempt_waits_for_what_is_being_read(store: QueueStore) -> None:
    one, following = add(store, "a", "a")
    scheduler = scheduler_of(store, warm("a"))
    taken(scheduler)
    found = scheduler.read_ahead()
    assert found is not None
    assert found.job_id == following
    scheduler.ended(one)
    store.database.write("UPDATE jobs SET attempts = ? WHERE id = ?", (MAX_ATTEMPTS - 1, following))
    assert scheduler.take(0) is None
    found._future.set_result("read")
    assert scheduler.was_read()
    assert taken(scheduler).reading is found


def test_jobs_are_read_ahead_while_every_worker_is_at_work(store: QueueStore) -> None:
    jobs = add(store, *"aaaaa")
    scheduler = scheduler_of(store, warm("a"), warm("a"))
    assert scheduler.read_ahead() is None
    taken(scheduler, 0)
    assert scheduler.read_ahead() is None  # the other worker is about to take it
    taken(scheduler, 1)
    ahead = [scheduler.read_ahead() for _ in range(3)]
    assert [found and found.job_id for found in ahead] == [jobs[2], jobs[3], None]
    assert [job.status for job in map(store.get, jobs) if job] == ["running"] * 2 + ["queued"] * 3
    for job in jobs[:2]:
        scheduler.ended(job)
    following = taken(scheduler, 1)
    assert (following.job.id, following.reading) == (jobs[2], ahead[0])
    assert taken(scheduler, 0).reading is not None
    again = scheduler.read_ahead()
    assert again is not None
    assert again.job_id == jobs[4]


def test_what_was_read_for_a_cleared_queue_is_dropped(store: QueueStore) -> None:
    add(store, "a", "a")
    scheduler = scheduler_of(store, warm("a"))
    first = taken(scheduler).job.id
    assert scheduler.read_ahead() is not None
    store.clear()
    scheduler.ended(first)
    one, two = add(store, "a", "a")
    assert taken(scheduler).reading is None
    found = scheduler.read_ahead()
    assert found is not None
    assert (found.job_id, one) == (two, two - 1)


def test_a_closed_queue_gives_nothing_out(store: QueueStore) -> None:
    add(store, "a", "a")
    scheduler = scheduler_of(store, warm("a"))
    taken(scheduler)
    scheduler.close()
    assert scheduler.take(0) is None
    assert scheduler.read_ahead() is None


def test_jobs_in_hand_are_counted_by_worker(store: QueueStore) -> None:
    one, _, _ = add(store, *"aaa")
    scheduler = scheduler_of(store, warm("a"), warm("a"))
    for worker in (0, 0, 1):
        taken(scheduler, worker)
    assert (scheduler.jobs_of(0), scheduler.jobs_of(1)) == (2, 1)
    scheduler.ended(one)
    assert (scheduler.jobs_of(0), scheduler.jobs_of(1)) == (1, 1)


def test_a_key_that_floods_the_queue_delays_others_by_one_job(store: QueueStore) -> None:
    flood = add(store, *"aaaaaaaa", owner="flood")
    scheduler = scheduler_of(store, ScriptedEngine())
    order = [taken(scheduler).job.id for _ in range(2)]
    others = [*add(store, "b", "b", owner="one"), *add(store, "c", owner="two")]
    order += [taken(scheduler).job.id for _ in range(6)]
    assert order == [*flood[:2], others[0], others[2], flood[2], others[1], *flood[3:5]]


def test_a_key_that_uses_the_endpoint_now_and_then_is_next(store: QueueStore) -> None:
    add(store, *"aaaaaaaa", owner="flood")
    scheduler = scheduler_of(store, ScriptedEngine())
    for _ in range(3):
        taken(scheduler)
        (mine,) = add(store, "a", owner="one")
        assert taken(scheduler).job.id == mine


def test_a_warm_model_overtakes_other_keys_so_often_and_no_more(store: QueueStore) -> None:
    add(store, *["common"] * 20, owner="flood")
    scheduler = scheduler_of(store, warm("common"))
    (lonely,) = add(store, "rare", owner="one")
    order = [taken(scheduler).job.id for _ in range(15)]
    assert order.index(lonely) <= MOST_OVERTAKES + 1


def slow(scheduler: Scheduler, worker: int = 0) -> int:
    """Take a job whose clip does not come, and give it back; returns its id."""
    found = taken(scheduler, worker)
    assert scheduler.give_back(found.reading or Reading(found.job))
    return found.job.id


def test_a_job_whose_clip_comes_slowly_is_given_back_and_taken_when_it_is_there(store: QueueStore) -> None:
    first, second, third = add(store, *"aaa")
    scheduler = scheduler_of(store, warm("a"))
    assert slow(scheduler) == first
    job = store.get(first)
    assert job is not None
    assert (job.status, job.attempts) == ("queued", 0)
    assert taken(scheduler).job.id == second
    scheduler._readings[first]._future.set_result("read")
    assert scheduler.was_read()  # workers look again
    found = taken(scheduler)
    assert (found.job.id, found.reading and found.reading.result()) == (first, "read")
    assert taken(scheduler).job.id == third


def test_a_worker_that_found_only_slow_clips_looks_again_when_one_is_there(store: QueueStore) -> None:
    """The end of another job woke the worker once, and nobody woke it when the clip was read."""
    first, second = add(store, "a", "a")
    scheduler = scheduler_of(store, warm("a"))
    assert slow(scheduler) == first
    assert taken(scheduler).job.id == second
    assert scheduler.ended(second)
    assert scheduler.take(0) is None
    scheduler._readings[first]._future.set_result("read")
    assert scheduler.was_read()
    assert taken(scheduler).job.id == first
    assert not scheduler.ended(first)
    assert scheduler.take(0) is None
    assert not scheduler.was_read()  # nothing waits


def test_workers_look_again_after_a_job_that_ran_alone_whatever_was_read_meanwhile(store: QueueStore) -> None:
    blamed, other = add(store, "a", "a")
    died(store, blamed, MAX_ATTEMPTS - 1)
    scheduler = scheduler_of(store, warm("a"), warm("a"))
    assert taken(scheduler, 0).alone
    assert scheduler.was_read()
    assert scheduler.take(1) is None
    assert scheduler.ended(blamed)
    assert taken(scheduler, 1).job.id == other


def test_a_key_with_slow_clips_waits_for_them_while_others_go_on(store: QueueStore) -> None:
    dripping = add(store, *"aaaa", owner="dripping")
    scheduler = scheduler_of(store, warm("a"))
    assert [slow(scheduler) for _ in range(MOST_SLOW)] == dripping[:MOST_SLOW]
    assert scheduler.take(0) is None
    (other,) = add(store, "a", owner="one")
    assert taken(scheduler).job.id == other


def test_so_many_slow_clips_and_no_more_are_read_beside_the_workers(store: QueueStore) -> None:
    for number in range(17):
        add(store, f"m{number}", owner=f"key {number}")
    scheduler = scheduler_of(store, ScriptedEngine())
    for _ in range(16):
        slow(scheduler)
    last = taken(scheduler)
    assert not scheduler.give_back(Reading(last.job))
    assert store.get(last.job.id) == last.job


def test_readings_are_stopped_for_one_key_or_for_all(store: QueueStore) -> None:
    mine, yours = add(store, "a", owner="me"), add(store, "a", owner="you")
    scheduler = scheduler_of(store, warm("a"))
    assert {slow(scheduler), slow(scheduler)} == {*mine, *yours}
    readings = dict(scheduler._readings)
    assert scheduler.interrupt("me") == set()
    assert [readings[job]._stop.is_set() for job in (*mine, *yours)] == [True, False]
    assert taken(scheduler).reading is None  # mine, to be read anew
    assert scheduler.interrupt("you") == set()
    assert readings[yours[0]]._stop.is_set()
    assert scheduler.interrupt("me") == scheduler.interrupt() == {0}


def test_slow_readings_are_stopped_for_a_job_that_runs_alone(store: QueueStore) -> None:
    first, blamed = add(store, "a", "a")
    scheduler = scheduler_of(store, warm("a"))
    assert slow(scheduler) == first
    reading = scheduler._readings[first]
    store.database.write("UPDATE jobs SET attempts = ? WHERE id = ?", (MAX_ATTEMPTS - 1, blamed))
    assert scheduler.take(0) is None
    assert reading._stop.is_set()
    reading._future.set_exception(InterruptedError())
    assert scheduler.was_read()
    assert taken(scheduler).job.id == blamed
    assert scheduler.ended(blamed)
    again = taken(scheduler)
    assert (again.job.id, again.reading) == (first, None)
