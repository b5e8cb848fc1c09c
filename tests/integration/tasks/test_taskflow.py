"""Functions that return requests, as tasks against a real endpoint and a real S3 server."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, BaseOperator

from airflow_provider_modelslab.api.errors import ErrorCode, InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.decorators.video2video import (
    modelslab_local_video2video_batch_task,
    modelslab_local_video2video_task,
    modelslab_video2video_batch_task,
    modelslab_video2video_task,
)
from tests.integration.tasks.conftest import FRAMES, Store, WatchedEngine
from tests.support.samples import small_mp4
from tests.support.tasks import TaskInstance, context_of, deferral_of, event_of, execute, in_the_triggerer, resume

if TYPE_CHECKING:
    from airflow.sdk.bases.decorator import TaskDecorator
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

QUICK: dict[str, Any] = {"poll_interval": 0.02, "max_poll_interval": 0.1, "timeout": 600, "num_frames": FRAMES}


class Function:
    """What users decorate; it counts its calls."""

    __name__ = "restyle"

    def __init__(self, returned: Callable[..., Any]) -> None:
        self.calls = 0
        self._returned = returned

    def __call__(self, clip: str = "", ti: Any = None) -> Any:
        self.calls += 1
        return self._returned(clip, ti)


def task_of(decorator: TaskDecorator, function: Function, *arguments: Any) -> BaseOperator:
    """The operator as each parse of the Dag makes it."""

    def restyle(clip: str = "", ti: Any = None) -> Any:
        return function(clip, ti)

    with DAG("restyling", schedule=None) as dag:
        decorator(restyle)(*arguments)
    task = dag.get_task("restyle")
    assert isinstance(task, BaseOperator)
    return task


@pytest.mark.slow
def test_what_the_function_returns_goes_before_the_defaults(clip: str, engine: WatchedEngine) -> None:
    function = Function(lambda clip, ti: {"init_video": clip, "prompt": f"a fox in {ti.task_id}", "seed": 5})
    decorator = modelslab_video2video_task(model_id="m", prompt="{{ params.prompt }}", seed=1, strength=0.5, **QUICK)
    manifest = execute(task_of(decorator, function, "{{ params.clip }}"), context_of(clip=clip, prompt="a wolf"))
    (request,) = engine.submitted
    assert (request.prompt, request.seed, request.strength) == ("a fox in restyle", 5, 0.5)
    assert (manifest["status"], manifest["seed"], function.calls) == ("landed", 5, 1)


def test_a_request_may_be_returned(clip: str, engine: WatchedEngine) -> None:
    def made(given: str, ti: object) -> Video2VideoRequest:
        return Video2VideoRequest(model_id="m", prompt="a fox", init_video=given, lora_models=("a", "b"))

    execute(task_of(modelslab_video2video_task(strength=0.5, **QUICK), Function(made), clip))
    (request,) = engine.submitted
    assert (request.lora_models, request.strength, request.output_type) == (("a", "b"), 0.5, "mp4")


def test_the_function_is_called_once_when_the_task_is_deferred(
    clip: str, engine: WatchedEngine, gate: threading.Event
) -> None:
    function = Function(lambda clip, ti: {"init_video": clip, "prompt": "a fox", "model_id": "m", "output_type": "gif"})
    decorator = modelslab_video2video_task(deferrable=True, init_video="s3://clips/none.mp4", **QUICK)
    deferred = deferral_of(task_of(decorator, function, clip))
    gate.set()
    resumed: Any = task_of(decorator, function, clip)
    manifest = resume(resumed, deferred, event_of(in_the_triggerer(deferred)))
    assert manifest["uri"].endswith(".gif")
    (told,) = resumed.get_openlineage_facets_on_complete(None).inputs
    assert told.namespace + told.name == clip
    assert (function.calls, len(engine.submitted)) == (1, 1)

    # A retry asks the function, and finds what is paid for.
    again = execute(task_of(decorator, function, clip), context_of(TaskInstance(try_number=2, max_tries=1)))
    assert (again["uri"], function.calls, len(engine.submitted)) == (manifest["uri"], 2, 1)


@pytest.mark.slow
def test_another_submission_asks_the_function_again(clip: str, engine: WatchedEngine, gate: threading.Event) -> None:
    function = Function(lambda clip, ti: {"init_video": clip, "prompt": "a fox", "model_id": "m"})
    decorator = modelslab_video2video_task(deferrable=True, **QUICK)
    deferral_of(task_of(decorator, function, clip))
    second = context_of(TaskInstance(try_number=2, max_tries=1))
    deferred = deferral_of(task_of(decorator, function, clip), second)
    failed = {"status": "error", "code": ErrorCode.JOB_FAILED.value, "message": "it broke", "job_id": "1"}
    gate.set()
    manifest = resume(task_of(modelslab_video2video_task(**QUICK), function, clip), deferred, failed, second)
    assert (manifest["status"], function.calls, len(engine.submitted)) == ("landed", 3, 2)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "request: the function must return a mapping"),
        ({"prompt": "a fox"}, "model_id: is required"),
        ({"model_id": "m", "promt": "a fox"}, "promt: .* did you mean prompt"),
        ({"model_id": "m", "prompt": "a fox", "strength": 7}, "strength: must be at most 1; got 7"),
        ({"destination": "there/"}, "destination: is an argument of the decorator"),
        ({"model_id": "m", "prompt": "a fox", "init_video": None}, "init_video: is required"),
    ],
)
def test_a_bad_return_costs_nothing(clip: str, engine: WatchedEngine, returned: object, message: str) -> None:
    decorator = modelslab_video2video_task(init_video=clip, **QUICK)
    with pytest.raises(InvalidRequestError, match=message):
        execute(task_of(decorator, Function(lambda clip, ti: returned)))
    assert engine.submitted == []


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clips(s3: S3Client, bucket: str) -> list[str]:
    for name in "abc":
        s3.put_object(Bucket=bucket, Key=f"in/{name}.mp4", Body=small_mp4())
    return [f"s3://{bucket}/in/{name}.mp4" for name in "abc"]


def test_a_batch_of_what_the_function_names(clips: list[str], engine: WatchedEngine, bucket: str) -> None:
    def named(prefix: str, ti: object) -> dict[str, Any]:
        first = Video2VideoRequest(model_id="m", prompt="a wolf", init_video=clips[0])
        return {"source": [first, *clips[1:]], "prompt": "a fox", "seed": 3}

    decorator = modelslab_video2video_batch_task(
        model_id="m", prompt="nothing", destination=f"s3://{bucket}/out/", max_in_flight=1, **QUICK
    )
    summary = execute(task_of(decorator, Function(named)))
    assert (summary["found"], summary["landed"]) == (3, 3)
    assert sorted(request.prompt for request in engine.submitted) == ["a fox", "a fox", "a wolf"]
    assert {request.seed for request in engine.submitted} == {3}


def test_a_sample_of_what_the_function_names(clips: list[str], engine: WatchedEngine, bucket: str) -> None:
    decorator = modelslab_video2video_batch_task(
        model_id="m", prompt="a fox", destination=f"s3://{bucket}/out/", sample="{{ 1 + 1 }}", **QUICK
    )
    summary = execute(task_of(decorator, Function(lambda prefix, ti: clips)))
    assert (summary["found"], summary["landed"], summary["ignored"]) == (2, 2, {"not in the sample": 1})
    assert len(engine.submitted) == 2


@pytest.mark.slow
def test_a_deferred_batch_calls_the_function_again_only_for_signed_links(
    clips: list[str], s3: S3Client, bucket: str, engine: WatchedEngine, gate: threading.Event
) -> None:
    def signed(given: str, ti: object) -> list[str]:
        return [
            s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": f"in/{name}.mp4"})
            for name in "abc"
        ]

    gate.set()
    for returned, calls in (((lambda clip, ti: {"source": clips, "prompt": "a fox"}), 1), (signed, 2)):
        function, engine.submitted[:] = Function(returned), []
        decorator = modelslab_video2video_batch_task(
            model_id="m",
            prompt="a wolf",
            destination=f"s3://{bucket}/out{calls}/",
            deferrable=True,
            defer_after=0.0,
            max_in_flight=3,
            check_input=False,
            **QUICK,
        )
        gate.clear()
        deferred = deferral_of(task_of(decorator, function))
        gate.set()
        summary = resume(task_of(decorator, function), deferred, event_of(in_the_triggerer(deferred)))
        assert (summary["landed"], function.calls, len(engine.submitted)) == (3, calls, 3)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (None, "source: the function must return"),
        ([{"init_video": "s3://clips/a.mp4", "strength": 7}], "strength"),
        ({"source": "s3://clips/in/", "strenght": 1}, "strenght: .* did you mean strength"),
    ],
)
def test_a_bad_source_costs_nothing(engine: WatchedEngine, bucket: str, returned: object, message: str) -> None:
    decorator = modelslab_video2video_batch_task(
        model_id="m", prompt="a fox", destination=f"s3://{bucket}/out/", **QUICK
    )
    with pytest.raises(InvalidRequestError, match=message):
        execute(task_of(decorator, Function(lambda clip, ti: returned)))
    assert engine.submitted == []


# -- on this machine --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_functions_on_this_machine(
    tmp_path: Path, bucket: str, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    file = tmp_path / "in.mp4"
    file.write_bytes(small_mp4())
    small: dict[str, Any] = {
        "model_id": "tiny",
        "num_frames": 2,
        "num_inference_steps": 1,
        "width": 32,
        "height": 32,
        "device": "cpu",
    }
    function = Function(lambda clip, ti: {"init_video": clip, "prompt": "a fox", "seed": 5})
    manifest = execute(task_of(modelslab_local_video2video_task(deferrable=True, **small), function, str(file)))
    assert json.loads(store.read(manifest["sidecar_uri"]))["request"]["prompt"] == "a fox"

    many = modelslab_local_video2video_batch_task(prompt="a wolf", destination=f"s3://{bucket}/out/", **small)
    summary = execute(task_of(many, Function(lambda clip, ti: [clip]), str(file)))
    assert (summary["found"], summary["landed"]) == (1, 1)
