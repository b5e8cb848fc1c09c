"""Several engines on one queue, and the stages of one engine side by side."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.scheduler import MOST_OVERTAKES
from airflow_provider_modelslab.endpoint.queue.store import MAX_ATTEMPTS, QueueStore
from airflow_provider_modelslab.endpoint.results import publish
from airflow_provider_modelslab.endpoint.results.publish import Publisher
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.workers import device_worker
from airflow_provider_modelslab.endpoint.workers.pool import WorkerPool
from tests.support.endpoint_engine import ScriptedEngine, StagedEngine


class Bench:
    """A worker without HTTP around it."""

    def __init__(self, state_dir: Path, store: QueueStore, engines: tuple[ScriptedEngine, ...]) -> None:
        self.store = store
        self.ended: queue.Queue[int] = queue.Queue()
        settings = Settings(state_dir=state_dir)
        self.worker = WorkerPool(settings, store, engines, Publisher(store, state_dir), on_done=self.ended.put)

    def add(self, *names: str, model: str = "m", owner: str = "me") -> list[int]:
        """Queue jobs with these prompts, and wake the worker."""
        jobs = [
            self.store.add(
                owner=owner, body={"model_id": model, "prompt": name, "init_video": "http://h/a", "output_type": "gif",
                "num_frames": 2}, base_url="http://h", file_prefix=name, meta={}, future_links=[], now=1.0,
            ).id
            for name in names
        ]  # fmt: skip
        self.worker.wake()
        return jobs

    def wait_for(self, *jobs: int) -> None:
        missing = set(jobs)
        while missing:
            missing.discard(self.ended.get(timeout=60))

    def job(self, job_id: int) -> QueuedJob:
        found = self.store.get(job_id)
        assert found is not None
        return found


Make = Callable[..., Bench]


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Make]:
    """Makes a bench of some engines, not started yet."""
    with ExitStack() as stack:

        def make(*engines: ScriptedEngine) -> Bench:
            store = stack.enter_context(closing(QueueStore(tmp_path)))
            made = Bench(tmp_path, store, engines)
            stack.callback(made.worker.stop, 60)
            return made

        yield make


def until(condition: Callable[[], Any]) -> None:
    """pytest's timeout is the limit."""
    while not condition():
        time.sleep(0.005)


@contextmanager
def held(*gates: threading.Event) -> Iterator[None]:
    """Opens the gates at the end, whatever happens."""
    try:
        yield
    finally:
        for gate in gates:
            gate.set()


def test_workers_work_side_by_side_on_one_queue(bench: Make) -> None:
    gate = threading.Event()
    engines = [ScriptedEngine(gate), ScriptedEngine(gate)]
    made = bench(*engines)
    with held(gate):
        made.worker.start()
        jobs = made.add(*"abcde")
        for engine in engines:
            assert engine.busy.acquire(timeout=60)  # both are at work, though neither can end
        assert [made.job(job).status for job in jobs] == ["running", "running", "queued", "queued", "queued"]
        assert [device_worker["jobs"] for device_worker in made.worker.workers()] == [1, 1]
    made.wait_for(*jobs)
    assert sorted(engines[0].finished + engines[1].finished) == list("abcde")
    assert {made.job(job).attempts for job in jobs} == {1}


def test_a_worker_that_hangs_holds_nothing_up_but_its_own_job(bench: Make) -> None:
    never, soon = threading.Event(), threading.Event()
    stuck, free = ScriptedEngine(never), ScriptedEngine(soon)
    made = bench(stuck, free)
    with held(never, soon):
        made.worker.start()
        jobs = made.add(*"abcdef")
        assert stuck.busy.acquire(timeout=60)
        assert free.busy.acquire(timeout=60)
        soon.set()
        done = {made.ended.get(timeout=60) for _ in range(5)}
        (left,) = set(jobs) - done
        assert made.job(left).status == "running"
    made.wait_for(left)


