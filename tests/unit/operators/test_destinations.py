"""A destination that names no place in S3 is refused by its field, wherever it is given: nothing is paid for it."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import ErrorCode, InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.batch.planning.plan import make_plan
from airflow_provider_modelslab.batch.sources.clips import Clip, Clips
from airflow_provider_modelslab.batch.sources.discovery import find_clips
from airflow_provider_modelslab.operators.arguments import resolve_destination, resolve_output
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.land import ModelsLabVideo2VideoToS3Operator
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from airflow_provider_modelslab.storage.inputs import prepare_input
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri

PROFILE = S3Profile(bucket="clips", prefix="styled")
REQUEST: dict[str, Any] = {"model_id": "m", "prompt": "p"}
OPERATORS: list[tuple[type[Any], dict[str, Any]]] = [
    (ModelsLabVideo2VideoOperator, {**REQUEST, "init_video": "s3://clips/in.mp4"}),
    (LocalVideo2VideoOperator, {**REQUEST, "init_video": "s3://clips/in.mp4"}),
    (ModelsLabVideo2VideoBatchOperator, {**REQUEST, "source": "s3://clips/in/"}),
    (LocalVideo2VideoBatchOperator, {**REQUEST, "source": "s3://clips/in/"}),
    (ModelsLabPlanClipsOperator, {**REQUEST, "source": "s3://clips/in/"}),
    (ModelsLabVideo2VideoToS3Operator, {"job": "7"}),
]

NO_S3_URI = [
    "s3:/bucket/x.mp4",
    "s3:bucket/x.mp4",
    "S3:/bucket/x.mp4",
    "s3:\\\\bucket\\x.mp4",
    "s3a://bucket/x.mp4",
    "s3n://bucket/x.mp4",
    "gs://bucket/x.mp4",
    "https://bucket.s3.eu-central-1.amazonaws.com/x.mp4?X-Amz-Signature=secret",
    "https:/user:secret@host/x.mp4?sig=secret",
    "http://host/x.mp4#secret",
    "abfss://container@account/x.mp4",
    "s3:///x.mp4",
    "s3://",
    "s3://Not A Bucket/x.mp4",
]
BAD = [
    *NO_S3_URI,
    "file:///data/x.mp4",
    "file:/data/x.mp4",
    "C:\\clips\\x.mp4",
    "C:/clips/x.mp4",
    "/absolute/x.mp4",
    "/",
    "../x.mp4",
    "a/../x.mp4",
    "a/./x.mp4",
    "s3://bucket/../x.mp4",
    "s3://bucket/a/./x.mp4",
    "a\\x.mp4",
    "s3://bucket/a\\x.mp4",
    "a\nb.mp4",
    "s3://bucket/a\tb.mp4",
    "s3://bucket/a\x00b.mp4",
    "a\u2028b.mp4",
    "out.mp4/",
    "s3://bucket/day/out.GIF//",
    "",
    "  ",
    "None",
    "null",
    7,
]
GOOD = {
    "s3://bucket/x.mp4": "s3://bucket/x.mp4",
    "S3://bucket/x.mp4": "s3://bucket/x.mp4",
    " s3://bucket/x.mp4\n": "s3://bucket/x.mp4",
    "s3://bucket//out/x.mp4": "s3://bucket//out/x.mp4",
    "s3://bucket/a b+c%20?#ü.mp4": "s3://bucket/a b+c%20?#ü.mp4",
    "s3://bucket/...mp4": "s3://bucket/...mp4",
    "day/x.mp4": "s3://clips/styled/day/x.mp4",
    "day//x.mp4": "s3://clips/styled/day//x.mp4",
    "scheduled__2026-11-23T04:00:00+00:00/x.mp4": "s3://clips/styled/scheduled__2026-11-23T04:00:00+00:00/x.mp4",
    "run:5/x.mp4": "s3://clips/styled/run:5/x.mp4",
    "s3/x.mp4": "s3://clips/styled/s3/x.mp4",
    "..x/x.mp4": "s3://clips/styled/..x/x.mp4",
}


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda made: made[0].__name__)
@pytest.mark.parametrize("destination", BAD)
def test_a_bad_destination_is_refused_while_the_dag_is_parsed(
    destination: Any, operator: tuple[type[Any], dict[str, Any]]
) -> None:
    cls, arguments = operator
    with pytest.raises(StorageConfigurationError) as caught:
        cls(task_id="t", destination=destination, **arguments)
    _check(caught.value)


@pytest.mark.parametrize("profile", [PROFILE, S3Profile()], ids=["bucket", "no bucket"])
@pytest.mark.parametrize("destination", BAD)
def test_a_template_that_renders_to_a_bad_destination_is_refused(destination: Any, profile: S3Profile) -> None:
    for operator in (ModelsLabVideo2VideoOperator, ModelsLabVideo2VideoBatchOperator):
        arguments: dict[str, Any] = dict(OPERATORS)[operator]
        operator(task_id="t", destination="{{ params.place }}", **arguments)  # passes
    with pytest.raises(StorageConfigurationError) as caught:
        resolve_destination(destination, profile, "dag/task/run.mp4")
    _check(caught.value)
    with pytest.raises(StorageConfigurationError) as caught:
        resolve_output(destination, profile)
    _check(caught.value)


def _check(error: StorageConfigurationError) -> None:
    assert error.code is ErrorCode.STORAGE
    assert error.message.startswith("destination: ")
    assert "secret" not in error.message


@pytest.mark.parametrize(("destination", "uri"), GOOD.items())
def test_a_destination_is_taken_as_it_is(destination: str, uri: str) -> None:
    for operator, arguments in OPERATORS:
        if "source" not in arguments:
            operator(task_id="t", destination=destination, **arguments)
    assert str(resolve_destination(destination, PROFILE, "name.mp4")) == uri


@pytest.mark.parametrize(("destination", "uri"), [found for found in GOOD.items() if "..." not in found[0]])
def test_so_is_the_prefix_of_a_batch(destination: str, uri: str) -> None:
    prefix, named = (text.rstrip().removesuffix(".mp4") for text in (destination, uri))
    for operator, arguments in OPERATORS:
        if "source" in arguments:
            operator(task_id="t", destination=prefix, **arguments)
    assert str(resolve_output(prefix, PROFILE)) == named


def test_no_destination_is_the_connections() -> None:
    assert str(resolve_destination(None, PROFILE, "name.mp4")) == "s3://clips/styled/name.mp4"
    assert str(resolve_output(None, PROFILE)) == "s3://clips/styled"


@pytest.mark.parametrize("destination", [text for text in BAD if isinstance(text, str)])
def test_a_bad_destination_of_one_clip_of_a_batch_is_refused(destination: str) -> None:
    clips = Clips((Clip("s3://bucket/in.mp4", destination=destination, number=1),), "", "item")
    with pytest.raises(InvalidRequestError) as caught:
        make_plan(clips, REQUEST, output=S3Uri("bucket", "out/"), conn_id="c", s3_factory=_no_s3)
    assert "destination" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("source", [*NO_S3_URI, "", "None"])
def test_a_bad_source_is_refused_while_the_dag_is_parsed_and_when_it_is_rendered(source: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        ModelsLabVideo2VideoBatchOperator(task_id="t", source=source, **REQUEST)
    assert list(caught.value.fields) == ["source"]
    ModelsLabVideo2VideoBatchOperator(task_id="t", source="{{ params.source }}", **REQUEST)  # passes
    with pytest.raises(InvalidRequestError) as caught:
        find_clips(source, _no_s3)
    assert list(caught.value.fields) == ["source"]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("source", ["s3://bucket/in/", "S3://bucket//in", "/data/list.csv", "file:///data/list.jsonl"])
def test_a_source_that_may_be_one_passes_while_the_dag_is_parsed(source: str) -> None:
    ModelsLabVideo2VideoBatchOperator(task_id="t", source=source, **REQUEST)


@pytest.mark.parametrize("clip", [text for text in NO_S3_URI if not text.startswith("http")])
def test_a_clip_that_is_written_almost_like_a_uri_is_refused(clip: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        prepare_input(clip, _no_s3, staging=None)
    assert list(caught.value.fields) == ["init_video"]
    with pytest.raises(InvalidRequestError):
        find_clips([clip], _no_s3)


def _no_s3() -> Any:
    raise AssertionError("nothing is read from S3")


ONE = [made for made in OPERATORS if made[0] in (ModelsLabVideo2VideoOperator, LocalVideo2VideoOperator)]
BATCHES = [made for made in OPERATORS if "source" in made[1]]


@pytest.mark.parametrize("operator", ONE, ids=lambda made: made[0].__name__)
@pytest.mark.parametrize(
    ("destination", "output_type"),
    [("s3://bucket/x.gif", "mp4"), ("x.MP4", "gif"), ("x.mov", "mp4"), ("s3://bucket/x.webm", " GIF")],
)
def test_a_suffix_of_another_kind_of_video_is_refused(
    operator: tuple[type[Any], dict[str, Any]], destination: str, output_type: str
) -> None:
    cls, arguments = operator
    with pytest.raises(StorageConfigurationError) as caught:
        cls(task_id="t", destination=destination, output_type=output_type, **arguments)
    _check(caught.value)
    cls(task_id="t", destination="{{ params.place }}", output_type=output_type, **arguments)  # is checked when it runs


@pytest.mark.parametrize("operator", ONE, ids=lambda made: made[0].__name__)
@pytest.mark.parametrize(
    ("destination", "output_type", "expected"),
    [
        ("s3://bucket/x.gif", None, "gif"),
        ("s3://bucket/x.mp4", None, "mp4"),
        ("x", None, None),
        ("s3://bucket/", None, None),
        ("s3://bucket.gif", None, None),
        (None, None, None),
        ("s3://bucket/x.m4v", "mp4", "mp4"),
        ("s3://bucket/x.bin", "gif", "gif"),
    ],
)
def test_without_an_output_type_the_suffix_decides(
    operator: tuple[type[Any], dict[str, Any]], destination: str | None, output_type: str | None, expected: str | None
) -> None:
    cls, arguments = operator
    made = cls(task_id="t", destination=destination, output_type=output_type, **arguments)
    assert made.build_request().output_type == expected


def test_a_function_may_return_the_output_type_that_fits() -> None:
    from airflow.sdk import DAG

    from airflow_provider_modelslab.decorators.video2video import modelslab_video2video_task

    with DAG("dag", schedule=None) as dag:

        @modelslab_video2video_task(destination="s3://bucket/x.gif", model_id="m", prompt="p")
        def restyle() -> dict[str, Any]:
            return {"init_video": "s3://clips/in.mp4", "output_type": "gif"}

        restyle()
    assert dag.task_ids == ["restyle"]


@pytest.mark.parametrize("operator", BATCHES, ids=lambda made: made[0].__name__)
@pytest.mark.parametrize("destination", ["s3://bucket/out.mp4", "out.gif", "s3://bucket/a/b.MOV"])
def test_the_name_of_one_video_is_no_prefix(operator: tuple[type[Any], dict[str, Any]], destination: str) -> None:
    cls, arguments = operator
    with pytest.raises(StorageConfigurationError) as caught:
        cls(task_id="t", destination=destination, **arguments)
    _check(caught.value)
    with pytest.raises(StorageConfigurationError):
        resolve_output(destination, PROFILE)
