"""``clip_version`` goes before link, ETag and content: in tasks, batches, decorators and the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, task

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from tests.integration.tasks.conftest import FRAMES, Restyle, WatchedEngine
from tests.support.s3 import lines_of
from tests.support.samples import small_mp4
from tests.support.shell import Shell
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick")

REQUEST: dict[str, Any] = {"model_id": "dark-sushi-mix", "prompt": "a fox", "num_frames": FRAMES, "seed": 11}


def run_id(name: str, **params: Any) -> Any:
    return context_of(TaskInstance(run_id=name), **params)


@pytest.fixture
def batch(bucket: str) -> Callable[..., ModelsLabVideo2VideoBatchOperator]:
    def make(source: Any, **changes: Any) -> ModelsLabVideo2VideoBatchOperator:
        waits: dict[str, Any] = {"poll_interval": 0.02, "max_poll_interval": 0.1}
        place = {"destination": f"s3://{bucket}/out/"}
        return ModelsLabVideo2VideoBatchOperator(
            task_id="restyle", source=source, **{**REQUEST, **waits, **place, **changes}
        )

    return make


@pytest.mark.slow
def test_a_link_that_differs_each_day_is_the_same_clip(restyle: Restyle, clip: str, engine: WatchedEngine) -> None:
    def day(name: str, version: object) -> Any:
        made = restyle(
            init_video=f"{clip}?ticket={name}",
            clip_version="{{ params.version }}",
            destination="out.mp4",
            reuse="always",
        )
        return execute(made, run_id(name, version=version))

    assert day("monday", 7) == day("tuesday", "7") == day("wednesday", " 7 ")
    assert len(engine.submitted) == 1
    day("thursday", "8")
    assert len(engine.submitted) == 2


@pytest.mark.slow
@pytest.mark.parametrize("nothing", [None, "", "  "])
def test_a_version_that_renders_to_nothing_is_not_given(
    restyle: Restyle, clip: str, engine: WatchedEngine, nothing: object
) -> None:
    for name in ("monday", "tuesday"):
        made = restyle(
            init_video=f"{clip}?ticket={name}",
            clip_version="{{ params.version }}",
            destination="out.mp4",
            reuse="always",
        )
        execute(made, run_id(name, version=nothing))
    assert len(engine.submitted) == 2
    execute(restyle(init_video=f"{clip}?ticket=tuesday", destination="out.mp4", reuse="always"), run_id("wednesday"))
    assert len(engine.submitted) == 2


@pytest.mark.parametrize("version", [1.5, True, ["7"]])
def test_a_version_that_is_no_text_is_refused(restyle: Restyle, clip: str, version: Any) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        restyle(clip_version=version)
    assert list(caught.value.fields) == ["clip_version"]


def test_an_object_that_was_written_anew_is_the_same_clip(
    restyle: Restyle, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    for frames, name in ((5, "monday"), (6, "tuesday")):
        s3.put_object(Bucket=bucket, Key="in.mp4", Body=small_mp4(frames=frames))
        made = restyle(init_video=f"s3://{bucket}/in.mp4", clip_version="v1", destination="out.mp4", reuse="always")
        execute(made, run_id(name))
    assert len(engine.submitted) == 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["list", "jsonl", "csv"])
@pytest.mark.parametrize("template", ["{path}/{stem}.{ext}", "{hash}.{ext}"])
def test_a_row_of_a_batch_has_a_version(
    batch: Callable[..., ModelsLabVideo2VideoBatchOperator],
    clip: str,
    engine: WatchedEngine,
    s3: S3Client,
    bucket: str,
    form: str,
    template: str,
) -> None:
    def day(name: str, version: str | None) -> Any:
        row = {"init_video": f"{clip}?ticket={name}", **({} if version is None else {"clip_version": version})}
        source: Any = [row]
        if form != "list":
            body = json.dumps(row) if form == "jsonl" else ",".join(row) + "\n" + ",".join(row.values())
            s3.put_object(Bucket=bucket, Key=f"{name}.{form}", Body=body.encode())
            source = f"s3://{bucket}/{name}.{form}"
        return execute(batch(source, key_template=template), run_id(name))

    assert day("monday", "7")["landed"] == 1
    assert day("tuesday", "7")["skipped"] == 1
    assert day("wednesday", "8")["landed"] == 1
    assert len(engine.submitted) == 2
    assert day("thursday", None)["landed"] == day("friday", None)["landed"] == 1


@pytest.mark.slow
def test_a_batch_a_task_and_the_command_know_each_others_versions(
    batch: Callable[..., ModelsLabVideo2VideoBatchOperator],
    restyle: Restyle,
    airflow: Shell,
    clip: str,
    engine: WatchedEngine,
    bucket: str,
) -> None:
    place = f"s3://{bucket}/out/in.mp4"
    line = ["submit", f"{clip}?ticket=0", "--model-id", "dark-sushi-mix", "--prompt", "a fox", "--seed", "11"]
    line += ["--num-frames", str(FRAMES), "--to", place, "--yes", "--clip-version", "7"]
    assert airflow(*line) == 0
    assert execute(batch([{"uri": f"{clip}?ticket=1", "clip_version": 7}]))["skipped"] == 1
    execute(restyle(init_video=f"{clip}?ticket=2", clip_version="7", destination=place, reuse="always"))
    assert len(engine.submitted) == 1


def test_a_retry_manifest_and_planned_clips_keep_the_version(
    batch: Callable[..., ModelsLabVideo2VideoBatchOperator], engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    source = [{"uri": f"s3://{bucket}/in.mp4", "clip_version": "7"}]
    s3.put_object(Bucket=bucket, Key="in.mp4", Body=b"no video, whatever its name says")
    summary = execute(batch(source, max_failed=None))
    (again,) = lines_of(s3, summary["retry"])
    assert again["clip_version"] == "7"
    planned = execute(
        ModelsLabPlanClipsOperator(task_id="plan", source=source, destination=f"s3://{bucket}/out/", **REQUEST)
    )
    assert [line["clip_version"] for line in planned] == ["7"]
    s3.put_object(Bucket=bucket, Key="in.mp4", Body=small_mp4())
    assert execute(batch(summary["retry"]), run_id("again"))["landed"] == 1
    assert execute(batch(source), run_id("and again"))["skipped"] == 1


@pytest.mark.slow
def test_a_function_says_the_version_with_the_clip(clip: str, engine: WatchedEngine) -> None:
    def made(ticket: int) -> Any:
        with DAG("restyling", schedule=None):

            @task.modelslab_video2video(
                task_id="restyle", **REQUEST, destination="out.mp4", reuse="always", poll_interval=0.02
            )
            def restyle() -> dict[str, Any]:
                return {"init_video": f"{clip}?ticket={ticket}", "clip_version": "7"}

            made: Any = restyle()
            return made.operator

    for ticket in (1, 2):
        execute(made(ticket), run_id(f"run {ticket}"))
    assert len(engine.submitted) == 1