def test_restart_interrupts_every_worker_and_keeps_the_queue(bench: Make) -> None:
    gate = threading.Event()
    engines = [ScriptedEngine(gate), ScriptedEngine(gate)]
    made = bench(*engines)
    with held(gate):
        made.worker.start()
        jobs = made.add(*"abc")
        for engine in engines:
            assert engine.busy.acquire(timeout=60)
        made.worker.restart()
        for engine in engines:
            assert engine.busy.acquire(timeout=60)  # they began once more
        assert [engine.stopped for engine in engines] == [1, 1]
        assert made.worker.alive
    made.wait_for(*jobs)
    assert {made.job(job).attempts for job in jobs} == {1}


def test_stop_puts_the_jobs_of_all_lanes_back(bench: Make) -> None:
    gate = threading.Event()
    engines = [ScriptedEngine(gate), StagedEngine(gate)]
    made = bench(*engines)
    made.worker.start()
    jobs = made.add(*"abc")
    for engine in engines:
        assert engine.busy.acquire(timeout=60)
    assert made.worker.stop(60)
    assert [made.job(job).status for job in jobs] == ["queued"] * 3
    assert {made.job(job).attempts for job in jobs} == {0}
    assert not made.worker.alive


def test_clear_cache_reaches_every_engine(bench: Make) -> None:
    engines = [ScriptedEngine(), StagedEngine()]
    made = bench(*engines)
    made.worker.start()
    made.worker.clear_cache()
    assert all(engine.cleared.wait(60) for engine in engines)


def test_workers_stay_with_their_models(bench: Make) -> None:
    """Two models in turn on two workers: each is loaded once, where first in, first out would load at every job."""
    engines = [StagedEngine(), StagedEngine()]
    made = bench(*engines)
    jobs = [job for n in range(MOST_OVERTAKES) for m in "ab" for job in made.add(f"{m}{n}", model=m)]
    made.worker.start()
    made.wait_for(*jobs)
    loads = engines[0].loads + engines[1].loads
    assert sorted(set(loads)) == ["a", "b"]
    assert len(loads) <= 4  # a worker whose model has no more jobs takes over from the other at the end


def test_a_job_of_a_cold_model_is_not_starved(bench: Make) -> None:
    engine = StagedEngine()
    made = bench(engine)
    made.add("warm", model="a")
    (cold,) = made.add("cold", model="b")
    rest = made.add(*(f"{n}" for n in range(3 * MOST_OVERTAKES)), model="a")
    made.worker.start()
    made.wait_for(cold, *rest)
    assert engine.finished.index("cold") == 1 + MOST_OVERTAKES
    assert engine.loads == ["a", "b", "a"]


def test_details_tell_of_each_worker(bench: Make) -> None:
    made = bench(StagedEngine(device="cuda:0", models=["m"]), ScriptedEngine())
    assert made.worker.workers() == [
        {"device": "cuda:0", "jobs": 0, "models": [{"model_id": "m", "bytes": 1000, "last_used": 1.0}]},
        {"device": "ScriptedEngine", "jobs": 0},
    ]


def test_the_next_clip_is_read_and_the_last_one_written_while_one_is_rendered(bench: Make) -> None:
    rendering, writing = threading.Event(), threading.Event()
    engine = StagedEngine(writing=writing)
    made = bench(engine)
    with held(rendering, writing):
        made.worker.start()
        (first,) = made.add("first")
        until(lambda: engine.finished == ["first"])
        engine.gate = rendering
        second, third, fourth = made.add("second", "third", "fourth")
        until(lambda: engine.prompts == ["first", "second"] and "third" in engine.read)
        assert engine.finished == ["first"]
        assert engine.written == []
        assert [made.job(job).status for job in (first, second, third)] == ["running", "running", "queued"]
        assert made.worker.workers()[0]["jobs"] == 2
        writing.set()
        made.wait_for(first)
        assert made.job(first).status == "success"
        assert made.job(second).status == "running"
    made.wait_for(second, third, fourth)
    assert engine.written == ["first", "second", "third", "fourth"]
    assert sorted(engine.read) == sorted(engine.written)  # each was read once


def test_no_more_than_one_clip_waits_to_be_written(bench: Make) -> None:
    writing = threading.Event()
    engine = StagedEngine(writing=writing)
    made = bench(engine)
    with held(writing):
        made.worker.start()
        jobs = made.add(*"abcd")
        until(lambda: engine.finished == ["a", "b"])
        until(lambda: "c" in engine.read)
        assert [made.job(job).status for job in jobs] == ["running", "running", "queued", "queued"]
    made.wait_for(*jobs)
    assert engine.finished == list("abcd")


