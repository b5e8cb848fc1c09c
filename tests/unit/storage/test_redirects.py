"""A store that redirects every request, as a wrong endpoint URL does, is an error and no RecursionError."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook
from airflow_provider_modelslab.storage.redirects import stop_redirect_loops
from airflow_provider_modelslab.storage.s3_errors import S3ErrorKind, kind_of, storage_error
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from tests.support.connections import set_connection, set_modelslab


@dataclass
class Redirecting:
    """Answers each request with a redirect to itself."""

    url: str = ""
    status: int = 301
    headers: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)


@pytest.fixture
def store() -> Iterator[Redirecting]:
    state = Redirecting()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            state.seen.append(f"{self.command} {self.path}")
            self.send_response(state.status)
            for name, value in {"Location": f"{state.url}{self.path}", "Content-Length": "0", **state.headers}.items():
                self.send_header(name, value)
            self.end_headers()

        do_GET = do_HEAD = do_PUT = answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def own_client(store: Redirecting, _: pytest.MonkeyPatch) -> Any:
    profile = S3Profile(endpoint_url=store.url, region="us-east-1")
    client = boto3.client(
        "s3",
        endpoint_url=store.url,
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=profile.client_config(),
    )
    stop_redirect_loops(client)
    return client


def hooks_client(store: Redirecting, monkeypatch: pytest.MonkeyPatch) -> Any:
    set_connection(monkeypatch, "aws_default", "aws", login="a", password="b")
    set_modelslab(monkeypatch, bucket="clips", endpoint_url=store.url, region="us-east-1")
    return ModelsLabHook().get_s3_client()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("operation", ["get_object", "head_object", "put_object", "head_bucket", "list_objects_v2"])
@pytest.mark.parametrize("made", [own_client, hooks_client])
def test_a_store_that_redirects_everything(
    store: Redirecting, monkeypatch: pytest.MonkeyPatch, made: Callable[..., Any], operation: str, status: int
) -> None:
    store.status = status
    client = made(store, monkeypatch)
    place = {"Bucket": "clips"} if operation in {"head_bucket", "list_objects_v2"} else {"Bucket": "clips", "Key": "a"}
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(**place)
    client.close()
    assert kind_of(caught.value) is S3ErrorKind.WRONG_REGION
    assert type(storage_error(caught.value)) is StorageConfigurationError
    assert len(store.seen) <= 2


@pytest.mark.parametrize("operation", ["get_object", "head_object"])
def test_a_region_that_is_named_is_followed(
    store: Redirecting, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    store.headers = {"x-amz-bucket-region": "eu-west-1"}
    client = own_client(store, monkeypatch)
    signed: list[str] = []
    client.meta.events.register(
        "before-send.s3", lambda request, **_: signed.append(str(request.headers["Authorization"]))
    )
    with pytest.raises(ClientError):
        getattr(client, operation)(Bucket="clips", Key="a")
    client.close()
    assert ["us-east-1" in signed[0], "eu-west-1" in signed[1]] == [True, True]
    assert len(signed) == 2
