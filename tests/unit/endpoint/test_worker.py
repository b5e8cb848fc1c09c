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

from airflow_provider_modelslab.endpoint.queue.job import QueuedJob
from airflow_provider_modelslab.endpoint.queue.store import QueueStore
from airflow_provider_modelslab.endpoint.results.publish import Publisher
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.endpoint.workers import device_worker as module
from airflow_provider_modelslab.endpoint.workers.pool import WorkerPool
from tests.support.endpoint_engine import ScriptedEngine


class Bench:
    """A worker without HTTP around it."""

    def __init__(self, state_dir: Path, store: QueueStore) -> None:
        self.store = store
        self.engine = ScriptedEngine()
        self.ended: queue.Queue[int] = queue.Queue()
        settings = Settings(state_dir=state_dir)
        self.worker = WorkerPool(settings, store, [self.engine], Publisher(store, state_dir), on_done=self.ended.put)

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
