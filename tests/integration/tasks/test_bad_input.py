"""Bad input ends the task with a clear error before anything is sent: the endpoint counts no request at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    InvalidRequestError,
    StorageConfigurationError,
    StorageUnavailableError,
)
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from tests.integration.tasks.conftest import Restyle
from tests.support.connections import set_modelslab
from tests.support.files_server import FilesServer, ServedFile
from tests.support.s3 import S3Server, keys_of
from tests.support.samples import small_mp4
from tests.support.scripted_server import Answer, ScriptedServer
from tests.support.tasks import context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BOTH = pytest.mark.parametrize("deferrable", [True, False])


@pytest.fixture(autouse=True)
def paid_endpoint(
    s3_connection: None, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[ScriptedServer]:
    """An endpoint that would take anything; whatever the test does, nothing may reach it."""
    with ScriptedServer(Answer({"status": "processing", "id": 1, "eta": 1})) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        yield server
    assert (server.posts, server.connections) == (0, 0)


# Templates, since literals end while the Dag is parsed: tests/unit/operators/test_arguments.py
ATTRIBUTES = [
    ({"prompt": ""}, "prompt: is required"),
    ({"init_video": ""}, "init_video: is required"),
    ({"strength": "1.5"}, "strength: must be at most 1; got '1.5'"),
    ({"strength": "-0.1"}, "strength: must be at least 0; got '-0.1'"),
    ({"strength": "strong"}, "strength: must be a number; got 'strong'"),
    ({"width": "0"}, "width: must be at least 1; got '0'"),
    ({"height": "-8"}, "height: must be at least 1; got '-8'"),
    ({"output_type": "webm"}, "output_type: must be one of 'mp4' or 'gif'; got 'webm'"),
    ({"lora_models": "a,b,c", "lora_strength": "0.5,0.5"}, "lora_strength: has 2 values for 3 lora_models"),
    ({"motion_loras": "a", "motion_lora_strength": "1,1"}, "motion_lora_strength: has 2 values for 1 motion_loras"),
]


@pytest.mark.parametrize(("rendered", "message"), ATTRIBUTES)
def test_an_attribute_that_is_not_allowed(restyle: Restyle, rendered: dict[str, Any], message: str) -> None:
    templates = {name: f"{{{{ params.{name} }}}}" for name in rendered}
    with pytest.raises(InvalidRequestError, match=re.escape(message)) as caught:
        execute(restyle(**templates), context_of(**rendered))
    assert set(caught.value.fields) <= set(rendered)


@pytest.fixture
def at_the_vendor(paid_endpoint: ScriptedServer, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection to the vendor, through a proxy that counts: what is not refused here is seen there."""
    monkeypatch.setenv("HTTPS_PROXY", paid_endpoint.url)
    set_modelslab(monkeypatch, **s3_extra)


BEYOND = [
    ("width", 769),
    ("height", 2000),
    ("num_frames", 26),
    ("num_inference_steps", 51),
    ("upscale_width", 1025),
    ("upscale_height", 1025),
]


@pytest.mark.usefixtures("at_the_vendor")
@pytest.mark.parametrize(("name", "value"), BEYOND)
def test_a_limit_of_the_vendor(restyle: Restyle, s3: S3Client, bucket: str, name: str, value: int) -> None:
    params: dict[str, Any] = {name: str(value)}
    for given in (value, f"{{{{ params.{name} }}}}"):
        with pytest.raises(InvalidRequestError) as caught:
            execute(restyle(**{name: given}), context_of(**params))
        assert set(caught.value.fields) == {name}
    assert keys_of(s3, bucket) == []


@pytest.mark.usefixtures("at_the_vendor")
def test_an_extension_of_a_served_endpoint(restyle: Restyle, s3: S3Client, bucket: str) -> None:
    params: dict[str, Any] = {"mode": "whole"}
    for given in ("whole", "{{ params.mode }}"):
        with pytest.raises(InvalidRequestError) as caught:
            execute(restyle(extra_parameters={"x_clip_mode": given}), context_of(**params))
        assert set(caught.value.fields) == {"x_clip_mode"}
    assert keys_of(s3, bucket) == []


@pytest.mark.usefixtures("at_the_vendor")
@pytest.mark.parametrize("kind", [ModelsLabVideo2VideoBatchOperator, ModelsLabPlanClipsOperator])
def test_the_limits_of_the_vendor_in_a_batch(kind: Any, s3: S3Client, bucket: str) -> None:
    """Each clip's own attributes count, and all that is wrong is named before the first one is submitted."""
    source = [{"uri": "https://h/a.mp4"}, {"uri": "https://h/b.mp4", "width": 832}]
    task = kind(
        task_id="restyle", source=source, destination=f"s3://{bucket}/out/", model_id="m", prompt="p", num_frames=33
    )
    with pytest.raises(InvalidRequestError) as caught:
        execute(task)
    assert set(caught.value.fields) == {"num_frames", "width"}
    assert keys_of(s3, bucket) == []


@pytest.mark.usefixtures("at_the_vendor")
def test_the_limits_of_the_vendor_in_the_hook() -> None:
    wide = Video2VideoRequest(model_id="m", prompt="p", init_video="https://h/a.mp4", width=832)
    for refuse in (ModelsLabHook().check_request, ModelsLabHook().submit):
        with pytest.raises(InvalidRequestError) as caught:
            refuse(wide)
        assert set(caught.value.fields) == {"width"}


