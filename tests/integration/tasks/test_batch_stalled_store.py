"""A store that stalls while results are noted: the jobs that run are polled all the same, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.batch.results import tracker
from airflow_provider_modelslab.batch.results.index import LandedIndex
from airflow_provider_modelslab.batch.results.report import write_results
from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import WatchedEngine
from tests.support.s3 import listening
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "boto_alone")

JOBS = 50
POLLS = 4 * JOBS


class Permits:
    """Lets so many jobs end as there are permits."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    def wait(self, timeout: float) -> bool:
        return self._free.acquire(timeout=timeout)

    def add(self, count: int) -> None:
        self._free.release(count)


def index_writes(parts: Callable[[], None]) -> Callable[..., None]:
    """Calls something before each put of an index segment."""

    def before(request: Any, **_: Any) -> None:
        if "/index/" in request.url:
            parts()

    return before


@pytest.mark.slow
def test_jobs_are_polled_while_the_index_waits_for_the_store(
    s3: S3Client, bucket: str, engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = Dag(s3, bucket, max_in_flight=JOBS + 1, deferrable=False)
    dag.add(*(f"clip{number:02d}" for number in range(JOBS + 1)))
    monkeypatch.setattr(tracker, "LandedIndex", partial(LandedIndex, every=1))
    engine.gate = permits = Permits(1)
    polled, stalled, seen = threading.Semaphore(0), threading.Event(), list[bool]()
    fetch = AsyncModelsLabClient.fetch

    async def counted(client: AsyncModelsLabClient, job_id: str) -> Any:
        if stalled.is_set():
            polled.release()
        return await fetch(client, job_id)

    def stall() -> None:
        if stalled.is_set():
            return
        stalled.set()
        seen.extend(polled.acquire(timeout=20) for _ in range(POLLS) if all(seen))
        permits.add(JOBS)

    monkeypatch.setattr(AsyncModelsLabClient, "fetch", counted)
    task = dag()
    with listening(task.hook.get_s3_client(), "before-send.s3.PutObject", index_writes(stall)):
        summary = execute(task)
    assert (len(seen), all(seen)) == (POLLS, True)
    assert (summary["landed"], summary["failed"], len(engine.submitted)) == (JOBS + 1, 0, JOBS + 1)
    reads: list[str] = []
    again = dag()
    with listening(
        again.hook.get_s3_client(), "before-call.s3.GetObject", lambda params, **_: reads.append(str(params))
    ):
        assert execute(again, context_of(TaskInstance(run_id="the next day")))["skipped"] == JOBS + 1
    assert not [read for read in reads if "/results/" in read]  # the index knows them all


def test_a_batch_ends_only_when_its_index_is_written(
    s3: S3Client, bucket: str, engine: WatchedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = Dag(s3, bucket, max_in_flight=3, deferrable=False)
    dag.add("a", "b", "c")
    monkeypatch.setattr(tracker, "LandedIndex", partial(LandedIndex, every=1))
    engine_done, order = threading.Event(), list[str]()

    def stall() -> None:
        engine_done.wait(60)
        order.append("index")

    def ending(*arguments: Any, **options: Any) -> Any:
        order.append("results")
        return write(*arguments, **options)

    closing, write = LandedIndex.close, write_results

    def closed(index: LandedIndex, **options: Any) -> None:
        engine_done.set()
        closing(index, **options)

    monkeypatch.setattr(LandedIndex, "close", closed)
    monkeypatch.setattr(tracker, "write_results", ending)
    task = dag()
    with listening(task.hook.get_s3_client(), "before-send.s3.PutObject", index_writes(stall)):
        assert execute(task)["landed"] == 3
    assert order[-1] == "results"
    assert order[:-1].count("index") in {1, 2}
