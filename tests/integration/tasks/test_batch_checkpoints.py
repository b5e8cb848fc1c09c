"""What a deferred batch saves in S3 is deleted when it is of no use; who would have needed it goes on without it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import (
    BatchFailedError,
    BatchSupersededError,
    PaymentRequiredError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import Store, WatchedEngine
from tests.support.s3 import keys_of, lines_of, refusing
from tests.support.task_ids import Try, made_at
from tests.support.tasks import (
    TaskInstance,
    context_of,
    deferral_of,
    event_of,
    execute,
    in_the_triggerer,
    resume,
    to_the_end,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.usefixtures("connections"), pytest.mark.slow]

NOTHING_ENDED = {"status": "success", "ended": [], "waiting": 1}
CLIPS = 5


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    dag = Dag(s3, bucket, max_in_flight=2)
    dag.add(*(f"clip{number}" for number in range(CLIPS)))
    return dag


def attempt(number: int, *, run_id: str = TaskInstance.run_id) -> Any:
    return context_of(TaskInstance(try_number=number, max_tries=9, run_id=run_id))


def checkpoints(s3: S3Client, bucket: str) -> list[str]:
    """The numbers of the tries that have one."""
    names = [key.rpartition("/")[2] for key in keys_of(s3, bucket) if key.endswith(".state.json.gz")]
    return [name.removesuffix(".state.json.gz").rpartition(".try")[2] for name in names]


def test_a_batch_that_ends_well_leaves_none(dag: Dag, s3: S3Client, bucket: str, gate: threading.Event) -> None:
    deferred = deferral_of(dag())
    assert checkpoints(s3, bucket) == ["1"]
    gate.set()
    assert to_the_end(dag, deferred)["landed"] == CLIPS
    assert checkpoints(s3, bucket) == []


def test_a_batch_that_fails_leaves_none(dag: Dag, s3: S3Client, bucket: str, gate: threading.Event) -> None:
    dag.arguments["prompt"] = "unreadable"
    deferred = deferral_of(dag())
    gate.set()
    with pytest.raises(BatchFailedError):
        to_the_end(dag, deferred)
    assert checkpoints(s3, bucket) == []


@pytest.mark.slow
@pytest.mark.parametrize("deferrable", [True, False])
def test_the_next_try_deletes_those_of_the_tries_before(
    dag: Dag, s3: S3Client, bucket: str, gate: threading.Event, deferrable: bool
) -> None:
    for number in (1, 2):
        deferral_of(dag(), attempt(number))
        assert checkpoints(s3, bucket) == [str(number)]
    deferral_of(dag(), attempt(1, run_id="another"))
    if deferrable:
        last = deferral_of(dag(), attempt(10))  # as a text it comes before the second
        assert sorted(checkpoints(s3, bucket)) == ["1", "10"]
        gate.set()
        to_the_end(dag, last, attempt(10))
    else:
        gate.set()
        execute(dag(deferrable=False), attempt(3))
    assert checkpoints(s3, bucket) == ["1"]  # that of the other run


def test_a_state_that_cannot_be_saved_deletes_no_other(
    dag: Dag, s3: S3Client, bucket: str, store: Store, engine: WatchedEngine, gate: threading.Event
) -> None:
    first = deferral_of(dag(), attempt(1))
    task = dag()
    with (
        refusing(task.hook.get_s3_client(), "PutObject", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError),
    ):
        execute(task, attempt(2))
    assert checkpoints(s3, bucket) == ["1"]
    gate.set()
    assert to_the_end(dag, first, attempt(1))["landed"] == CLIPS
    assert len(engine.submitted) == CLIPS


@pytest.mark.parametrize("operation", ["ListObjectsV2", "DeleteObject"])
def test_where_nothing_may_be_deleted_the_batch_ends_all_the_same(
    dag: Dag, s3: S3Client, bucket: str, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    from airflow_provider_modelslab.batch.results import checkpoint

    deferred = deferral_of(dag())
    gate.set()
    deleting = checkpoint.delete_checkpoints

    def refused(client: S3Client, *arguments: Any) -> None:
        with refusing(client, operation, 403, "AccessDenied"):
            deleting(client, *arguments)

    monkeypatch.setattr(checkpoint, "delete_checkpoints", refused)
    assert to_the_end(dag, deferred)["landed"] == CLIPS
    assert checkpoints(s3, bucket) == ["1"]


def test_a_process_of_an_older_run_leaves_the_state_of_the_new_one(
    dag: Dag, s3: S3Client, bucket: str, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was deleted and made anew has the same names; the old one's process goes on, and ends."""
    old, new = (context_of(Try(id=made_at(1_795_435_200_000 + made))) for made in (1, 60_000))
    first = deferral_of(dag(), old)
    gate.set()
    resumed = dag(deferrable=False)
    ending = resumed._end_segment

    def overtaken(*arguments: Any) -> Any:
        gate.clear()
        deferral_of(dag(prompt="a wolf"), new)
        return ending(*arguments)

    monkeypatch.setattr(resumed, "_end_segment", overtaken)
    assert resume(resumed, first, event_of(in_the_triggerer(first)), old)["landed"] == CLIPS
    assert checkpoints(s3, bucket) == ["1"]