def test_each_stage_may_fail_and_the_next_job_runs(bench: Make) -> None:
    engine = StagedEngine()
    made = bench(engine)
    names = ["a", "unreadable 1", "crash 2", "unwritable 3", "b"]
    jobs = made.add(*names)
    made.worker.start()
    made.wait_for(*jobs)
    ended = [made.job(job) for job in jobs]
    assert [job.status for job in ended] == ["success", "failed", "failed", "failed", "success"]
    texts = ["init_video is no clip", "KeyError", "OSError: no space left"]
    assert all(text in job.message for text, job in zip(texts, ended[1:4], strict=True))
    assert engine.written == ["a", "b"]


def test_what_goes_wrong_when_reading_ahead_is_told_in_its_turn(bench: Make) -> None:
    rendering = threading.Event()
    engine = StagedEngine(rendering)
    made = bench(engine)
    with held(rendering):
        made.worker.start()
        first, bad = made.add("first", "unreadable")
        until(lambda: sorted(engine.read) == ["first", "unreadable"])
        assert made.job(bad).status == "queued"
    made.wait_for(first, bad)
    assert made.job(bad).status == "failed"
    assert sorted(engine.read) == ["first", "unreadable"]


def test_a_restart_lets_a_clip_be_written_and_runs_the_rendered_one_again(bench: Make) -> None:
    rendering, writing = threading.Event(), threading.Event()
    engine = StagedEngine(writing=writing)
    made = bench(engine)
    with held(rendering, writing):
        made.worker.start()
        (first,) = made.add("first")
        until(lambda: engine.finished == ["first"])
        engine.gate = rendering
        (second,) = made.add("second")
        until(lambda: engine.prompts == ["first", "second"])
        made.worker.restart()
        until(lambda: engine.stopped == 1)
        until(lambda: made.job(second).status == "queued")
        assert made.job(first).status == "running"
        assert made.worker.alive
    made.wait_for(first, second)
    assert engine.prompts == ["first", "second", "second"]
    assert engine.written == ["first", "second"]
    assert (made.job(first).attempts, made.job(second).attempts) == (1, 1)


def test_a_queue_that_is_cleared_drops_what_is_rendered_written_and_read(bench: Make, tmp_path: Path) -> None:
    rendering, writing = threading.Event(), threading.Event()
    engine = StagedEngine(writing=writing)
    made = bench(engine)
    with held(rendering, writing):
        made.worker.start()
        made.add("written")
        until(lambda: engine.finished == ["written"])
        engine.gate = rendering
        made.add("rendered", "read")
        until(lambda: "rendered" in engine.prompts and "read" in engine.read)
        made.store.clear()
        made.worker.restart()
        until(lambda: engine.stopped == 1)
    (following,) = made.add("following")
    made.wait_for(following)
    assert made.ended.empty()
    assert [path.name for path in (tmp_path / "generations").iterdir()] == ["following.gif"]
    assert engine.finished == ["written", "following"]


def test_an_interrupt_does_not_wait_for_a_clip_that_is_read_ahead(bench: Make) -> None:
    rendering, reading = threading.Event(), threading.Event()
    engine = StagedEngine(rendering)
    made = bench(engine)
    with held(rendering, reading):
        made.worker.start()
        made.add("first")
        assert engine.busy.acquire(timeout=60)
        engine.reading = reading
        (second,) = made.add("second")
        until(lambda: "second" in engine.read)
        rendering.set()
        until(lambda: made.job(second).status == "running")
        assert made.worker.stop(60)
        assert (made.job(second).status, made.job(second).attempts) == ("queued", 0)


