"""A batch that Airflow has given up and run again elsewhere, while its first process was only frozen."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import BatchSupersededError
from airflow_provider_modelslab.batch.results import tracker
from airflow_provider_modelslab.batch.results.report import write_results
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.conftest import FRAMES, Store, WatchedEngine
from tests.support.samples import small_mp4
from tests.support.supervisor import OneThreadSupervisor
from tests.support.task_ids import Try, made_at
from tests.support.tasks import context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

CLIPS = 3
NOON = 1_795_435_200_000


def attempt(number: int, *, ran: str = "manual__2026-11-23T04:00:00+00:00", made: int | None = None) -> Any:
    made = NOON + 60_000 * number if made is None else made
    return context_of(Try(run_id=ran, try_number=number, max_tries=5, id=made_at(made)))


@pytest.fixture
def batch(s3: S3Client, bucket: str) -> Callable[[], ModelsLabVideo2VideoBatchOperator]:
    for number in range(CLIPS):
        s3.put_object(Bucket=bucket, Key=f"in/clip{number}.mp4", Body=small_mp4())

    def make() -> ModelsLabVideo2VideoBatchOperator:
        return ModelsLabVideo2VideoBatchOperator(
            task_id="restyle",
            model_id="dark-sushi-mix",
            prompt="a fox",
            source=f"s3://{bucket}/in/",
            destination=f"s3://{bucket}/out/",
            num_frames=FRAMES,
            poll_interval=0.02,
            max_poll_interval=0.1,
            timeout=600,
        )

    return make


def written_by_try(store: Store, manifest: str) -> int | None:
    place = S3Uri.parse(manifest)
    writer = AttemptId.from_metadata(store.s3.head_object(Bucket=place.bucket, Key=place.key)["Metadata"])
    return None if writer is None else writer.try_number


def statuses(store: Store, manifest: str) -> list[str]:
    return [json.loads(line)["status"] for line in store.read(manifest).splitlines()]


def test_a_frozen_process_that_wakes_after_its_successor_has_ended_says_so_and_changes_nothing(
    batch: Callable[[], ModelsLabVideo2VideoBatchOperator],
    store: Store,
    engine: WatchedEngine,
    monkeypatch: pytest.MonkeyPatch,
    supervisor: OneThreadSupervisor,
) -> None:
    frozen, woken = threading.Event(), threading.Event()

    def freezing(*given: Any, **more: Any) -> dict[str, Any]:
        if more["attempt"].try_number == 1:
            frozen.set()
            assert woken.wait(60)
        return write_results(*given, **more)

    monkeypatch.setattr(tracker, "write_results", freezing)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(execute, batch(), attempt(1))
        try:
            assert frozen.wait(60)
            summary = execute(batch(), attempt(2))
        finally:
            woken.set()
        with pytest.raises(BatchSupersededError, match=r"Try 1 of this batch stops.*try 2 has already finished"):
            first.result(60)
    supervisor.by_other_threads.clear()  # two tasks share it here
    assert (summary["landed"], summary["skipped"]) == (CLIPS, 0)  # in this run
    assert statuses(store, summary["manifest"]) == ["landed"] * CLIPS
    assert written_by_try(store, summary["manifest"]) == 2
    assert len(engine.submitted) == CLIPS


def test_a_cleared_task_and_a_run_made_anew_replace_the_manifest(
    batch: Callable[[], ModelsLabVideo2VideoBatchOperator], store: Store
) -> None:
    first = execute(batch(), attempt(1))
    assert statuses(store, first["manifest"]) == ["landed"] * CLIPS
    cleared = execute(batch(), attempt(3))
    assert cleared["manifest"] == first["manifest"]
    assert written_by_try(store, first["manifest"]) == 3
    store.s3.delete_object(Bucket=first["manifest"].split("/")[2], Key="out/clip1.mp4")
    execute(batch(), attempt(1, made=NOON + 3_600_000))
    assert statuses(store, first["manifest"]) == ["landed"] * CLIPS
    assert written_by_try(store, first["manifest"]) == 1
