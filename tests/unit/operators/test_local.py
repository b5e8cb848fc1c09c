"""A Dag moves between the endpoint and a GPU of its own by changing the class, mapped or not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_modelslab.decorators.video2video import (
    modelslab_local_video2video_batch_task,
    modelslab_local_video2video_task,
)
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator

PAIRS = [
    (ModelsLabVideo2VideoOperator, LocalVideo2VideoOperator),
    (ModelsLabVideo2VideoBatchOperator, LocalVideo2VideoBatchOperator),
]
WAITING: dict[str, Any] = {
    "deferrable": True,
    "poll_interval": 3,
    "max_poll_interval": 9,
    "check_input": False,
    "on_unknown_submission": "resubmit",
}
ONE: dict[str, Any] = {**WAITING, "wait_for_completion": False, "land_result": True}
MANY: dict[str, Any] = {**WAITING, "max_in_flight": 3, "defer_after": 2.0, "resume_threshold": 0.9}
COMMON: dict[str, Any] = {"model_id": "tiny", "prompt": "a fox"}


def parameters_of(operator: type[Any]) -> dict[str, Any]:
    """Names and defaults of the keyword arguments of an operator, as Airflow's ``partial()`` sees them.

    Those of Airflow's own base class are left out; where two classes declare a name, the more derived one counts.
    """
    ours = [cls for cls in operator.__mro__ if cls.__module__.startswith("airflow_provider_modelslab")]
    return {
        name: found.default
        for cls in reversed(ours)
        if "__init__" in vars(cls)
        for name, found in inspect.signature(inspect.unwrap(vars(cls)["__init__"])).parameters.items()
        if found.kind is inspect.Parameter.KEYWORD_ONLY
    }


@pytest.mark.parametrize(("remote", "local"), PAIRS)
def test_a_local_operator_declares_each_argument_of_the_remote_one(remote: type[Any], local: type[Any]) -> None:
    theirs, own = parameters_of(remote), parameters_of(local)
    assert {"prompt", "destination", "reuse", "poll_interval"} <= set(theirs)
    assert {name: own.get(name, "is missing") for name in theirs} == theirs
    # and none but its machine's: one that the remote operator has lost is to go here too
    machine = {
        "allow_pickle", "allow_private_addresses", "catalog", "compile", "device", "dtype", "guidance_until",
        "keep_aspect", "model_dir", "offline", "reuse_deep", "tiny_vae",
    }  # fmt: skip
    assert set(own) - set(theirs) == machine


@pytest.mark.parametrize("name", ONE)
def test_a_mapped_clip_takes_what_the_remote_operator_takes(name: str) -> None:
    for cls in (ModelsLabVideo2VideoOperator, LocalVideo2VideoOperator):
        with DAG("dag", schedule=None):
            mapped = cls.partial(task_id="restyle", **{name: ONE[name]}, **COMMON).expand(
                init_video=["s3://clips/a.mp4"]
            )
        assert mapped.unmap({"init_video": "s3://clips/a.mp4"}).init_video == "s3://clips/a.mp4"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", MANY)
def test_a_mapped_batch_takes_what_the_remote_operator_takes(name: str) -> None:
    for cls in (ModelsLabVideo2VideoBatchOperator, LocalVideo2VideoBatchOperator):
        with DAG("dag", schedule=None):
            mapped = cls.partial(task_id="restyle", **{name: MANY[name]}, **COMMON).expand(source=["s3://clips/a/"])
        assert mapped.unmap({"source": "s3://clips/a/"}).source == "s3://clips/a/"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("decorator", "given"), [(modelslab_local_video2video_task, ONE), (modelslab_local_video2video_batch_task, MANY)]
)
def test_so_do_the_decorators(decorator: Callable[..., Any], given: dict[str, Any]) -> None:
    def clips(clip: str) -> list[str]:
        return [clip]

    with DAG("dag", schedule=None) as dag:
        decorator(task_id="plain", **given, **COMMON)(clips)("s3://clips/a.mp4")
        decorator(task_id="mapped", **given, **COMMON)(clips).expand(clip=["s3://clips/a.mp4"])
        decorator(task_id="overridden", **COMMON)(clips).override(**given)("s3://clips/a.mp4")
    mapped: Any = dag.get_task("mapped")
    made = mapped.unmap({"op_kwargs": {"clip": "s3://clips/a.mp4"}, "op_args": ()})
    assert made.op_kwargs == {"clip": "s3://clips/a.mp4"}


def test_a_local_result_always_lands() -> None:
    with pytest.raises(ValueError, match="land_result: must be True"):
        LocalVideo2VideoOperator(task_id="restyle", land_result=False, init_video="s3://clips/a.mp4", **COMMON)


@pytest.mark.parametrize("cls", [local for _, local in PAIRS])
def test_what_no_operator_takes_is_refused_mapped_too(cls: type[Any]) -> None:
    with pytest.raises(TypeError, match="stregnth"):
        cls.partial(task_id="restyle", stregnth=0.4, **COMMON)