def test_a_job_on_its_last_attempt_is_done_before_any_other_begins(bench: Make) -> None:
    rendering, writing = threading.Event(), threading.Event()
    engines = [StagedEngine(rendering, writing=writing), StagedEngine(rendering, writing=writing)]
    made = bench(*engines)
    (blamed,) = made.add("blamed")
    for _ in range(MAX_ATTEMPTS - 1):
        made.store.claim(1.0)
        made.store.recover(2.0)
    others = made.add(*"ab")
    with held(rendering, writing):
        made.worker.start()
        until(lambda: engines[0].prompts + engines[1].prompts == ["blamed"])
        rendering.set()
        until(lambda: engines[0].finished + engines[1].finished == ["blamed"])
        assert engines[0].read + engines[1].read == ["blamed"]
        assert [made.job(job).status for job in others] == ["queued", "queued"]
    made.wait_for(blamed, *others)
    assert [made.job(job).attempts for job in (blamed, *others)] == [MAX_ATTEMPTS, 1, 1]


def test_a_clip_that_comes_slowly_holds_up_nobody_else(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_worker, "_PATIENCE_S", 0.05)
    reading = threading.Event()
    engine = StagedEngine(reading=reading, only_slow=True)
    made = bench(engine)
    with held(reading):
        made.worker.start()
        dripping = made.add(*(f"slow {n}" for n in range(5)), owner="dripping")
        others = made.add(*"abc", owner="other")
        made.wait_for(*others)
        until(lambda: [made.job(job).status for job in dripping] == ["queued"] * 5)
        assert len(set(engine.read)) <= 3 + 3  # two of the key are read beside the worker, one by it
    made.wait_for(*dripping)
    assert {(job.status, job.attempts) for job in map(made.job, (*dripping, *others))} == {("success", 1)}


@pytest.mark.parametrize("clear", [False, True])
def test_a_restart_frees_a_worker_that_downloads(bench: Make, clear: bool) -> None:
    reading = threading.Event()
    engine = StagedEngine(reading=reading, only_slow=True)
    made = bench(engine)
    with held(reading):
        made.worker.start()
        (dripping,) = made.add("slow", owner="dripping")
        until(lambda: engine.read == ["slow"])
        if clear:
            assert made.store.clear("dripping") == [dripping]
        else:
            (other,) = made.add("a", owner="other")
        made.worker.restart("dripping")
        until(lambda: not [thread for thread in threading.enumerate() if thread.name == f"modelslab-reading-{dripping}"
                           and engine.read.count("slow") == 1])  # fmt: skip
        if clear:
            (other,) = made.add("a", owner="other")
        made.wait_for(other)
    if not clear:
        made.wait_for(dripping)
        assert made.job(dripping).status == "success"
    assert made.job(other).attempts == 1


def test_a_restart_of_one_key_leaves_others_alone(bench: Make) -> None:
    gate = threading.Event()
    engines = [ScriptedEngine(gate), ScriptedEngine(gate)]
    made = bench(*engines)
    with held(gate):
        made.worker.start()
        jobs = [*made.add("a", owner="one"), *made.add("b", owner="two")]
        until(lambda: sum(len(engine.prompts) for engine in engines) == 2)
        for _ in range(20):
            made.worker.restart("one")
        until(lambda: sum(engine.stopped for engine in engines) >= 1)
        made.worker.restart("three")
    made.wait_for(*jobs)
    assert sum(engine.prompts.count("b") for engine in engines) == 1


def test_a_bucket_that_does_not_answer_holds_no_worker(
    bench: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storing = threading.Event()
    monkeypatch.setattr(publish, "upload", lambda *_, **__: storing.wait(60))
    made = bench(ScriptedEngine())
    details = {"public_url": "https://cdn.example", "region_name": "r", "endpoint_url": "https://s3.example/clips",
               "aws_access_key_id": "a", "aws_secret_access_key": "b", "image_directory": "d"}  # fmt: skip
    made.store.set_s3("dripping", "video", details)
    with held(storing):
        made.worker.start()
        dripping = made.add(*(f"d{n}" for n in range(30)), owner="dripping")
        made.wait_for(*made.add(*"abc", owner="other"))
        until(lambda: sum(made.job(job).status == "failed" for job in dripping) == 8)  # 2 are stored, 20 wait
        assert {made.job(job).status for job in dripping} == {"failed", "running"}
    made.wait_for(*[job for job in dripping if made.job(job).status == "running"])
    assert sum(made.job(job).status == "success" for job in dripping) == 22
