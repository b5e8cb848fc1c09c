"""Numbers and durations of operators and the sensor: as text, as timedelta, as templates, mapped and serialized."""

from __future__ import annotations

import copy
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.quantities import _Quantity
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor
from airflow_provider_modelslab.triggers.batch import ModelsLabBatchTrigger
from airflow_provider_modelslab.triggers.video2video import ModelsLabVideo2VideoTrigger
from tests.support.airflow_versions import DagSerialization
from tests.support.tasks import context_of

ONE: dict[str, Any] = {"model_id": "m", "prompt": "p", "init_video": "s3://clips/a.mp4"}
MANY: dict[str, Any] = {"model_id": "m", "prompt": "p", "source": "s3://clips/in/"}
WAITING: dict[str, Any] = {"timeout": ("1h", 3600), "poll_interval": ("2", 2), "max_poll_interval": ("1m", 60)}
MACHINE: dict[str, Any] = {"timeout": ("1h", 3600), "guidance_until": ("0.5", 0.5), "reuse_deep": ("3", 3)}
BATCH = {"max_in_flight": ("10", 10), "defer_after": ("15s", 15), "resume_threshold": ("0.9", 0.9)}
OPERATORS: list[tuple[type[Any], dict[str, Any], dict[str, Any]]] = [
    (ModelsLabVideo2VideoOperator, ONE, WAITING),
    (ModelsLabVideo2VideoBatchOperator, MANY, {**WAITING, **BATCH}),
    (LocalVideo2VideoOperator, ONE, MACHINE),
    (LocalVideo2VideoBatchOperator, MANY, MACHINE),
    (ModelsLabPlanClipsOperator, MANY, {"clips_per_task": ("200", 200)}),
    (ModelsLabVideo2VideoSensor, {"job": "7"}, {"timeout": ("1h", 3600), "poke_interval": ("90s", 90)}),
]
CASES = [(cls, given, name, *value) for cls, given, values in OPERATORS for name, value in values.items()]
each = pytest.mark.parametrize(("cls", "given", "name", "text", "value"), CASES)


@pytest.mark.parametrize(("cls", "given", "values"), OPERATORS)
def test_every_number_is_one_of_these(cls: type[Any], given: dict[str, Any], values: dict[str, Any]) -> None:
    names = {name for base in cls.__mro__ for name, found in vars(base).items() if isinstance(found, _Quantity)}
    assert names == set(values)
    assert names <= set(cls.template_fields)


@each
def test_text_is_taken(cls: type[Any], given: dict[str, Any], name: str, text: str, value: float) -> None:
    made = cls(task_id="t", **given, **{name: text})
    assert getattr(made, name) == getattr(copy.copy(made), name) == value


@each
@pytest.mark.parametrize("native", [False, True])
def test_a_template_is_read_when_it_is_rendered(
    cls: type[Any], given: dict[str, Any], name: str, text: str, value: float, native: bool
) -> None:
    with DAG("dag", schedule=None, render_template_as_native_obj=native):
        made = cls(task_id="t", **given, **{name: "{{ params.value }}"})
    assert getattr(made, name) == "{{ params.value }}"
    made.render_template_fields(context_of(value=text))
    assert getattr(made, name) == value


@each
def test_text_that_is_no_number_is_refused_by_its_name(
    cls: type[Any], given: dict[str, Any], name: str, text: str, value: float
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        cls(task_id="t", **given, **{name: "many"})
    assert list(refused.value.fields) == [name]
    made = cls(task_id="t", **given, **{name: "{{ params.value }}"})
    with pytest.raises(InvalidRequestError) as refused:
        made.render_template_fields(context_of(value="many"))
    assert list(refused.value.fields) == [name]


def test_the_output_of_a_task_and_mapped_values_are_taken() -> None:
    with DAG("dag", schedule=None):

        @task
        def longest() -> str:
            return "1h"

        waits = ModelsLabVideo2VideoSensor(task_id="wait", job="7", timeout=longest())  # type: ignore[arg-type]
        mapped = ModelsLabVideo2VideoOperator.partial(task_id="t", timeout="2h", **ONE).expand(poll_interval=["3s", 4])
    assert waits.upstream_task_ids == {"longest"}
    one: Any = mapped.unmap({"poll_interval": "3s"})
    assert (one.timeout, one.poll_interval) == (7200, 3)


@pytest.mark.parametrize("cls", [cls for cls, _, values in OPERATORS if "timeout" in values])
def test_a_timedelta_is_a_duration(cls: type[Any]) -> None:
    given = next(found for other, found, _ in OPERATORS if other is cls)
    assert cls(task_id="t", **given, timeout=timedelta(minutes=5)).timeout == 300


def test_a_dag_with_templates_for_numbers_is_serialized() -> None:
    with DAG("dag", schedule=None) as dag:
        for number, (cls, given, values) in enumerate(OPERATORS):
            cls(task_id=f"t{number}", **given, **dict.fromkeys(values, "{{ params.value }}"))
    data = DagSerialization.to_dict(dag)
    assert len(data["dag"]["tasks"]) == len(OPERATORS)


def test_triggers_take_text() -> None:
    batch = ModelsLabBatchTrigger([], wake_at="3", defer_after="90s", max_wait=timedelta(hours=1))
    assert (batch.wake_at, batch.defer_after, batch.max_wait) == (3, 90, 3600)
    one = ModelsLabVideo2VideoTrigger("7", submitted_at="1000", deadline="4600.5", eta="1m", submission="2")
    assert (one.submitted_at, one.deadline, one.eta, one.submission) == (1000, 4600.5, 60, 2)
