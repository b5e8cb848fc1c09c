from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import JobFailedError
from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.store import QueueStore
from airflow_provider_modelslab.endpoint.results.publish import Publisher
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.workers import device_worker as module
from airflow_provider_modelslab.endpoint.workers.pool import WorkerPool
from tests.support.endpoint_engine import ScriptedEngine


class Bench:
    """A worker without HTTP around it."""

    def __init__(
        self, state_dir: Path, store: QueueStore, engine: ScriptedEngine | None = None, **settings: Any
    ) -> None:
        self.store = store
        self.engine = engine or ScriptedEngine()
        self.ended: queue.Queue[int] = queue.Queue()
        self.worker = WorkerPool(
            Settings(state_dir=state_dir, **settings),
            store,
            [self.engine],
            Publisher(store, state_dir),
            on_done=self.ended.put,
        )

    def add(self, name: str) -> QueuedJob:
        body: dict[str, Any] = {"model_id": "m", "prompt": name, "init_video": "http://h/a.gif", "output_type": "gif"}
        return self.store.add(
            owner="me", body=body, base_url="http://h", file_prefix=name, meta={}, future_links=[], now=1.0
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with closing(QueueStore(tmp_path)) as store:
        made = Bench(tmp_path, store)
        yield made
        assert made.worker.stop(60)


def test_trouble_outside_of_a_job_does_not_end_the_worker(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    claim, troubles = bench.store.claim, iter([sqlite3.OperationalError("disk I/O error")])

    def claim_with_trouble(now: float, job_id: int | None = None) -> QueuedJob | None:
        for trouble in troubles:
            raise trouble
        return claim(now, job_id)

    monkeypatch.setattr(module, "_AFTER_TROUBLE_S", 0.01)
    monkeypatch.setattr(bench.store, "claim", claim_with_trouble)
    job = bench.add("a")
    bench.worker.start()
    assert bench.ended.get(timeout=60) == job.id
    assert "disk I/O error" in caplog.text


def test_what_an_earlier_process_left_is_tidied_up(bench: Bench, tmp_path: Path) -> None:
    left = tmp_path / "work" / "1" / "clip.mp4"
    left.parent.mkdir(parents=True)
    left.touch()
    job = bench.add("a")
    bench.store.claim(1.0)
    bench.worker.start()
    assert bench.ended.get(timeout=60) == job.id
    assert not left.exists()


def test_an_engine_that_does_not_react_cannot_hold_up_a_stop(bench: Bench) -> None:
    entered, release = threading.Event(), threading.Event()

    class Deaf(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            entered.set()
            return release.wait(60)

    bench.engine.gate = Deaf()
    bench.add("a")
    bench.worker.start()
    assert entered.wait(60)
    bench.worker.restart()
    assert bench.worker.alive
    assert not bench.worker.stop(0.05)
    release.set()


def test_a_stopped_worker_is_not_started_by_a_late_restart(bench: Bench) -> None:
    bench.worker.start()
    assert bench.worker.stop(60)
    bench.worker.restart()
    while bench.worker.alive:
        time.sleep(0.01)
    bench.add("a")
    bench.worker.wake()
    assert bench.engine.prompts == []


class Preloading(ScriptedEngine):
    """Keeps the models that it was told to load; the one called ``broken`` cannot be loaded."""

    def preload(self, model_id: str) -> None:
        self.prompts.append(f"loads {model_id}")
        if model_id == "broken":
            raise JobFailedError("its file is cut off")


def test_models_are_loaded_before_the_first_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(QueueStore(tmp_path)) as store:
        bench = Bench(tmp_path, store, Preloading(), preload=("broken", "another"), aliases={"another": "m"})
        job = bench.add("a")
        bench.worker.start()
        assert bench.ended.get(timeout=60) == job.id
        assert bench.worker.stop(60)
    assert bench.engine.prompts == ["loads broken", "loads m", "a"]
    assert "its file is cut off" in caplog.text


def test_a_stop_ends_the_loading_after_the_model_in_hand(tmp_path: Path) -> None:
    entered, release = threading.Event(), threading.Event()

    class Slow(Preloading):
        def preload(self, model_id: str) -> None:
            super().preload(model_id)
            entered.set()
            release.wait(60)

    with closing(QueueStore(tmp_path)) as store:
        bench = Bench(tmp_path, store, Slow(), preload=("first", "second"))
        bench.worker.start()
        assert entered.wait(60)
        assert not bench.worker.stop(0.05)
        release.set()
        assert bench.worker.stop(60)
    assert bench.engine.prompts == ["loads first"]


def test_an_engine_that_loads_nothing_is_not_asked_to(tmp_path: Path) -> None:
    with closing(QueueStore(tmp_path)) as store:
        bench = Bench(tmp_path, store, preload=("demo",))
        job = bench.add("a")
        bench.worker.start()
        assert bench.ended.get(timeout=60) == job.id
        assert bench.worker.stop(60)
