from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowNotFoundException
from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import ConnectionResult, ErrorResponse, GetConnection
from airflow.sdk.execution_time.supervisor import InProcessSupervisorComms

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    InvalidRequestError,
    JobLostError,
    JobNotFinishedError,
    ModelsLabError,
    StorageConfigurationError,
    TransportError,
)
from airflow_provider_modelslab.api.polling import Decision, Done, GiveUp, PollPolicy, Wait
from airflow_provider_modelslab.api.request import Video2VideoRequest
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.connections import KEY, set_connection, set_modelslab
from tests.support.scripted_server import Answer, HangUp, ScriptedServer, Step


@pytest.fixture
def no_aws_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


VENDOR = "https://modelslab.com/api/v1"


def test_the_limits_of_the_vendor_hold_for_a_connection_to_the_vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Video2VideoRequest(model_id="m", prompt="p", init_video="https://h/a.mp4", width=832, num_frames=33)
    for host in (None, "", "modelslab.com", "https://modelslab.com/api/v6"):
        set_modelslab(monkeypatch, host)
        with pytest.raises(InvalidRequestError) as caught:
            ModelsLabHook().check_request(wide)
        assert set(caught.value.fields) == {"width", "num_frames"}
    set_modelslab(monkeypatch, "http://gpu-box:8188")  # where the model's family has limits of its own
    ModelsLabHook().check_request(wide)