# -- going on without one ---------------------------------------------------------------------------------------------


def delete_checkpoint(s3: S3Client, deferred: Any) -> None:
    place = S3Uri.parse(deferred.kwargs["saved"])
    s3.delete_object(Bucket=place.bucket, Key=place.key)


def test_an_attempt_whose_state_is_gone_goes_on_from_the_ledgers(
    dag: Dag, s3: S3Client, bucket: str, store: Store, engine: WatchedEngine, gate: threading.Event
) -> None:
    deferred = deferral_of(dag())
    delete_checkpoint(s3, deferred)
    gate.set()
    summary = to_the_end(dag, deferred)
    assert (summary["landed"], summary["failed"]) == (CLIPS, 0)
    assert len(engine.submitted) == CLIPS
    assert len(lines_of(store.s3, summary["manifest"])) == CLIPS
    assert checkpoints(s3, bucket) == []


def test_without_its_state_an_attempt_keeps_the_deadlines_of_its_jobs(
    dag: Dag, s3: S3Client, gate: threading.Event
) -> None:
    dag.arguments["max_in_flight"] = CLIPS
    deferred = deferral_of(dag())
    delete_checkpoint(s3, deferred)
    assert deferred.kwargs is not None
    for job in deferred.kwargs["in_flight"]:
        job["deadline"] -= 600  # as if it had waited for so long
    with pytest.raises(BatchFailedError, match="timeout"):
        resume(dag(), deferred, NOTHING_ENDED)


def test_what_was_given_up_stays_given_up_without_its_state(
    dag: Dag, s3: S3Client, engine: WatchedEngine, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, numbers = ModelsLabHook.submit, iter(range(99))

    def refused(hook: ModelsLabHook, *arguments: Any, **options: Any) -> Any:
        if next(numbers) >= 1:
            raise PaymentRequiredError("no credit is left")
        return submit(hook, *arguments, **options)

    dag.arguments |= {"max_failed": None}
    with monkeypatch.context() as patch:
        patch.setattr(ModelsLabHook, "submit", refused)
        deferred = deferral_of(dag())
    delete_checkpoint(s3, deferred)
    gate.set()
    with pytest.raises(BatchFailedError, match="no credit is left"):
        to_the_end(dag, deferred)
    assert len(engine.submitted) == 1


@pytest.mark.slow
@pytest.mark.parametrize("newer_ends", ["before", "after"])
def test_an_older_attempt_that_goes_on_without_its_state_pays_for_nothing(
    dag: Dag, s3: S3Client, bucket: str, store: Store, engine: WatchedEngine, gate: threading.Event, newer_ends: str
) -> None:
    """Airflow believes it to be gone, and a later try has deleted what it saved."""
    first = deferral_of(dag(), attempt(1))
    second = deferral_of(dag(), attempt(2))
    assert checkpoints(s3, bucket) == ["2"]
    gate.set()
    if newer_ends == "before":
        summary = to_the_end(dag, second, attempt(2))
        with pytest.raises(BatchSupersededError):
            to_the_end(dag, first, attempt(1))
    else:
        to_the_end(dag, first, attempt(1))
        summary = to_the_end(dag, second, attempt(2))
    assert summary["landed"] + summary["skipped"] == CLIPS
    assert {line["status"] for line in lines_of(store.s3, summary["manifest"])} <= {"landed", "skipped"}
    assert len(engine.submitted) == CLIPS
    assert checkpoints(s3, bucket) == []