@BOTH
def test_an_object_that_does_not_exist(restyle: Restyle, bucket: str, deferrable: bool) -> None:
    with pytest.raises(InvalidRequestError, match=f"init_video: there is no object s3://{bucket}/in.mp4"):
        execute(restyle(init_video=f"s3://{bucket}/in.mp4", deferrable=deferrable))
    with pytest.raises(InvalidRequestError, match=r"init_video: the bucket 'no-such-bucket-here' .* does not exist"):
        execute(restyle(init_video="s3://no-such-bucket-here/in.mp4", deferrable=deferrable))


def test_a_clip_that_cannot_be_read(
    restyle: Restyle, files: FilesServer, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    page = files.add("/page.mp4", ServedFile(b"<html>not a clip at all, but a page</html>"))
    s3.put_object(Bucket=bucket, Key="text.mp4", Body=b"some text that is no clip")
    s3.put_object(Bucket=bucket, Key="empty.mp4", Body=b"")
    text = tmp_path / "text.mp4"
    text.write_bytes(b"some text that is no clip")
    cases = {
        files.url("/missing.mp4?token=abc"): "missing.mp4 cannot be read (HTTP 404",
        page: "an HTML page",
        f"s3://{bucket}/text.mp4": "begins with the bytes 73 6f 6d 65",
        f"s3://{bucket}/empty.mp4": "is empty",
        f"s3://{bucket}": "expected s3://bucket/key",
        "s3://": "expected s3://bucket/key",
        str(tmp_path / "missing.mp4"): "there is no file",
        str(tmp_path): "is not a file",
        str(text): "begins with the bytes 73 6f 6d 65",
        "ftp://example.com/in.mp4": "ftp:// is not supported; give an http(s) link, s3://bucket/key or a path",
    }
    for init_video, message in cases.items():
        with pytest.raises(InvalidRequestError, match=re.escape(message)) as caught:
            execute(restyle(init_video=init_video))
        assert set(caught.value.fields) == {"init_video"}
        assert "token=abc" not in str(caught.value)


@BOTH
@pytest.mark.parametrize("destination", ["s3://no-such-bucket-here/out.mp4", "s3://no-such-bucket-here/"])
def test_a_bucket_that_does_not_exist(restyle: Restyle, destination: str, deferrable: bool) -> None:
    with pytest.raises(StorageConfigurationError, match="the bucket 'no-such-bucket-here' does not exist"):
        execute(restyle(destination=destination, deferrable=deferrable))


@pytest.mark.parametrize(
    ("destination", "message"),
    [
        ("", "destination: is empty"),
        ("day/out.mp4", "'day/out.mp4' has no bucket, and the connection has none either"),
        ("s3:///out.mp4", "expected s3://bucket/key"),
        ("s3://No Bucket/out.mp4", "'No Bucket'"),
        ("https://bucket.example.com/out.mp4", "destination: https:// is not supported"),
    ],
)
def test_a_destination_without_a_bucket(
    restyle: Restyle,
    destination: str,
    message: str,
    paid_endpoint: ScriptedServer,
    s3_extra: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_modelslab(monkeypatch, paid_endpoint.url, **{**s3_extra, "bucket": None})
    with pytest.raises(StorageConfigurationError, match=re.escape(message)):
        execute(restyle(destination="{{ params.destination }}"), context_of(destination=destination))


@BOTH
@pytest.mark.parametrize("key", [None, "", " "])
def test_no_key_in_the_connection(
    restyle: Restyle,
    paid_endpoint: ScriptedServer,
    s3: S3Client,
    bucket: str,
    key: str | None,
    deferrable: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    clip = tmp_path / "in.mp4"
    clip.write_bytes(small_mp4())
    set_modelslab(monkeypatch, paid_endpoint.url, key=key, bucket=bucket)
    with pytest.raises(AuthenticationError, match="'modelslab_default' has no API key; put it in the password field"):
        execute(restyle(init_video=str(clip), deferrable=deferrable))
    assert keys_of(s3, bucket) == []


def test_a_local_file_and_nowhere_to_put_it(
    restyle: Restyle, paid_endpoint: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "in.mp4"
    clip.write_bytes(small_mp4())
    set_modelslab(monkeypatch, paid_endpoint.url)
    with pytest.raises(StorageConfigurationError, match=re.escape(str(clip))):
        execute(restyle(init_video=str(clip)))


def test_s3_that_cannot_be_reached(
    restyle: Restyle, paid_endpoint: ScriptedServer, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Plain http to a TLS port: an answer comes, and it is no S3.
    wrong = s3_server.endpoint_url.replace("https://", "http://")
    set_modelslab(monkeypatch, paid_endpoint.url, bucket=bucket, region="us-east-1", endpoint_url=wrong)
    with pytest.raises(StorageUnavailableError, match=rf"{bucket}.*endpoint_url"):
        execute(restyle())


@BOTH
def test_a_destination_without_room_for_its_sidecar(restyle: Restyle, bucket: str, deferrable: bool) -> None:
    with pytest.raises(StorageConfigurationError, match=r"sidecar.*1024"):
        execute(restyle(destination=f"s3://{bucket}/{'x' * 1016}.mp4", deferrable=deferrable))