@pytest.mark.parametrize("extension", [{"x_clip_mode": "whole"}, {"x_audio": "drop", "x_overlap": 2}])
def test_extensions_of_a_served_endpoint_are_refused_for_the_vendor(
    monkeypatch: pytest.MonkeyPatch, extension: dict[str, Any]
) -> None:
    asked = Video2VideoRequest(model_id="m", prompt="p", init_video="https://h/a.mp4", extra_parameters=extension)
    set_modelslab(monkeypatch, None)
    with pytest.raises(InvalidRequestError) as caught:
        ModelsLabHook().check_request(asked)
    assert set(caught.value.fields) == set(extension)
    assert all("clip_mode='whole'" in texts[0] for texts in caught.value.fields.values())
    ModelsLabHook().check_request(asked.model_copy(update={"extra_parameters": {"x_clip_mode": None, "other": 1}}))
    set_modelslab(monkeypatch, "http://gpu-box:8188")
    ModelsLabHook().check_request(asked)


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({}, VENDOR),
        ({"host": ""}, VENDOR),
        ({"host": "gpu-box"}, "https://gpu-box/api/v1"),
        ({"host": "gpu-box", "port": 8188}, "https://gpu-box:8188/api/v1"),
        ({"host": "gpu-box", "port": 8188, "schema": "http"}, "http://gpu-box:8188/api/v1"),
        ({"host": "http://gpu-box:8188/"}, "http://gpu-box:8188/api/v1"),
        ({"host": "http://gpu-box/api/v7", "port": 80}, "http://gpu-box:80/api/v7"),
        ({"host": "http://gpu-box:8188", "port": 9000}, "http://gpu-box:8188/api/v1"),
        ({"host": "[fe80::8188]", "port": 8188}, "https://[fe80::8188]:8188/api/v1"),
        ("modelslab://:some-key@gpu-box:8188/http", "http://gpu-box:8188/api/v1"),
        ("modelslab://:some-key@gpu-box:8188", "https://gpu-box:8188/api/v1"),
        ("modelslab://:some-key@http%3A%2F%2F127.0.0.1%3A8188", "http://127.0.0.1:8188/api/v1"),
        ("modelslab://:some-key@/", VENDOR),
    ],
)
def test_forms_of_the_base_url(fields: dict[str, Any] | str, base_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(fields, str):
        monkeypatch.setenv("AIRFLOW_CONN_SOME", fields)
    else:
        set_connection(monkeypatch, "some", "modelslab", password=KEY, **fields)
    hook = ModelsLabHook("some")
    assert repr(hook.get_conn()) == f"ModelsLabClient(base_url={base_url!r})"

    async def asynchronous() -> str:
        async with await hook.get_async_client() as client:
            return repr(client)

    assert asyncio.run(asynchronous()) == f"AsyncModelsLabClient(base_url={base_url!r})"


@pytest.mark.parametrize("host", ["ftp://gpu-box", "http://", "https://user:pw@gpu-box", "https://gpu-box/?a=1"])
def test_a_host_that_is_no_base_url(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, host)
    with pytest.raises(InvalidRequestError, match="base_url: must"):
        ModelsLabHook().get_conn()
    assert ModelsLabHook().test_connection()[0] is False


@pytest.mark.parametrize("key", [None, "", "  "])
def test_a_connection_without_key(key: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, key=key, conn_id="no_key")
    hook = ModelsLabHook("no_key")
    with pytest.raises(AuthenticationError, match="'no_key' has no API key; put it in the password"):
        hook.get_conn()
    with pytest.raises(AuthenticationError, match="'no_key' has no API key"):
        asyncio.run(hook.get_async_client())
    works, why = hook.test_connection()
    assert not works
    assert "Put it in the field API key (the password)" in why


class Supervisor:
    """Answers like the one that ``dag.test()`` puts in place of Airflow's."""

    comms: InProcessSupervisorComms

    def _handle_request(self, request: Any, *_: object) -> None:
        answer: Any = None  # for what is to be masked
        fields: dict[str, Any]
        if isinstance(request, GetConnection):
            answer = ErrorResponse(error=ErrorType.CONNECTION_NOT_FOUND)
            if request.conn_id == "in_the_database":
                fields = dict.fromkeys(("schema", "login", "port", "extra"))
                fields |= {"conn_type": "modelslab", "host": "http://gpu-box", "password": KEY}
                answer = ConnectionResult(conn_id=request.conn_id, **fields)
        self.comms.messages.append(answer)


def test_a_connection_of_the_database_in_a_trigger_that_dag_test_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor: Any = Supervisor()
    supervisor.comms = InProcessSupervisorComms(supervisor=supervisor)
    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", supervisor.comms, raising=False)

    async def looked_up(conn_id: str) -> str:
        async with await ModelsLabHook(conn_id).get_async_client() as client:
            return repr(client)

    assert asyncio.run(looked_up("in_the_database")) == "AsyncModelsLabClient(base_url='http://gpu-box/api/v1')"
    with pytest.raises(AirflowNotFoundException):
        asyncio.run(looked_up("nowhere"))


def test_a_connection_that_does_not_exist() -> None:
    with pytest.raises(AirflowNotFoundException, match="nowhere"):
        ModelsLabHook("nowhere").get_conn()


RUNNING = {"status": "processing", "id": 7, "eta": 30}
DONE = {"status": "success", "id": 7, "output": ["https://example.com/out.mp4"]}
UNKNOWN = {"status": "failed", "id": "", "message": "Request not found"}


@pytest.mark.parametrize(
    ("answer", "submitted_ago", "decision"),
    [
        (Answer(DONE), 9000, Done),
        (Answer(RUNNING), 9000, Wait),
        (Answer("", 502), 9000, Wait),
        (Answer(UNKNOWN), 10, Wait),
        (Answer(UNKNOWN), 9000, GiveUp),
    ],
)
def test_a_poll_asks_once_and_has_no_deadline(
    answer: Answer, submitted_ago: float, decision: type[Decision], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(answer) as server:
        set_modelslab(monkeypatch, server.url)
        job = Job("7", "modelslab_default", submitted_at=time.time() - submitted_ago)
        assert isinstance(ModelsLabHook().poll(job), decision)
    assert server.posts == 1


def test_a_poll_follows_its_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    with ScriptedServer(Answer(UNKNOWN)) as server:
        set_modelslab(monkeypatch, server.url)
        job = Job("7", "modelslab_default", submitted_at=0.0)
        assert isinstance(ModelsLabHook().poll(job, policy=PollPolicy(lost_after=2)), Wait)


@pytest.mark.parametrize(
    ("answer", "raises"),
    [
        (Answer(RUNNING), JobNotFinishedError),
        (Answer(UNKNOWN), JobLostError),
        (Answer("", 502), TransportError),
        (HangUp(), TransportError),
    ],
)
def test_a_job_that_is_not_done_has_no_result(
    answer: Step, raises: type[ModelsLabError], monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(answer) as server:
        set_modelslab(monkeypatch, server.url)
        with pytest.raises(raises):
            ModelsLabHook().fetch_finished("7")
    assert server.posts == 1


def test_nothing_shows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch)
    hook = ModelsLabHook()
    client = hook.get_conn()
    assert hook.get_conn() is client
    assert KEY not in repr(hook) + repr(client) + str(vars(hook).get("timeouts"))


def test_the_s3_profile_is_in_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    extra: dict[str, Any] = {
        "bucket": "clips",
        "prefix": "/styled/",
        "aws_conn_id": "my_aws",
        "region": "eu-central-1",
        "endpoint_url": "https://s3.example.com",
        "public_url": None,
        "something_else": 1,
    }
    set_modelslab(monkeypatch, **extra)
    expected = S3Profile("clips", "styled", "my_aws", "eu-central-1", "https://s3.example.com")
    assert ModelsLabHook().s3_profile == expected
    assert asyncio.run(ModelsLabHook().get_async_s3_profile()) == expected


def test_a_connection_without_extra_has_the_default_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch)
    assert ModelsLabHook().s3_profile == S3Profile(aws_conn_id="aws_default")


def test_an_illegal_bucket_in_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, bucket="No Bucket")
    with pytest.raises(StorageConfigurationError, match="'No Bucket'"):
        _ = ModelsLabHook().s3_profile


