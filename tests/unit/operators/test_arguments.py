from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_provider_modelslab.api.errors import (
    InvalidRequestError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.api.request import ATTRIBUTES, Video2VideoRequest
from airflow_provider_modelslab.operators.arguments import (
    RequestArguments,
    Video2VideoArguments,
    link_suffix,
    resolve_destination,
    result_name,
)
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from airflow_provider_modelslab.operators.s3_settings import ModelsLabResetS3Operator, ModelsLabUpdateS3Operator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.sensors.video2video import ModelsLabVideo2VideoSensor
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.tasks import TaskInstance, context_of

REQUIRED = {"model_id": "dark-sushi-mix", "prompt": "a fox", "init_video": "https://example.com/in.mp4"}


def operator(**changes: Any) -> ModelsLabVideo2VideoOperator:
    return ModelsLabVideo2VideoOperator(**{"task_id": "restyle", **REQUIRED, **changes})


def rendered(**changes: Any) -> Video2VideoRequest:
    made = operator(**changes)
    context = context_of(nothing="", none=None, text="24", loras=["a", "b"], yes=True)
    made.render_template_fields(context)
    return made.build_request()


# -- every attribute is an argument ---------------------------------------------------------------------------------


def _arguments() -> dict[str, inspect.Parameter]:
    """Those of the common attributes and of the clip's own."""
    both = [inspect.unwrap(cls.__init__) for cls in (RequestArguments, Video2VideoArguments)]
    parameters = {name: found for init in both for name, found in inspect.signature(init).parameters.items()}
    return {name: found for name, found in parameters.items() if name not in {"self", "kwargs", "attributes"}}


def test_every_attribute_of_the_endpoint_is_an_argument_and_a_template_field() -> None:
    arguments = set(_arguments())
    assert arguments == {*ATTRIBUTES, "extra_parameters", "clip_version"}
    assert set(Video2VideoArguments.template_fields) == arguments
    places = {"destination", "modelslab_conn_id", "extra_args"}
    spending = {"prices", "budget", "max_jobs", "max_cost", "fallback"}
    whole = {"clip_mode", "overlap", "audio", "max_segments", "max_in_flight"}
    durations = set(ModelsLabVideo2VideoOperator.duration_fields)
    assert arguments | places | spending | durations | whole == set(ModelsLabVideo2VideoOperator.template_fields)
    assert set(Video2VideoArguments.template_fields_renderers) <= arguments


def test_what_is_not_given_is_left_to_the_endpoint() -> None:
    defaults = {name: found.default for name, found in _arguments().items() if found.default is not found.empty}
    assert {name: value for name, value in defaults.items() if value is not None} == {
        "output_type": "mp4",  # so that the name of the object is known before the job is submitted
        "instant_response": True,  # the wait is ours
    }
    sent = rendered(track_id="mine").wire()
    assert sent == {**REQUIRED, "seed": None, "output_type": "mp4", "instant_response": True, "track_id": "mine"}


def test_every_attribute_is_documented() -> None:
    texts = [inspect.getdoc(cls) or "" for cls in (RequestArguments, Video2VideoArguments)]
    documented = [name for text in texts for name in re.findall(r":param (\w+):", text)]
    assert documented == [*dict.fromkeys(documented)]
    assert set(documented) == {*ATTRIBUTES, "extra_parameters", "clip_version", "attributes"}


def test_every_attribute_reaches_the_request() -> None:
    given: dict[str, Any] = {
        **REQUIRED,
        "negative_prompt": "blurry",
        "seed": 3,
        "height": 512,
        "width": 768,
        "num_frames": 25,
        "num_inference_steps": 50,
        "guidance_scale": 7.5,
        "clip_skip": 2,
        "strength": 0.5,
        "output_type": "gif",
        "fps": 8,
        "lora_models": ["a", "b"],
        "lora_strength": [0.5, 0.7],
        "motion_loras": "zoom-in",
        "motion_lora_strength": 0.4,
        "domain_lora_scale": 0.9,
        "adapter_lora": "adapter",
        "motion_module": "animatelcm",
        "upscale_height": 1024,
        "upscale_width": 1024,
        "upscale_strength": 0.3,
        "upscale_guidance_scale": 9.0,
        "upscale_num_inference_steps": 10,
        "use_improved_sampling": True,
        "base64": True,
        "instant_response": False,
        "temp": True,
        "webhook": "https://example.com/hook",
        "track_id": "mine",
    }
    assert set(given) == set(ATTRIBUTES)
    sent = rendered(**given, extra_parameters={"scheduler": "ddim"}).wire()
    lists = {"lora_models": "a,b", "lora_strength": "0.5,0.7", "motion_lora_strength": "0.4"}
    assert sent == {**given, **lists, "scheduler": "ddim"}


def test_rendered_text_becomes_numbers_lists_and_nothing() -> None:
    request = rendered(
        seed="{{ params.none }}",
        fps="{{ params.nothing }}",
        num_frames="{{ params.text }}",
        lora_models="{{ params.loras | join(',') }}",
        use_improved_sampling="{{ params.yes }}",
        extra_parameters={"note": "run {{ params.text }}"},
    )
    assert (request.seed, request.fps, request.num_frames) == (None, None, 24)
    assert (request.lora_models, request.use_improved_sampling) == (("a", "b"), True)
    assert request.extra_parameters == {"note": "run 24"}


def test_a_track_id_of_the_users_is_kept() -> None:
    assert rendered(track_id="clip {{ params.text }}").track_id == "clip 24"


# -- bad input: when the Dag is parsed, or before anything is sent ----------------------------------------------------

BAD = [
    ({"prompt": ""}, "prompt"),
    ({"prompt": None}, "prompt"),
    ({"init_video": ""}, "init_video"),
    ({"init_video": None}, "init_video"),
    ({"model_id": ""}, "model_id"),
    ({"model_id": "None"}, "model_id"),
    ({"strength": 1.1}, "strength"),
    ({"strength": -0.1}, "strength"),
    ({"strength": float("nan")}, "strength"),
    ({"width": 0}, "width"),
    ({"height": -8}, "height"),
    ({"num_frames": 0}, "num_frames"),
    ({"num_inference_steps": 0}, "num_inference_steps"),
    ({"upscale_width": 0}, "upscale_width"),
    ({"output_type": "webm"}, "output_type"),
    ({"lora_models": "a,b,c", "lora_strength": [0.5, 0.5]}, "lora_strength"),
    ({"motion_loras": ["a"], "motion_lora_strength": "0.5,0.5"}, "motion_lora_strength"),
    ({"lora_strength": [0.5, 0.6]}, "lora_strength"),
    ({"seed": 2**32}, "seed"),
    ({"webhook": "ftp://x"}, "webhook"),
    ({"extra_parameters": {"key": "x"}}, "extra_parameters"),
    ({"extra_parameters": "scheduler=ddim"}, "extra_parameters"),
]


@pytest.mark.parametrize(("given", "field"), BAD)
def test_a_bad_literal_fails_when_the_dag_is_parsed(given: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        operator(**given)
    assert list(caught.value.fields) == [field]


@pytest.mark.parametrize(
    "destination", ["s3://", "s3:///clip.mp4", "s3://No Bucket/clip.mp4", "https://example.com/clip.mp4", " "]
)
def test_a_bad_destination_fails_when_the_dag_is_parsed(destination: str) -> None:
    with pytest.raises(StorageConfigurationError):
        operator(destination=destination)


@pytest.mark.parametrize(
    "given", [{"timeout": 0}, {"poll_interval": 5, "max_poll_interval": 1}, {"reuse": "landed"}, {"reuse": True}]
)
def test_a_bad_policy_fails_when_the_dag_is_parsed(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(given.values())))):
        operator(**given)


