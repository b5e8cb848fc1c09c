"""An account whose queue is full: nothing is lost, no worker is held, and everything lands when there is room."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.endpoint.settings import Settings
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import Restyle, WatchedEngine
from tests.support.connections import KEY, set_modelslab
from tests.support.endpoint import Caller
from tests.support.s3 import keys_of
from tests.support.tasks import deferral_of, execute, to_the_end

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", api_keys=(KEY,), max_queue=2)


@pytest.fixture
def dag(s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Dag:
    for pause in ("_FIRST_PAUSE", "_LONGEST_PAUSE"):  # two seconds for each refusal are what they are, elsewhere
        monkeypatch.setattr(f"airflow_provider_modelslab.batch.running.window.{pause}", 0.1)
    dag = Dag(s3, bucket, max_in_flight=3)
    dag.add(*(f"clip{number}" for number in range(6)))
    return dag


@pytest.mark.slow
def test_a_window_that_is_too_large_shrinks_to_what_fits(dag: Dag, engine: WatchedEngine) -> None:
    dag.arguments |= {"deferrable": False, "max_in_flight": 6}
    summary = execute(dag())
    assert (summary["landed"], summary["failed"]) == (6, 0)
    assert len(engine.finished) == 6


@pytest.mark.slow
def test_while_others_fill_the_queue_the_task_waits_in_the_triggerer(
    dag: Dag, restyle: Restyle, engine: WatchedEngine, gate: threading.Event
) -> None:
    for seed in (1, 2):  # another task's jobs
        execute(restyle(wait_for_completion=False, seed=seed, destination=f"other-{seed}.mp4"))
    deferred = deferral_of(dag())
    arguments: dict[str, Any] = deferred.trigger.serialize()[1]
    assert arguments["jobs"] == []
    assert arguments["max_wait"] > 0
    gate.set()
    summary = to_the_end(dag, deferred)
    assert (summary["landed"], summary["failed"]) == (6, 0)
    assert len(engine.finished) == 8


def test_while_the_endpoint_is_down_the_task_waits_in_the_triggerer_and_loses_no_clip(
    dag: Dag,
    engine: WatchedEngine,
    endpoint: Caller,
    gate: threading.Event,
    s3: S3Client,
    bucket: str,
    s3_extra: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate.set()
    set_modelslab(monkeypatch, "http://127.0.0.1:9", **s3_extra)
    deferred = deferral_of(dag())
    assert deferred.trigger.serialize()[1]["jobs"] == []
    tried = sum(key.endswith("-released.json") for key in keys_of(s3, bucket))
    assert 1 <= tried <= 6  # and not three for each clip
    set_modelslab(monkeypatch, endpoint.url, **s3_extra)
    summary = to_the_end(dag, deferred)
    assert (summary["landed"], summary["failed"]) == (6, 0)
    assert len(engine.finished) == 6