def test_the_s3_client_is_made_from_both_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, bucket="clips", region="eu-west-1", endpoint_url="https://s3.example.com")
    set_connection(monkeypatch, "aws_default", "aws", login="AKIA", password="secret", extra={"verify": False})
    hook = ModelsLabHook()
    client = hook.get_s3_client()
    assert hook.get_s3_client() is client
    assert (client.meta.endpoint_url, client.meta.region_name) == ("https://s3.example.com", "eu-west-1")
    assert client.meta.config.s3 == {"addressing_style": "path"}  # type: ignore[attr-defined]  # the stubs lack it
    link = client.generate_presigned_url("get_object", Params={"Bucket": "clips", "Key": "in.mp4"})
    assert link.startswith("https://s3.example.com/clips/in.mp4?")
    assert "AKIA%2F" in link


@pytest.mark.slow
def test_the_endpoint_and_region_may_be_in_the_aws_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, bucket="clips")
    extra = {
        "endpoint_url": "https://minio:9000",
        "region_name": "home-1",
        "config_kwargs": {"retries": {"total_max_attempts": 2, "mode": "standard"}, "read_timeout": 7},
    }
    set_connection(monkeypatch, "aws_default", "aws", login="AKIA", password="secret", extra=extra)
    client = ModelsLabHook().get_s3_client()
    assert (client.meta.endpoint_url, client.meta.region_name) == ("https://minio:9000", "home-1")
    config = client.meta.config
    assert config.s3 == {"addressing_style": "path"}  # type: ignore[attr-defined]  # the stubs lack it
    # What the AWS connection says goes before the provider's own defaults.
    assert (config.read_timeout, config.connect_timeout) == (7, 10)  # type: ignore[attr-defined]


def test_update_s3_needs_keys_to_give(monkeypatch: pytest.MonkeyPatch, no_aws_credentials: None) -> None:
    set_modelslab(monkeypatch, bucket="clips", region="eu-west-1", aws_conn_id="my_aws")
    set_connection(monkeypatch, "my_aws", "aws")
    with pytest.raises(StorageConfigurationError, match="'my_aws' has no keys"):
        ModelsLabHook().update_s3()


def test_update_s3_refuses_keys_that_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, bucket="clips", region="eu-west-1")
    extra = {"aws_session_token": "token-of-a-role"}
    set_connection(monkeypatch, "aws_default", "aws", login="AKIA", password="secret-of-a-role", extra=extra)
    with pytest.raises(StorageConfigurationError, match="temporary") as caught:
        ModelsLabHook().update_s3()
    assert "of-a-role" not in str(caught.value)


def test_the_extra_may_be_text_in_text(monkeypatch: pytest.MonkeyPatch) -> None:
    # As `airflow connections add --conn-extra` stores it.
    set_connection(monkeypatch, "modelslab_default", "modelslab", password=KEY, extra=json.dumps({"bucket": "clips"}))
    assert ModelsLabHook().s3_profile.bucket == "clips"
