"""A local task that is killed, or runs into ``execution_timeout``: nothing half-written stays, and nothing goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_modelslab.local.engine import GenerationInterruptedError, LocalEngine
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator
from airflow_provider_modelslab.storage.upload import ObjectUpload
from tests.integration.tasks.conftest import Store
from tests.support.connections import set_modelslab
from tests.support.s3 import keys_of, lines_of
from tests.support.samples import small_mp4
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIPS = 4
COMMON: dict[str, Any] = {
    "model_id": "tiny",
    "prompt": "a fox",
    "num_frames": 3,
    "num_inference_steps": 6,
    "strength": 1.0,
    "width": 32,
    "height": 32,
    "seed": 11,
    "device": "cpu",
}

pytestmark = pytest.mark.usefixtures("connection", "alarm", "model_cache")


@pytest.fixture
def connection(s3_connection: None, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, key=None, **s3_extra)


@pytest.fixture
def alarm() -> Iterator[None]:
    """Airflow's own way to end a task at its ``execution_timeout``: a signal whose handler raises, wherever it is."""

    def ring(number: int, frame: object) -> None:
        raise AirflowTaskTimeout("Timeout")

    before = signal.signal(signal.SIGALRM, ring)
    yield
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def one(tmp_path: Path) -> LocalVideo2VideoOperator:
    clip = tmp_path / "in.mp4"
    clip.write_bytes(small_mp4())
    return LocalVideo2VideoOperator(task_id="restyle", init_video=str(clip), **COMMON)


@pytest.fixture
def many(s3: S3Client, bucket: str) -> Callable[[], LocalVideo2VideoBatchOperator]:
    for number in range(CLIPS):
        s3.put_object(Bucket=bucket, Key=f"in/clip{number}.mp4", Body=small_mp4())

    def make() -> LocalVideo2VideoBatchOperator:
        places: dict[str, Any] = {"source": f"s3://{bucket}/in/", "destination": f"s3://{bucket}/out/"}
        return LocalVideo2VideoBatchOperator(task_id="restyle", **places, **COMMON)

    return make


def at_work() -> set[str]:
    """The package's threads that are alive."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(("modelslab", "landing"))}


def check_nothing_is_left(s3: S3Client, bucket: str) -> None:
    assert [key for key in keys_of(s3, bucket) if key.endswith((".mp4", ".mp4.json", "landed.json"))] == []
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []
    assert at_work() == set()


@pytest.mark.slow
def test_a_kill_ends_the_model_after_the_running_step(
    one: LocalVideo2VideoOperator, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def tell(done: int, of: int) -> None:
        steps.append(done)
        one.on_kill()

    monkeypatch.setattr(one, "_log_step", tell)
    with pytest.raises(GenerationInterruptedError, match="stopped after 1 of 6"):
        execute(one)
    assert steps == [1]
    check_nothing_is_left(s3, bucket)


@pytest.mark.slow
def test_the_execution_timeout_ends_the_model_and_gives_it_free(
    one: LocalVideo2VideoOperator, s3: S3Client, bucket: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []

    def tell(done: int, of: int) -> None:
        steps.append(done)
        signal.raise_signal(signal.SIGALRM)

    with monkeypatch.context() as patch:
        patch.setattr(one, "_log_step", tell)
        with pytest.raises(AirflowTaskTimeout):
            execute(one)
    assert steps == [1]
    check_nothing_is_left(s3, bucket)
    # The same process's model is under no lock, and of sound mind.
    assert store.frames(execute(one)["uri"]) == 3


@pytest.mark.slow
def test_the_execution_timeout_during_the_upload_leaves_no_object(
    one: LocalVideo2VideoOperator, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ObjectUpload.write

    def write(upload: ObjectUpload, data: Any) -> None:
        real(upload, data)
        signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(ObjectUpload, "write", write)
    with pytest.raises(AirflowTaskTimeout):
        execute(one)
    check_nothing_is_left(s3, bucket)


@pytest.mark.slow
def test_the_execution_timeout_of_a_batch_leaves_whole_clips_and_no_thread(
    many: Callable[[], LocalVideo2VideoBatchOperator],
    s3: S3Client,
    bucket: str,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, made = LocalEngine.render, 0

    def render(engine: LocalEngine, prepared: Any, **options: Any) -> Any:
        nonlocal made
        if made == 2:
            signal.raise_signal(signal.SIGALRM)
        made += 1
        return real(engine, prepared, **options)

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "render", render)
        with pytest.raises(AirflowTaskTimeout):
            execute(many())
    assert at_work() == set()
    there = [key for key in keys_of(s3, bucket) if key.startswith("out/") and key.endswith(".mp4")]
    assert len(there) == 2  # those that were made are written
    assert [store.frames(f"s3://{bucket}/{key}") for key in there] == [3, 3]
    summary = execute(many(), context_of(TaskInstance(try_number=2, max_tries=1)))
    assert (summary["landed"], summary["skipped"]) == (4, 0)  # two of them by the first try
    assert len(list(lines_of(s3, summary["manifest"]))) == CLIPS
