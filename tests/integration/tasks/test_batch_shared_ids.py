"""An endpoint that answers two clips with one job's id: its result lands for one of them, whatever happens then."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import BatchFailedError
from airflow_provider_modelslab.endpoint.service import EndpointService
from airflow_provider_modelslab.hooks import DEFAULT_CONN_NAME
from airflow_provider_modelslab.ledger.listing import result_folder
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import Store, WatchedEngine
from tests.support.s3 import keys_of, lines_of
from tests.support.tasks import TaskInstance, context_of, deferral_of, execute, to_the_end

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.usefixtures("connections"), pytest.mark.slow]

ROOT = "styled/_modelslab/ledger"


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    """Two clips with seeds of their own, so that their results differ; one after the other, and no failure ends it."""
    dag = Dag(s3, bucket, max_in_flight=1, deferrable=False, max_failed=None, key_template="{stem}.{ext}")
    dag.add("a", "b")
    rows = [{"init_video": f"s3://{bucket}/in/{name}.mp4", "seed": seed} for name, seed in (("a", 1), ("b", 200))]
    dag.arguments["source"] = rows
    return dag


@pytest.fixture
def twice(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Which jobs are answered with another one's id; the second with the first one's."""
    answered, submitted = {2: 1}, EndpointService.submitted

    def again(calls: EndpointService, job: Any) -> Any:
        return submitted(calls, replace(job, id=answered.get(job.id, job.id)))

    monkeypatch.setattr(EndpointService, "submitted", again)
    return answered


def attempt(number: int, **said: str) -> Any:
    """A try, and what people said about submissions by the clip's name."""
    told = {
        f"restyling.restyle/{TaskInstance.run_id}/out/{name}.mp4/submission1": answer for name, answer in said.items()
    }
    run = SimpleNamespace(conf={"modelslab": {"submissions": told}})
    return context_of(TaskInstance(try_number=number, max_tries=9, dag_run=run))


def results(store: Store, bucket: str) -> dict[str, str]:
    """The job of each result, and that it is the result of the clip that the job was submitted for."""
    found = {}
    for key in keys_of(store.s3, bucket):
        if key.startswith("out/") and key.endswith(".mp4.json"):
            sidecar = json.loads(store.read(f"s3://{bucket}/{key}"))
            assert sidecar["request"]["init_video"].endswith(f"/in/{key[4:-5]}")
            found[key[4:-9]] = sidecar["job_id"]
    return found


def entries(store: Store, bucket: str, name: str) -> list[str]:
    folder = result_folder(S3Uri(bucket, ROOT), S3Uri(bucket, f"out/{name}.mp4"))
    return [key.rpartition("/")[2].removesuffix(".json") for key in keys_of(store.s3, bucket) if folder.key in key]


def outcomes(store: Store, summary: dict[str, Any]) -> dict[str, tuple[str, str | None]]:
    lines = lines_of(store.s3, summary["manifest"])
    return {line["uri"][-5:-4]: (line["status"], line["code"]) for line in lines}


# In this run, by this try or an earlier one.
ONE_LANDED = {"a": ("landed", None), "b": ("failed", "submission_unknown")}


def test_the_second_clip_gets_an_unknown_outcome_and_asks_a_person(
    dag: Dag, store: Store, bucket: str, twice: dict[int, int], engine: WatchedEngine
) -> None:
    assert outcomes(store, execute(dag(), attempt(1))) == ONE_LANDED
    assert entries(store, bucket, "b") == ["0001-claim", "0001-unknown"]
    assert results(store, bucket) == {"a": "1"}
    rerun = execute(dag(), attempt(2))
    assert outcomes(store, rerun) == ONE_LANDED
    assert (results(store, bucket), len(engine.submitted)) == ({"a": "1"}, 2)
    told = execute(dag(), attempt(3, b="resubmit"))
    assert outcomes(store, told) == {"a": ("landed", None), "b": ("landed", None)}
    assert results(store, bucket) == {"a": "1", "b": "3"}
    assert store.read(f"s3://{bucket}/out/a.mp4") != store.read(f"s3://{bucket}/out/b.mp4")


@pytest.mark.slow
def test_the_id_of_another_clip_that_a_person_gives_by_mistake_is_refused(
    dag: Dag, store: Store, bucket: str, twice: dict[int, int], engine: WatchedEngine
) -> None:
    execute(dag(), attempt(1))
    assert outcomes(store, execute(dag(), attempt(2, b="1"))) == ONE_LANDED
    assert outcomes(store, execute(dag(), attempt(3, b="1"))) == ONE_LANDED  # it stands in the ledger now
    assert results(store, bucket) == {"a": "1"}
    told = execute(dag(), attempt(4, b="resubmit"))
    assert outcomes(store, told)["b"] == ("landed", None)
    assert results(store, bucket) == {"a": "1", "b": "3"}


def test_the_id_of_a_clip_that_landed_before_a_deferral_is_known_after_it(
    dag: Dag, store: Store, bucket: str, twice: dict[int, int], gate: threading.Event
) -> None:
    def make() -> Any:
        return dag(deferrable=True)

    deferred = deferral_of(make(), attempt(1))
    gate.set()
    assert outcomes(store, to_the_end(make, deferred, attempt(1))) == ONE_LANDED
    assert results(store, bucket) == {"a": "1"}


