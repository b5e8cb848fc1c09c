"""The decorators while a Dag is parsed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import DAG, task
from airflow.sdk.definitions.mappedoperator import MappedOperator

from airflow_provider_modelslab import get_provider_info
from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.decorators.video2video import (
    modelslab_video2video_batch_task,
    modelslab_video2video_task,
)
from tests.support.airflow_versions import DagSerialization

NAMES = (
    "modelslab_video2video",
    "modelslab_video2video_batch",
    "modelslab_local_video2video",
    "modelslab_local_video2video_batch",
)


def request_for(clip: str = "s3://clips/a.mp4") -> dict[str, Any]:
    return {"init_video": clip, "prompt": "a fox", "model_id": "m"}


def test_they_are_registered() -> None:
    info: Any = get_provider_info()
    assert [entry["name"] for entry in info["task-decorators"]] == list(NAMES)
    for name in NAMES:
        with DAG("dag", schedule=None) as dag:
            getattr(task, name)(task_id="restyle")(request_for)()
        operator: Any = dag.get_task("restyle")
        assert operator.operator_name == f"@task.{name}"
        assert operator.multiple_outputs is False  # though the function is annotated with a dict
        stored = json.loads(json.dumps(DagSerialization.to_dict(dag)))
        assert DagSerialization.from_dict(stored).task_ids == ["restyle"]


def test_with_and_without_arguments_and_overridden() -> None:
    with DAG("dag", schedule=None) as dag:
        bare: Any = modelslab_video2video_task(request_for)
        bare()
        bare.override(task_id="other", deferrable=True, seed=7)("s3://clips/b.mp4")
    tasks: dict[str, Any] = dag.task_dict
    first, other = tasks["request_for"], tasks["other"]
    assert (first.seed, first.deferrable) == (None, False)
    assert (other.seed, other.deferrable) == (7, True)
    assert other.op_args == ("s3://clips/b.mp4",)


def test_arguments_of_the_function_and_of_the_operator_are_templated() -> None:
    with DAG("dag", schedule=None) as dag:
        modelslab_video2video_task(prompt="{{ params.prompt }}", task_id="restyle")(request_for)("{{ params.clip }}")
    assert {"op_args", "op_kwargs", "prompt", "init_video", "destination"} <= set(
        dag.get_task("restyle").template_fields
    )


def test_a_task_may_be_mapped_over_what_another_returns() -> None:
    with DAG("dag", schedule=None) as dag:

        @task
        def clips() -> list[str]:
            return ["s3://clips/a.mp4", "s3://clips/b.mp4"]

        modelslab_video2video_task(task_id="restyle", deferrable=True)(request_for).expand(clip=clips())
    mapped = dag.get_task("restyle")
    assert isinstance(mapped, MappedOperator)
    assert mapped.upstream_task_ids == {"clips"}
    one = mapped.unmap({"op_kwargs": {"clip": "s3://clips/a.mp4"}, "op_args": ()})
    assert one.deferrable is True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_frames": 0}, "num_frames: "),
        ({"strength": 2}, "strength: "),
        ({"timeout": -1}, "timeout: must be more than 0"),
    ],
)
def test_a_default_that_is_not_allowed_is_refused_while_parsing(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises((InvalidRequestError, ValueError), match=message):
        modelslab_video2video_task(task_id="restyle", **arguments)(request_for)()


def test_what_cannot_be_decorated() -> None:
    async def later() -> dict[str, Any]:
        return request_for()

    with pytest.raises(TypeError, match=r"^later: "):
        modelslab_video2video_task(later)()
    with pytest.raises(TypeError, match=r"^source: "):
        modelslab_video2video_batch_task(task_id="restyle", source="s3://clips/in/")(request_for)()