@pytest.mark.parametrize("name", ["model_id", "prompt", "init_video"])
def test_a_required_argument_that_is_missing(name: str) -> None:
    given: dict[str, Any] = {key: value for key, value in REQUIRED.items() if key != name}
    with pytest.raises(TypeError, match=f"missing keyword argument '{name}'"):
        ModelsLabVideo2VideoOperator(task_id="restyle", **given)


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        operator(strength=2, width=0, num_frames=0)
    assert set(caught.value.fields) == {"strength", "width", "num_frames"}


LATE = [
    ({"strength": "{{ params.text }}"}, "strength"),
    ({"prompt": "{{ params.nothing }}"}, "prompt"),
    ({"model_id": "{{ params.none }}"}, "model_id"),
    ({"init_video": "{% if params.none %}x{% endif %}"}, "init_video"),
    ({"lora_models": "{{ params.loras | join(',') }}", "lora_strength": [1, 1, 1]}, "lora_strength"),
    ({"lora_models": ["a", "{{ params.text }}"], "lora_strength": [1, 1, 1]}, "lora_strength"),
    ({"extra_parameters": {"seed": "{{ params.text }}"}}, "extra_parameters"),
    ({"output_type": "{{ params.text }}"}, "output_type"),
]


@pytest.mark.parametrize(("given", "field"), LATE)
def test_a_template_is_checked_when_it_is_rendered(given: dict[str, Any], field: str) -> None:
    operator(**given)  # passes
    with pytest.raises(InvalidRequestError) as caught:
        rendered(**given)
    assert list(caught.value.fields) == [field]


