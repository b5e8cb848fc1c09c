"""What "Test connection" says: a real endpoint, a real S3 server, a page that is no API, and none at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from airflow.sdk.execution_time import task_runner
from mypy_boto3_s3 import S3Client

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from tests.support.connections import KEY, set_aws, set_modelslab
from tests.support.endpoint import Caller
from tests.support.s3 import S3Server, keys_of
from tests.support.scripted_server import Answer, ScriptedServer
from tools.stack.process import free_port

DETAILS = Answer({"status": "ok", "model_count": 3, "queue_time": 12.5})


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    with ScriptedServer(DETAILS) as server:
        yield server


@contextmanager
def answering(*steps: Answer) -> Iterator[str]:
    with ScriptedServer(*steps) as server:
        yield server.url


def test_all_is_well(
    scripted: ScriptedServer, s3: S3Client, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.create_bucket(Bucket="check-well")
    set_aws(monkeypatch, s3_server)
    set_modelslab(monkeypatch, scripted.url, bucket="check-well", endpoint_url=s3_server.endpoint_url)
    works, text = ModelsLabHook().test_connection()
    assert works
    assert text == (
        f"The video server at {scripted.url}/api/v1 answers: 3 models, queue time 12.5 s. The bucket check-well can "
        "be reached with the AWS connection aws_default; writing was not tried."
    )
    assert keys_of(s3, "check-well") == []
    [call] = scripted.requests
    assert call.path.endswith("/system_details")


@pytest.mark.usefixtures("connections")
def test_the_real_endpoint_and_the_real_store() -> None:
    works, text = ModelsLabHook().test_connection()
    assert works
    assert "answers: 1 models, queue time 0.0 s. The bucket" in text


@pytest.mark.usefixtures("connections")
def test_a_wrong_key_at_the_real_endpoint(endpoint: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, endpoint.url, key="some-other-key")
    works, text = ModelsLabHook().test_connection()
    assert not works
    assert text.startswith("Invalid Api Key.")
    assert f"Compare it with the one with which {endpoint.url}/api/v1 was started." in text
    assert "some-other-key" not in text


def test_no_bucket_is_named(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, scripted.url)
    works, text = ModelsLabHook().test_connection()
    assert works
    assert "no S3 bucket" in text


def test_a_bucket_that_does_not_exist(
    scripted: ScriptedServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_aws(monkeypatch, s3_server)
    set_modelslab(monkeypatch, scripted.url, bucket="check-none", endpoint_url=s3_server.endpoint_url)
    works, text = ModelsLabHook().test_connection()
    assert not works
    assert "The video server at" in text
    assert "the bucket 'check-none' does not exist at this endpoint and region; create it or correct the name." in text
    assert s3_server.secret_key not in text


def test_an_aws_connection_that_does_not_exist(
    scripted: ScriptedServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without a connection nothing tells boto of the server's own certificate authority.
    set_modelslab(
        monkeypatch, scripted.url, bucket="check-no-aws", endpoint_url=s3_server.endpoint_url, aws_conn_id="no_aws"
    )
    works, text = ModelsLabHook().test_connection()
    assert not works
    assert text.count("There is no AWS connection 'no_aws'") == 1


def test_a_task_names_the_aws_connection_that_does_not_exist(
    scripted: ScriptedServer, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    set_modelslab(monkeypatch, scripted.url, bucket="b-1", endpoint_url=s3_server.endpoint_url, aws_conn_id="no_aws")
    with pytest.raises(StorageConfigurationError, match="no AWS connection 'no_aws'"):
        ModelsLabHook().get_s3_client()


def test_where_no_other_connection_can_be_read(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Airflow 3.3's test on a worker: what cannot be seen there is not called wrong."""
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    monkeypatch.delattr(task_runner, "SUPERVISOR_COMMS")
    set_modelslab(monkeypatch, scripted.url, bucket="check-no-aws", aws_conn_id="in_the_database")
    works, text = ModelsLabHook().test_connection()
    assert works
    assert "The bucket check-no-aws" in text
    assert "in_the_database" in text


def test_an_illegal_bucket(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, scripted.url, bucket="No Bucket")
    works, text = ModelsLabHook().test_connection()
    assert not works
    assert "The S3 settings cannot work: 'No Bucket'" in text


def test_an_s3_server_that_is_down(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    set_modelslab(monkeypatch, scripted.url, bucket="check-down", endpoint_url=f"https://127.0.0.1:{free_port()}")
    works, text = ModelsLabHook().test_connection()
    assert not works
    assert "S3 could not be reached" in text


@pytest.mark.parametrize(
    ("answer", "advice"),
    [
        (Answer({"status": "error", "message": "Invalid API key"}, 401), "Compare it with the one with which http"),
        (Answer({"status": "error", "message": "Invalid API Key"}), "Compare it with the one"),
        (Answer({"status": "error", "message": "no plan"}, 403), "needs the Enterprise plan"),
        (Answer({"status": "error", "message": "no credits"}, 402), "has no credits"),
        (Answer({"status": "error", "message": "slow down"}, 429), "test again in a minute"),
        (Answer("<html>nginx</html>", 404), "is not the video API. Correct the base URL"),
        (Answer("<html>welcome</html>", 200), "is not the video API. Correct the base URL"),
        (Answer("", 301, {"Location": "https://elsewhere.example"}), "is not the video API. Correct the base URL"),
    ],
)
def test_an_endpoint_that_does_not_do(answer: Answer, advice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(answer) as url:
        set_modelslab(monkeypatch, url, bucket="never-looked-at")
        works, text = ModelsLabHook().test_connection()
    assert not works
    assert advice in text
    assert KEY not in text


def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    set_modelslab(monkeypatch, url)
    works, text = ModelsLabHook().test_connection()
    assert not works
    assert "Connection refused" in text
    assert f"{url}/api/v1 cannot be reached" in text


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("ftp://gpu-box", "must begin with https:// or http://"),
        ("https://user:pass-word@gpu-box", "must have no user or password"),
        ("https://gpu-box/?a=1", "must have no query"),
    ],
)
def test_a_host_that_is_no_base_url(host: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, host)
    works, text = ModelsLabHook().test_connection()
    assert not works
    assert text.startswith("The base URL (host) must")
    assert told in text
    assert "pass-word" not in text


@pytest.mark.parametrize("key", [None, "", "  "])
@pytest.mark.parametrize(
    ("host", "where"),
    [(None, "modelslab.com/dashboard/api-keys"), ("http://gpu-box", "your endpoint was started")],
)
def test_no_key(key: str | None, host: str | None, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, host, key=key)
    works, text = ModelsLabHook().test_connection()
    assert not works
    assert text.startswith("The connection has no API key. Put it in the field API key (the password)")
    assert where in text
