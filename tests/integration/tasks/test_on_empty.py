"""A batch without clips: skipped by default, so that what comes after does not run on nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import DAG

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.decorators.video2video import modelslab_video2video_batch_task
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from tests.integration.tasks.conftest import WatchedEngine
from tests.support.s3 import keys_of
from tests.support.shell import Shell
from tests.support.tasks import context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

CLASSES = [ModelsLabVideo2VideoBatchOperator, LocalVideo2VideoBatchOperator, ModelsLabPlanClipsOperator]


def task_of(cls: type[Any], bucket: str, **changes: Any) -> Any:
    given = {
        "model_id": "tiny",
        "prompt": "a fox",
        "source": f"s3://{bucket}/in/",
        "destination": f"s3://{bucket}/out/",
    }
    return cls(task_id="restyle", **{**given, **changes})


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("source", ["prefix", "pattern", "list"])
def test_nothing_to_do_is_skipped(
    cls: type[Any], source: str, bucket: str, s3: S3Client, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put_object(Bucket=bucket, Key="in-2/clip.mov", Body=b"x")
    changes: dict[str, dict[str, Any]] = {
        "prefix": {},
        "pattern": {"source": f"s3://{bucket}/in-2/", "pattern": "*.mp4"},
        "list": {"source": []},
    }
    with pytest.raises(AirflowSkipException) as skipped:
        execute(task_of(cls, bucket, **changes[source]))
    expected = {"prefix": f"s3://{bucket}/in-2/", "pattern": "clip.mov", "list": "list is empty"}[source]
    assert expected in str(skipped.value)
    assert [line for line in capsys.readouterr().out.splitlines() if "[warning" in line and expected in line]
    assert keys_of(s3, bucket) == ["in-2/clip.mov"]


@pytest.mark.parametrize("cls", CLASSES)
def test_it_may_fail_or_succeed(cls: type[Any], bucket: str) -> None:
    with pytest.raises(InvalidRequestError) as failed:
        execute(task_of(cls, bucket, on_empty="fail"))
    assert list(failed.value.fields) == ["source"]
    done = execute(task_of(cls, bucket, on_empty="{{ params.then }}"), context_of(then="succeed"))
    assert done == [] if cls is ModelsLabPlanClipsOperator else done["found"] == 0
    with pytest.raises(InvalidRequestError) as wrong:
        execute(task_of(cls, bucket, on_empty="{{ params.then }}"), context_of(then="ignore"))
    assert list(wrong.value.fields) == ["on_empty"]


def test_a_function_that_returns_no_clips_is_skipped_too(bucket: str, engine: WatchedEngine) -> None:
    with DAG("restyling", schedule=None) as dag:

        @modelslab_video2video_batch_task(
            task_id="restyle", destination=f"s3://{bucket}/out/", model_id="m", prompt="a fox"
        )
        def clips() -> list[str]:
            return []

        clips()
    task: Any = dag.get_task("restyle")
    with pytest.raises(AirflowSkipException):
        execute(task)
    assert engine.submitted == []


def test_the_command_plan_fails_unless_told_otherwise(airflow: Shell, bucket: str) -> None:
    line = ["plan", f"s3://{bucket}/in/", "--to", f"s3://{bucket}/out/", "--model-id", "m", "--prompt", "a fox"]
    assert airflow(*line) == 1
    assert "SOURCE" in airflow.err
    assert airflow(*line, "--on-empty", "succeed", "--json") == 0
    assert json.loads(airflow.out)["clips"] == 0
    assert "no clips" in airflow.err