def test_the_output_of_another_task_is_checked_when_it_is_there() -> None:
    with DAG("dag", schedule=None):

        @task
        def clip() -> str:
            return "s3://bucket/in.mp4"

        out = clip()
        made = operator(init_video=out, seed=out, destination=out, lora_models=out, lora_strength=[1, 2])
        assert made.upstream_task_ids == {"clip"}
        with pytest.raises(InvalidRequestError, match="strength: must be at most 1"):
            operator(task_id="bad", init_video=out, strength=3)


def test_a_mapped_task_makes_its_operators_when_it_runs() -> None:
    with DAG("dag", schedule=None):
        mapped = ModelsLabVideo2VideoOperator.partial(
            task_id="restyle", model_id="dark-sushi-mix", prompt="a fox", strength=0.4, deferrable=True
        ).expand_kwargs(
            [{"init_video": "s3://bucket/1.mp4", "seed": 1}, {"init_video": "s3://bucket/2.mp4", "seed": 2}]
        )
        by_seed = ModelsLabVideo2VideoOperator.partial(task_id="seeds", **REQUIRED).expand(seed=[1, 2, 2**33])
    made = mapped.unmap({"init_video": "s3://bucket/2.mp4", "seed": 2})
    assert isinstance(made, ModelsLabVideo2VideoOperator)
    assert (made.init_video, made.seed, made.strength, made.deferrable) == ("s3://bucket/2.mp4", 2, 0.4, True)
    assert made.output_type == "mp4"
    with pytest.raises(InvalidRequestError, match="seed: must be at most"):
        by_seed.unmap({"seed": 2**33})


def test_an_argument_that_does_not_exist() -> None:
    with pytest.raises(TypeError, match="stregnth"):
        operator(stregnth=0.4)
    with DAG("dag", schedule=None), pytest.raises(TypeError, match="stregnth"):
        ModelsLabVideo2VideoOperator.partial(task_id="restyle", stregnth=0.4)


def test_default_args_of_the_dag_count() -> None:
    with DAG("dag", schedule=None, default_args={"prompt": "a fox", "model_id": "dark-sushi-mix", "strength": 0.3}):
        made = ModelsLabVideo2VideoOperator(task_id="restyle", init_video="s3://bucket/in.mp4")
    assert (made.prompt, made.strength) == ("a fox", 0.3)


# -- where results land -----------------------------------------------------------------------------------------------

NAME = "restyling/restyle/run.mp4"
WITH_BUCKET = S3Profile(bucket="clips", prefix="styled")
DESTINATIONS = [
    (None, WITH_BUCKET, f"s3://clips/styled/{NAME}"),
    (None, S3Profile(bucket="clips"), f"s3://clips/{NAME}"),
    (None, S3Profile(), None),
    ("s3://other/dir/one.mp4", WITH_BUCKET, "s3://other/dir/one.mp4"),
    ("s3://other/dir/one.mp4", S3Profile(), "s3://other/dir/one.mp4"),
    ("s3://other/dir/", WITH_BUCKET, f"s3://other/dir/{NAME}"),
    ("s3://other/", WITH_BUCKET, f"s3://other/{NAME}"),
    ("s3://other", WITH_BUCKET, f"s3://other/{NAME}"),
    (" s3://other/one.mp4 ", S3Profile(), "s3://other/one.mp4"),
    ("day/", WITH_BUCKET, f"s3://clips/styled/day/{NAME}"),
    ("day/one.mp4", WITH_BUCKET, "s3://clips/styled/day/one.mp4"),
    ("s3://other//one.mp4", S3Profile(), "s3://other//one.mp4"),
    ("s3://other//out/", S3Profile(), f"s3://other//out/{NAME}"),
    ("day//one.mp4", WITH_BUCKET, "s3://clips/styled/day//one.mp4"),
    ("one.mp4", S3Profile(bucket="clips"), "s3://clips/one.mp4"),
]


@pytest.mark.parametrize(("destination", "profile", "uri"), DESTINATIONS)
def test_destinations(destination: str | None, profile: S3Profile, uri: str | None) -> None:
    resolved = resolve_destination(destination, profile, NAME)
    assert (None if resolved is None else str(resolved)) == uri


