"""A batch resumes with the plan that it deferred with, and with no other: each job ends in its own clip's place."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import BatchFailedError, BatchSupersededError
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import Store, WatchedEngine
from tests.support.files_server import FilesServer, ServedFile
from tests.support.samples import small_mp4
from tests.support.task_ids import Try, made_at
from tests.support.tasks import TaskInstance, context_of, deferral_of, execute, to_the_end

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    return Dag(s3, bucket)


@pytest.mark.slow
@pytest.mark.parametrize("with_ids", [True, False])
def test_the_plan_of_another_attempt_is_refused(
    dag: Dag,
    s3: S3Client,
    bucket: str,
    store: Store,
    engine: WatchedEngine,
    gate: threading.Event,
    with_ids: bool,
) -> None:
    """A run that was deleted and made anew, while the process of the old one goes on and defers last."""

    def attempt(made: int, number: int = 1) -> Any:
        if not with_ids:
            return context_of(TaskInstance(try_number=number, max_tries=1))
        return context_of(Try(id=made_at(1_795_435_200_000 + made), try_number=number, max_tries=1))

    names = ["one", "three", "two"]
    dag.add(*names)
    old = deferral_of(dag(), attempt(1))
    assert old.kwargs is not None
    place = S3Uri.parse(old.kwargs["saved"])
    olds = store.read(str(place))
    dag.add("an-early-one")  # so that every clip has another number in the plan of the new run
    new = deferral_of(dag(), attempt(2))
    s3.put_object(Bucket=place.bucket, Key=place.key, Body=olds)
    gate.set()
    with pytest.raises(BatchSupersededError, match="plan of another attempt"):
        to_the_end(dag, new, attempt(2))
    assert execute(dag(deferrable=False), attempt(3, number=2))["found"] == 4
    for name in ["an-early-one", *names]:
        sidecar = json.loads(store.read(f"s3://{bucket}/out/{name}.mp4.json"))
        assert sidecar["request"]["init_video"] == f"s3://{bucket}/in/{name}.mp4"
    assert len(engine.submitted) == 4


@pytest.mark.slow
def test_the_same_plan_of_another_attempt_is_refused_too(
    dag: Dag,
    s3: S3Client,
    bucket: str,
    store: Store,
    engine: WatchedEngine,
    gate: threading.Event,
) -> None:
    """What that attempt knows of the outcomes is not what this one knows."""
    dag.add("one")
    old, new = (context_of(Try(id=made_at(made))) for made in (1, 2))
    first = deferral_of(dag(), old)
    assert first.kwargs is not None
    place = S3Uri.parse(first.kwargs["saved"])
    olds = store.read(str(place))
    second = deferral_of(dag(), new)
    news = store.read(str(place))
    s3.put_object(Bucket=place.bucket, Key=place.key, Body=olds)
    gate.set()
    with pytest.raises(BatchSupersededError):
        to_the_end(dag, second, new)
    s3.put_object(Bucket=place.bucket, Key=place.key, Body=news)
    assert to_the_end(dag, second, new)["landed"] == 1
    assert len(engine.submitted) == 1


def test_a_signed_link_in_the_place_of_another_is_not_submitted_for_it(
    dag: Dag,
    files: FilesServer,
    engine: WatchedEngine,
    gate: threading.Event,
) -> None:
    """It would be paid for, and lie there under the name and the fingerprint of the other one."""

    def link(name: str, signature: int) -> str:
        return f"{files.add(f'/{name}.mp4', ServedFile(small_mp4(), 'video/mp4'))}?sig={signature}"

    arguments: dict[str, Any] = {"key_template": "{index:03d}.{ext}", "max_in_flight": 1}
    deferred = deferral_of(dag(source=[link("dog", 1), link("cat", 1), link("fox", 1)], **arguments))
    gate.set()
    moved = [link("dog", 2), link("NEW", 2), link("fox", 2)]
    with pytest.raises(BatchFailedError, match="1 of 3 clips failed") as failed:
        to_the_end(lambda: dag(source=moved, **arguments), deferred)
    assert "2 landed" in str(failed.value)
    assert "validation: " in str(failed.value)
    assert "init_video: is a signed link" in str(failed.value)
    assert sorted(path.rpartition("/")[2] for path in sent(engine)) == ["dog.mp4?sig=1", "fox.mp4?sig=2"]


def sent(engine: WatchedEngine) -> list[str]:
    return [str(request.init_video) for request in engine.submitted]
