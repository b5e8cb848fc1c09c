"""The same task on this machine: the real pipeline with the tiny model, the real S3, no endpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import (
    ChangedRequestError,
    InvalidRequestError,
    JobTimeoutError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.local.models import hub
from airflow_provider_modelslab.operators.local import LocalVideo2VideoOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from tests.integration.tasks.conftest import Store
from tests.integration.tasks.test_video2video import check_landed
from tests.support.connections import set_modelslab
from tests.support.files_server import FilesServer
from tests.support.s3 import S3Server, keys_of
from tests.support.samples import small_mp4
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("model_cache")

Make = Callable[..., LocalVideo2VideoOperator]


@pytest.fixture
def clip_file(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    path.write_bytes(small_mp4())
    return path


@pytest.fixture
def local(clip_file: Path, s3_connection: None, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes the operator with a connection that has no key: nothing here needs one."""
    set_modelslab(monkeypatch, key=None, **s3_extra)

    def make(**changes: Any) -> LocalVideo2VideoOperator:
        arguments = {
            "model_id": "tiny",
            "prompt": "a fox",
            "init_video": str(clip_file),
            "num_frames": 3,
            "num_inference_steps": 2,
            "width": 32,
            "height": 32,
            "seed": 11,
            "device": "cpu",
            **changes,
        }
        return LocalVideo2VideoOperator(task_id="restyle", **arguments)

    return make


@pytest.mark.slow
def test_it_lands_what_the_endpoint_would_have_landed(local: Make, store: Store) -> None:
    manifest = execute(local())
    sidecar = check_landed(manifest, store)
    assert store.frames(manifest["uri"]) == 3
    assert sidecar["meta"]["device"] == "cpu"
    assert (sidecar["request"]["prompt"], manifest["seed"]) == ("a fox", 11)
    assert manifest["generation_time_s"] > 0


def test_the_arguments_are_those_of_the_remote_operator(local: Make, clip_file: Path) -> None:
    remote_only = {"deferrable": True, "poll_interval": 1.0, "max_poll_interval": 9.0, "wait_for_completion": False}
    local(**remote_only, check_input=False, on_unknown_submission="resubmit", instant_response=True)
    with pytest.raises(TypeError, match="strenght"):
        local(strenght=0.5)
    without_effect = {"fallback", "poll_interval", "max_poll_interval"}
    of_whole_clips = set(ModelsLabVideo2VideoOperator.whole_fields)
    given = set(ModelsLabVideo2VideoOperator.template_fields) - without_effect - of_whole_clips
    assert given <= set(LocalVideo2VideoOperator.template_fields)


@pytest.mark.slow
@pytest.mark.parametrize("output_type", ["gif", "mp4"])
def test_clips_come_from_s3_and_http_too(
    local: Make, output_type: str, store: Store, bucket: str, s3: S3Client, files: FilesServer
) -> None:
    s3.put_object(Bucket=bucket, Key="in/clip.mp4", Body=small_mp4())
    from tests.support.files_server import ServedFile

    link = files.add("/clip.mp4", ServedFile(small_mp4(), "video/mp4"))
    from_s3 = execute(local(init_video=f"s3://{bucket}/in/clip.mp4", output_type=output_type, destination="a/"))
    from_http = execute(
        local(init_video=link, output_type=output_type, destination="b/", allow_private_addresses=True),
        context_of(TaskInstance(task_id="other")),
    )
    assert from_s3["sha256"] == from_http["sha256"]
    assert store.content_type(from_s3["uri"]) == ("image/gif" if output_type == "gif" else "video/mp4")


@pytest.mark.slow
def test_what_has_landed_is_not_made_again(local: Make, bucket: str, s3: S3Client) -> None:
    first = execute(local())
    operator = local()
    operator._make = None  # type: ignore[method-assign,assignment]  # must not be called
    again = execute(operator, context_of(TaskInstance(try_number=2)))
    assert again == first
    moved = execute(local(destination="elsewhere/"), context_of(TaskInstance(try_number=3)))
    assert moved["uri"].startswith(f"s3://{bucket}/styled/elsewhere/")
    assert moved["sha256"] == first["sha256"]
    changed = execute(local(prompt="a bear"), context_of(TaskInstance(try_number=4)))
    assert changed["sha256"] != first["sha256"]
    with pytest.raises(ChangedRequestError, match="on_changed_request"):
        execute(local(prompt="a wolf", on_changed_request="fail"), context_of(TaskInstance(try_number=5)))
    s3.delete_object(Bucket=bucket, Key=changed["uri"].removeprefix(f"s3://{bucket}/"))
    assert execute(local(prompt="a bear"))["sha256"] == changed["sha256"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"webhook": "https://example.com/done"}, "webhook"),
        ({"temp": True}, "temp"),
        ({"base64": True}, "base64"),
        ({"model_id": "no-such-model"}, "model_id"),
        ({"init_video": "/no/such/file.mp4"}, "init_video"),
    ],
)
def test_what_cannot_be_done_is_named(local: Make, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        execute(local(**changes))
    assert field in caught.value.fields


def test_a_model_that_is_published_as_pickles_says_what_to_do_before_a_download(
    local: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(*_: object, **__: object) -> Path:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr(hub, "fetch", fetch)
    with pytest.raises(InvalidRequestError) as caught:
        execute(local(model_id="dark-sushi-mix", model_dir="/models"))
    told = (
        "is published only as pickles (stablediffusionapi/dark-sushi-mix), which are refused because they can run "
        "code: choose a model that is published as safetensors (epicrealismnaturalsi), put a copy "
        "in safetensors at "
        "/models/dark-sushi-mix, or allow pickles (allow_pickle=True)"
    )
    assert caught.value.fields == {"model_id": [told]}
    with pytest.raises(InvalidRequestError, match=r"a copy in safetensors at <model_dir>/dark-sushi-mix, or allow"):
        execute(local(model_id="dark-sushi-mix"))
    for given in ({"model_id": "dark-sushi-mix", "allow_pickle": True}, {"model_id": "epicrealismnaturalsi"}):
        with pytest.raises(AssertionError, match="the Hub was asked"):
            execute(local(**given))


def test_a_missing_object_and_a_missing_bucket_are_named(
    local: Make, bucket: str, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidRequestError, match="no object s3://"):
        execute(local(init_video=f"s3://{bucket}/nowhere.mp4"))
    set_modelslab(monkeypatch, key=None, region=s3_server.region, endpoint_url=s3_server.endpoint_url)
    with pytest.raises(StorageConfigurationError, match="names a bucket"):
        execute(local())


@pytest.mark.slow
def test_the_deadline_and_a_kill_stop_it_and_leave_nothing(local: Make, bucket: str, s3: S3Client) -> None:
    with pytest.raises(JobTimeoutError, match="not done within"):
        execute(local(timeout=1e-6))
    killed = local()
    killed.on_kill()
    with pytest.raises(Exception, match="stopped after 0"):
        execute(killed)
    assert [key for key in keys_of(s3, bucket) if key.endswith((".mp4", "landed.json"))] == []