BAD_DESTINATIONS = [
    ("day/one.mp4", "'day/one.mp4' has no bucket, and the connection has none either"),
    ("", "destination: is empty"),
    ("s3://", "expected s3://bucket/key"),
    ("gs://bucket/one.mp4", "destination: gs:// is not supported"),
]


@pytest.mark.parametrize(("destination", "message"), BAD_DESTINATIONS)
def test_a_destination_without_a_bucket(destination: str, message: str) -> None:
    with pytest.raises(StorageConfigurationError, match=re.escape(message)):
        resolve_destination(destination, S3Profile(), NAME)


def test_a_result_has_the_same_name_at_every_try() -> None:
    first, second = TaskInstance(try_number=1), TaskInstance(try_number=2)
    name = "restyling/restyle/manual__2026-11-23T04_00_00_00_00"
    assert result_name(context_of(first)) == result_name(context_of(second)) == name
    assert result_name(context_of(TaskInstance(map_index=3))) == f"{name}/3"
    assert result_name(context_of(TaskInstance(map_index=0))) == f"{name}/0"
    group = result_name(context_of(TaskInstance(task_id="group.restyle", run_id="a/b?c")))
    assert group == "restyling/group.restyle/a_b_c-9e3e4499"


@pytest.mark.parametrize(
    ("links", "suffix"),
    [
        (["https://example.com/a/out.gif?sig=1"], "gif"),
        (["https://example.com/a/out.MP4"], "mp4"),
        (["https://example.com/a/out.base64", "https://example.com/out.gif"], "mp4"),
        (["https://example.com/a/out"], "mp4"),
        ([], "mp4"),
    ],
)
def test_the_suffix_of_a_link(links: list[str], suffix: str) -> None:
    assert link_suffix(links) == suffix


misspelt = pytest.mark.parametrize(
    ("cls", "given", "meant"),
    [
        (ModelsLabVideo2VideoOperator, {**REQUIRED, "stregnth": 0.4}, "strength"),
        (ModelsLabVideo2VideoOperator, {**REQUIRED, "deferable": True}, "deferrable"),
        (ModelsLabVideo2VideoBatchOperator, {"source": "s3://b/in/", "max_inflight": 3}, "max_in_flight"),
        (LocalVideo2VideoOperator, {**REQUIRED, "allow_pickles": True}, "allow_pickle"),
        (ModelsLabVideo2VideoToS3Operator, {"job": "7", "destinatoin_": "x"}, "destination"),
        (ModelsLabVideo2VideoSensor, {"job": "7", "poke_intervall": 3}, "poke_interval"),
        (ModelsLabVideo2VideoOperator, {**REQUIRED, "retires": 3}, "retries"),
        (LocalVideo2VideoBatchOperator, {"source": "s3://b/in/", "max_faild": 3}, "max_failed"),
        (ModelsLabPlanClipsOperator, {"source": "s3://b/in/", "key_templat": "x"}, "key_template"),
        (ModelsLabUpdateS3Operator, {"deploy_typ": "video"}, "deploy_type"),
        (ModelsLabResetS3Operator, {"modelslab_conn": "mine"}, "modelslab_conn_id"),
    ],
)


@misspelt
def test_a_misspelt_argument_names_the_one_that_was_meant(cls: type[Any], given: dict[str, Any], meant: str) -> None:
    with pytest.raises(TypeError, match=f"did you mean {meant}\\?"):
        cls(task_id="t", **given)


@misspelt
def test_so_does_partial_of_a_mapped_task(cls: type[Any], given: dict[str, Any], meant: str) -> None:
    with pytest.raises(TypeError, match=f"did you mean {meant}\\?"):
        cls.partial(task_id="t", **given)


def test_partial_of_a_task_is_refused_as_airflow_does() -> None:
    with pytest.raises(TypeError, match="only be called on Operator classes"):
        operator().partial(task_id="t2")


def test_a_mapped_task_is_made_by_airflow() -> None:
    with DAG("dag", schedule=None):
        mapped = ModelsLabVideo2VideoOperator.partial(task_id="t", **REQUIRED).expand(seed=[1, 2])
    assert (mapped.operator_class, mapped.task_id) == (ModelsLabVideo2VideoOperator, "t")


def test_an_argument_like_no_other_is_refused_as_airflow_does() -> None:
    with pytest.raises(TypeError, match="xyzzy") as refused:
        operator(xyzzy=1)
    assert "did you mean" not in str(refused.value)
