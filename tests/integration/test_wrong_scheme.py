"""https spoken to an http port, and http to an https port: each client says so, against real servers."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from airflow_provider_modelslab.api.errors import TransportError
from airflow_provider_modelslab.client.async_client import AsyncModelsLabClient
from airflow_provider_modelslab.client.client import ModelsLabClient
from airflow_provider_modelslab.storage.s3_errors import describe
from tests.support.s3 import S3Server


@pytest.fixture(params=["http", "https"])
def wrong(request: pytest.FixtureRequest, s3_server: S3Server) -> Iterator[tuple[str, str]]:
    """A server that speaks one scheme: its URL with the other one, and the one to use."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    if request.param == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(s3_server.certificate_path, s3_server.key_path)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    other = {"http": "https", "https": "http"}[request.param]
    yield f"{other}://127.0.0.1:{server.server_port}", request.param
    server.shutdown()
    server.server_close()
    thread.join()


async def test_the_clients_say_which_scheme_to_use(wrong: tuple[str, str]) -> None:
    url, scheme = wrong
    with ModelsLabClient("k", base_url=url) as client, pytest.raises(TransportError, match=f"with {scheme}://"):
        client.fetch("7")
    async with AsyncModelsLabClient("k", base_url=url) as waiting:
        with pytest.raises(TransportError, match=f"with {scheme}://"):
            await waiting.fetch("7")


def test_s3_says_so_too(wrong: tuple[str, str]) -> None:
    url, scheme = wrong
    once = Config(retries={"total_max_attempts": 1})
    s3 = boto3.client(
        "s3", "us-east-1", endpoint_url=url, aws_access_key_id="a", aws_secret_access_key="b", config=once
    )
    with pytest.raises(BotoCoreError) as refused:
        s3.list_objects_v2(Bucket="bucket")
    assert f"begin endpoint_url with {scheme}://" in describe(refused.value)
