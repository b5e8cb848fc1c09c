"""A batch that is killed politely: SIGTERM calls ``on_kill`` and raises nothing, and SIGKILL follows 5 s later."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.storage.inputs import prepare_input
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import WatchedEngine
from tests.support.s3 import keys_of
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

CLIPS, WINDOW = 12, 3


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    dag = Dag(s3, bucket, max_in_flight=3)
    dag.add(*(f"clip{number:02d}" for number in range(CLIPS)))
    dag.arguments |= {"deferrable": False, "max_in_flight": WINDOW}
    return dag


@pytest.fixture(autouse=True)
def handler() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def entries(s3: S3Client, bucket: str, kind: str) -> int:
    return sum(key.endswith(f"-{kind}.json") and "/results/" in key for key in keys_of(s3, bucket))


def test_a_sigterm_ends_the_submits_with_every_id_recorded(
    dag: Dag, engine: WatchedEngine, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = dag()
    told, once, real = threading.Event(), threading.Lock(), ModelsLabHook.submit

    def on_term(*_: object) -> None:
        task.on_kill()
        told.set()

    def submit(hook: ModelsLabHook, *arguments: Any, **options: Any) -> Any:
        if once.acquire(blocking=False):
            os.kill(os.getpid(), signal.SIGTERM)
        assert told.wait(60)
        return real(hook, *arguments, **options)

    signal.signal(signal.SIGTERM, on_term)
    monkeypatch.setattr(ModelsLabHook, "submit", submit)
    with pytest.raises(InterruptedError, match="killed"):
        execute(task)
    assert 1 <= len(engine.submitted) <= WINDOW
    assert entries(s3, bucket, "claim") == entries(s3, bucket, "job") == len(engine.submitted)
    summary = execute(dag(), context_of(TaskInstance(try_number=2, max_tries=1)))
    assert (summary["landed"], len(engine.submitted)) == (CLIPS, CLIPS)


def test_a_kill_before_the_claim_leaves_no_claim(
    dag: Dag, engine: WatchedEngine, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = dag()

    def killed_meanwhile(*arguments: Any, **options: Any) -> Any:
        found = prepare_input(*arguments, **options)
        task.on_kill()
        return found

    monkeypatch.setattr("airflow_provider_modelslab.jobs.paid_job.prepare_input", killed_meanwhile)
    with pytest.raises(InterruptedError, match="killed"):
        execute(task)
    assert (entries(s3, bucket, "claim"), engine.submitted) == (0, [])
