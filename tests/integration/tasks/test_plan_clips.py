"""Clips for mapped tasks, found in a real S3 over TLS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from tests.integration.tasks.conftest import Store, WatchedEngine
from tests.support.samples import small_mp4
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

Make = Callable[..., ModelsLabPlanClipsOperator]
REQUEST: dict[str, Any] = {"model_id": "dark-sushi-mix", "prompt": "a fox", "num_frames": 5, "poll_interval": 0.02}


@pytest.fixture
def clips(s3: S3Client, bucket: str) -> Make:
    """Five clips below ``in/``."""
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"in/cam/clip{number}.mp4", Body=small_mp4())

    def make(**changes: Any) -> ModelsLabPlanClipsOperator:
        arguments = {"source": f"s3://{bucket}/in/", "destination": f"s3://{bucket}/out/", **changes}
        return ModelsLabPlanClipsOperator(task_id="clips", **arguments)

    return make


@pytest.mark.slow
def test_each_clip_is_the_arguments_of_one_mapped_task(
    clips: Make, bucket: str, store: Store, engine: WatchedEngine
) -> None:
    mapped = execute(clips())
    assert mapped == [
        {"init_video": f"s3://{bucket}/in/cam/clip{i}.mp4", "destination": f"s3://{bucket}/out/cam/clip{i}.mp4"}
        for i in range(5)
    ]
    assert engine.submitted == []
    one = execute(ModelsLabVideo2VideoOperator(task_id="restyle", **REQUEST, **mapped[3]), context_of())
    assert one["uri"] == f"s3://{bucket}/out/cam/clip3.mp4"
    assert store.frames(one["uri"]) == 5


@pytest.mark.slow
def test_chunks_are_the_source_of_mapped_batches(clips: Make, bucket: str, store: Store, engine: WatchedEngine) -> None:
    chunks = execute(clips(clips_per_task=2))
    assert len(chunks) == 3
    landed = 0
    for number, chunk in enumerate(chunks):
        task = ModelsLabVideo2VideoBatchOperator(
            task_id="restyle", **REQUEST, **chunk, destination=f"s3://{bucket}/out/"
        )
        landed += execute(task, context_of(TaskInstance(map_index=number)))["landed"]
    assert landed == len(engine.submitted) == 5
    assert store.frames(f"s3://{bucket}/out/cam/clip4.mp4") == 5


@pytest.mark.slow
def test_own_attributes_travel_with_the_clip(clips: Make, bucket: str) -> None:
    rows = [{"init_video": f"s3://{bucket}/in/cam/clip0.mp4", "prompt": "a wolf", "strength": 0.4}]
    (line,) = execute(clips(source=rows))
    assert line == {**rows[0], "destination": f"s3://{bucket}/out/in/cam/clip0.mp4"}


def test_too_many_for_mapped_tasks_is_told_with_the_way_out(clips: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__MAX_MAP_LENGTH", "2")
    with pytest.raises(InvalidRequestError, match=r"5 clips make 5 mapped tasks.*clips_per_task to 3 or more"):
        execute(clips())
    assert len(execute(clips(clips_per_task=3))) == 2


def test_a_name_made_of_the_request_needs_the_request(clips: Make) -> None:
    with pytest.raises(InvalidRequestError, match="uses hash, so give this task the model_id and prompt"):
        execute(clips(key_template="{hash}.mp4"))
    named = execute(clips(key_template="{hash}.mp4", model_id="dark-sushi-mix", prompt="a fox"))
    assert len({line["destination"] for line in named}) == 5


def test_signed_links_are_not_written_to_chunks(clips: Make, store: Store) -> None:
    rows = ["https://example.com/a.mp4?X-Amz-Signature=abc"]
    assert execute(clips(source=rows))[0]["init_video"] == rows[0]
    with pytest.raises(
        InvalidRequestError,
        match=r"1 of 1 clips have a link with a query.*https://example\.com/a\.mp4 \(init_video\)\.",
    ) as e:
        execute(clips(source=rows, clips_per_task=1))
    assert "abc" not in str(e.value)


@pytest.mark.slow
def test_a_clips_own_webhook_is_not_written_to_chunks_and_is_named(clips: Make, bucket: str) -> None:
    """Its path may be a secret, and the clip itself is no link at all."""
    rows = [{"init_video": f"s3://{bucket}/in/cam/clip0.mp4", "webhook": "https://hooks.example.com/abc", "seed": 1}]
    assert execute(clips(source=rows))[0]["webhook"] == rows[0]["webhook"]
    with pytest.raises(InvalidRequestError, match=r"clip0\.mp4 \(webhook\)") as e:
        execute(clips(source=rows, clips_per_task=1))
    assert "abc" not in str(e.value)


def test_a_chunk_has_at_least_one_clip(clips: Make) -> None:
    with pytest.raises(ValueError, match="clips_per_task: "):
        clips(clips_per_task=0)
