"""``update_s3`` and ``reset_s3`` as tasks."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_provider_modelslab.api.errors import AuthenticationError, StorageConfigurationError
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.operators.s3_settings import ModelsLabResetS3Operator, ModelsLabUpdateS3Operator
from tests.integration.tasks.conftest import Restyle, Store
from tests.support.connections import KEY, set_modelslab
from tests.support.endpoint import Caller
from tests.support.s3 import S3Server
from tests.support.scripted_server import Answer, ScriptedServer
from tests.support.tasks import TaskInstance, context_of, execute

OK = {"status": "success", "message": "S3 details updated"}


@pytest.fixture
def trusted(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything in this process trusts the S3 server's authority: the check's anonymous read, and the endpoint."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(s3_server.ca_path))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(s3_server.ca_path))


@pytest.mark.slow
@pytest.mark.usefixtures("connections", "trusted")
def test_results_go_to_the_bucket_until_reset(
    restyle: Restyle, endpoint: Caller, s3_server: S3Server, store: Store, bucket: str
) -> None:
    assert execute(ModelsLabUpdateS3Operator(task_id="update_s3")) == "S3 details updated for video"
    in_bucket = execute(restyle(land_result=False), context_of(TaskInstance(run_id="one")))
    assert in_bucket["links"][0].startswith(f"{s3_server.endpoint_url}/{bucket}/styled/")
    assert requests.get(in_bucket["links"][0], timeout=60).content[4:8] == b"ftyp"
    landed = execute(restyle(destination="landed.mp4"), context_of(TaskInstance(run_id="two")))
    assert store.content_type(landed["uri"]) == "video/mp4"

    assert execute(ModelsLabResetS3Operator(task_id="reset_s3")) == "S3 details reset for video"
    elsewhere = execute(restyle(land_result=False), context_of(TaskInstance(run_id="three")))
    assert elsewhere["links"][0].startswith(endpoint.url)


@pytest.mark.usefixtures("s3_connection", "trusted")
def test_the_server_gets_the_connections_settings(
    s3_server: S3Server, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(Answer(OK)) as server:
        set_modelslab(monkeypatch, server.url, **s3_extra)
        task = ModelsLabUpdateS3Operator(task_id="update_s3", deploy_type="{{ params.kind }}")
        assert execute(task, context_of(kind="text_to_video")) == OK["message"]
    [request] = server.requests
    assert request.path == "/api/v1/enterprise/update_s3"
    assert request.json() == {
        "key": KEY,
        "deploy_type": "text_to_video",
        "public_url": f"{s3_extra['public_url']}/styled/",
        "region_name": s3_server.region,
        "endpoint_url": f"{s3_server.endpoint_url}/{s3_extra['bucket']}",
        "aws_access_key_id": s3_server.access_key,
        "aws_secret_access_key": s3_server.secret_key,
        "image_directory": "styled",
    }


@pytest.mark.usefixtures("s3_connection", "trusted")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bucket": "no-such-bucket-here"}, "'no-such-bucket-here' does not exist"),
        ({"bucket": None}, "no bucket"),
        ({"public_url": None}, "no public_url"),
        ({"public_url": "SERVER/another-place"}, "cannot be read without credentials"),
    ],
)
def test_the_server_is_not_told_of_a_bucket_that_cannot_work(
    s3_server: S3Server,
    s3_extra: dict[str, Any],
    change: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change = {name: value and value.replace("SERVER", s3_server.endpoint_url) for name, value in change.items()}
    with ScriptedServer(Answer(OK)) as server:
        set_modelslab(monkeypatch, server.url, **{**s3_extra, **change})
        with pytest.raises(StorageConfigurationError, match=message) as caught:
            execute(ModelsLabUpdateS3Operator(task_id="update_s3"))
    assert server.posts == 0
    assert s3_server.secret_key not in str(caught.value)


@pytest.mark.usefixtures("s3_connection")
def test_the_check_of_the_bucket_may_be_left_out(s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Answer(OK)) as server:
        set_modelslab(monkeypatch, server.url, **{**s3_extra, "bucket": "made-later-by-someone"})
        execute(ModelsLabUpdateS3Operator(task_id="update_s3", check_bucket=False))
    assert server.posts == 1


@pytest.mark.usefixtures("s3_connection", "trusted")
def test_a_key_that_is_missing_or_wrong(
    endpoint: Caller, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (None, "some-other-key"):
        set_modelslab(monkeypatch, endpoint.url, key=key, **s3_extra)
        for task in (ModelsLabUpdateS3Operator(task_id="update_s3"), ModelsLabResetS3Operator(task_id="reset_s3")):
            with pytest.raises(AuthenticationError, match="key"):
                execute(task)


@pytest.mark.usefixtures("connections")
def test_the_other_calls_of_the_hook(endpoint: Caller) -> None:
    hook = ModelsLabHook()
    assert hook.system_details()["status"] == "ok"
    assert hook.clear_cache() == "Cache cleared successfully"
    assert hook.clear_queue().startswith("Queue cleared")
    assert hook.restart_server() == "server restarting"
