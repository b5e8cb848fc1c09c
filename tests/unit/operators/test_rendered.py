"""Texts in Dags that render templates to Python's own types."""

from __future__ import annotations

import re
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from tests.support.tasks import context_of

CLIP = "s3://clips/a.mp4"
NUMBER = "1984"


def rendered(
    cls: type[Any] = ModelsLabVideo2VideoOperator, *, value: Any = NUMBER, **arguments: Any
) -> Video2VideoRequest:
    given = {"model_id": "m", "prompt": "a fox", "init_video": CLIP, **arguments}
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        made = cls(task_id="restyle", **given)
    made.render_template_fields(context_of(value=value))
    request: Video2VideoRequest = made.build_request()
    return request


@pytest.mark.parametrize("cls", [ModelsLabVideo2VideoOperator, LocalVideo2VideoOperator])
@pytest.mark.parametrize("name", ["model_id", "prompt", "negative_prompt", "adapter_lora", "motion_module"])
def test_a_text_of_digits_stays_a_text(cls: type[Any], name: str) -> None:
    request = rendered(cls, **{name: "{{ params.value }}"}, seed="{{ params.value }}")
    assert (getattr(request, name), request.seed) == (NUMBER, 1984)


@pytest.mark.parametrize("name", ["lora_models", "motion_loras"])
def test_so_does_the_name_of_a_lora(name: str) -> None:
    given: Any = {name: "{{ params.value }}"}
    assert getattr(rendered(**given), name) == (NUMBER,)


def test_a_mapped_task_and_a_batch_do_the_same() -> None:
    with DAG("dag", schedule=None, render_template_as_native_obj=True):
        mapped = ModelsLabVideo2VideoOperator.partial(task_id="one", model_id="m", prompt="{{ params.value }}").expand(
            init_video=[CLIP]
        )
        batch = ModelsLabVideo2VideoBatchOperator(
            task_id="many", model_id="m", prompt="{{ params.value }}", source=[CLIP]
        )
    one: Any = mapped.unmap({"init_video": CLIP})
    for made in (one, batch):
        made.render_template_fields(context_of(value=NUMBER))
    assert one.build_request().prompt == batch._common()["prompt"] == NUMBER


@pytest.mark.parametrize(("value", "shown"), [("1.50", "1.5"), ("3, 2, 1", "(3, 2, 1)"), ("True", "True")])
def test_what_cannot_be_turned_back_says_why_and_what_helps(value: str, shown: str) -> None:
    told = f"prompt: must be text; got {shown}. With render_template_as_native_obj=True a text"
    with pytest.raises(InvalidRequestError, match=re.escape(told)) as caught:
        rendered(prompt="{{ params.value }}", value=value)
    assert "{{ params.prompt | pprint }}" in str(caught.value)
    assert rendered(prompt="{{ params.value | pprint }}", value=value).prompt == value  # and it does


@pytest.mark.parametrize("value", ["a fox", "it's \"red\", 'old'", "fox 🦊 " * 40, "line\nline", NUMBER])
def test_the_filter_that_is_advised_keeps_any_text(value: str) -> None:
    assert rendered(prompt="{{ params.value | pprint }}", value=value).prompt == value.strip()


def test_nothing_rendered_is_nothing_given() -> None:
    assert rendered(negative_prompt="{{ params.value }}", value=None).negative_prompt is None


def test_a_number_in_the_dags_file_is_refused_while_it_is_parsed() -> None:
    prompt: Any = 1984
    with pytest.raises(InvalidRequestError, match="prompt: must be text; got 1984"):
        ModelsLabVideo2VideoOperator(task_id="restyle", model_id="m", prompt=prompt, init_video=CLIP)