@pytest.mark.parametrize("window", [1, 2])
def test_the_id_of_a_job_in_flight_is_known_after_a_kill(
    dag: Dag, store: Store, bucket: str, twice: dict[int, int], gate: threading.Event, window: int
) -> None:
    deferral_of(dag(deferrable=True), attempt(1))  # the first clip's job runs; nobody resumes the task
    gate.set()
    summary = execute(dag(max_in_flight=window), attempt(2))
    assert outcomes(store, summary) == ONE_LANDED
    assert results(store, bucket) == {"a": "1"}


def test_a_kill_between_the_answer_and_the_record_of_the_second_clip_asks_a_person(
    dag: Dag, store: Store, bucket: str, twice: dict[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_modelslab.ledger.service import Ledger

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "record_error", lambda *_: None)  # as if the process had ended before it
        execute(dag(), attempt(1))
    assert entries(store, bucket, "b") == ["0001-claim"]
    monkeypatch.setattr("airflow_provider_modelslab.ledger.service._HOLD_POLL", 0.05)
    monkeypatch.setattr("airflow_provider_modelslab.ledger.service.is_provably_dead", lambda process: True)
    monkeypatch.setattr(Ledger, "__init__", _dead_processes(Ledger.__init__))
    assert outcomes(store, execute(dag(), attempt(2))) == ONE_LANDED
    assert results(store, bucket) == {"a": "1"}


def _dead_processes(init: Callable[..., None]) -> Callable[..., None]:
    def made(ledger: Any, store: Any, **options: Any) -> None:
        init(ledger, store, **{**options, "is_dead": lambda process: True})

    return made


@pytest.mark.slow
def test_an_endpoint_that_has_one_id_for_all_is_not_paid_for_all(
    dag: Dag, store: Store, bucket: str, twice: dict[int, int], engine: WatchedEngine
) -> None:
    twice.update(dict.fromkeys(range(2, 99), 1))
    names = [f"clip{number:02d}" for number in range(40)]
    dag.add(*names)
    with pytest.raises(BatchFailedError):
        execute(dag(source=[f"s3://{bucket}/in/{name}.mp4" for name in names], max_failed=0), attempt(1))
    assert 21 <= len(engine.submitted) <= 24
    assert list(results(store, bucket)) == ["clip00"]


# -- ledgers in which two clips have one job --------------------------------------------------------------------------


def write_job(s3: S3Client, bucket: str, name: str, *, submitted_at: float, **more: Any) -> None:
    """Record job 1 for a clip, as was done before one job was kept for one clip."""
    folder = result_folder(S3Uri(bucket, ROOT), S3Uri(bucket, f"out/{name}.mp4"))
    request = {"init_video": f"s3://{bucket}/in/{name}.mp4"}
    job = Job("1", DEFAULT_CONN_NAME, submitted_at=submitted_at, request=request)
    s3.put_object(
        Bucket=bucket,
        Key=f"{folder.key}/0001-job.json",
        Body=json.dumps({"version": 1, **job.to_dict(), **more}).encode(),
    )


@pytest.mark.slow
@pytest.mark.parametrize("indexed", [True, False])
@pytest.mark.parametrize("reuse", ["always", "run"])
def test_a_recorded_job_that_another_clip_has_landed_does_not_land(
    dag: Dag, store: Store, s3: S3Client, bucket: str, engine: WatchedEngine, reuse: str, indexed: bool
) -> None:
    row = dag.arguments["source"][0]
    execute(dag(source=[row]), attempt(1))
    write_job(s3, bucket, "b", submitted_at=time.time())
    if not indexed:
        for key in keys_of(s3, bucket):
            if "/index/" in key:
                s3.delete_object(Bucket=bucket, Key=key)
    assert outcomes(store, execute(dag(reuse=reuse), attempt(2))) == ONE_LANDED
    assert (results(store, bucket), len(engine.submitted)) == ({"a": "1"}, 1)
    told = execute(dag(reuse=reuse), attempt(3, b="resubmit"))
    assert outcomes(store, told)["b"] == ("landed", None)
    assert results(store, bucket) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("owner", ["a", "b"])
def test_a_job_that_two_clips_wait_for_lands_for_the_one_that_was_submitted_first(
    dag: Dag, store: Store, s3: S3Client, bucket: str, endpoint: Any, engine: WatchedEngine, owner: str
) -> None:
    endpoint.submit(instant_response=True)
    now = time.time()
    for name in "ab":
        write_job(s3, bucket, name, submitted_at=now - (60 if name == owner else 30))
    told = outcomes(store, execute(dag(max_in_flight=2), attempt(1)))
    assert {name for name, outcome in told.items() if outcome == ("landed", None)} == {owner}
    assert (results(store, bucket), len(engine.submitted)) == ({owner: "1"}, 1)


def test_an_id_that_a_person_gave_comes_after_one_that_the_endpoint_gave(
    dag: Dag, store: Store, s3: S3Client, bucket: str, endpoint: Any
) -> None:
    endpoint.submit(instant_response=True)
    now = time.time()
    write_job(s3, bucket, "a", submitted_at=now - 60, adopted=True)
    write_job(s3, bucket, "b", submitted_at=now - 30)
    told = outcomes(store, execute(dag(max_in_flight=2), attempt(1)))
    assert told == {"a": ("failed", "submission_unknown"), "b": ("landed", None)}
    assert results(store, bucket) == {"b": "1"}
