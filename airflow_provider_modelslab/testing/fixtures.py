"""The pytest fixtures. Each imports what it needs when a test asks for it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab.testing.clips import small_mp4
from airflow_provider_modelslab.testing.connections import connection_variables
from airflow_provider_modelslab.testing.dags import DagRunner
from airflow_provider_modelslab.testing.endpoint import ServedEndpoint, serve_endpoint
from airflow_provider_modelslab.testing.s3 import Bucket, S3Server

if TYPE_CHECKING:
    from airflow_provider_modelslab.endpoint.engine import Engine

__all__ = [
    "modelslab_bucket",
    "modelslab_clip",
    "modelslab_connections",
    "modelslab_dag_runner",
    "modelslab_endpoint",
    "modelslab_engine",
    "modelslab_s3_server",
]


@pytest.fixture(scope="session")
def modelslab_s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One S3 server for the whole run: moto over TLS, in a process of its own."""
    with S3Server(tmp_path_factory.mktemp("modelslab-s3")) as server:
        yield server


@pytest.fixture
def modelslab_bucket(modelslab_s3_server: S3Server) -> Iterator[Bucket]:
    """A fresh bucket on that server."""
    client = modelslab_s3_server.client()
    bucket = Bucket(modelslab_s3_server, f"test-{secrets.token_hex(6)}", client)
    client.create_bucket(Bucket=bucket.name)
    yield bucket
    client.close()


@pytest.fixture
def modelslab_engine() -> Engine:
    """What makes the clips of the endpoint: the echo engine. Override it for another."""
    from airflow_provider_modelslab.endpoint.echo import EchoEngine

    return EchoEngine()


@pytest.fixture
def modelslab_endpoint(modelslab_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedEndpoint]:
    """A fresh endpoint, with no bills yet."""
    with serve_endpoint(tmp_path_factory.mktemp("modelslab-endpoint"), engine=modelslab_engine) as endpoint:
        yield endpoint


@pytest.fixture
def modelslab_connections(
    modelslab_endpoint: ServedEndpoint, modelslab_bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Airflow connections ``modelslab_default`` and ``aws_default`` lead to the endpoint and the S3 server."""
    for name, value in connection_variables(modelslab_endpoint, modelslab_bucket).items():
        monkeypatch.setenv(name, value)
    # No executor has to be waited for.
    monkeypatch.setenv("AIRFLOW__MODELSLAB__MIN_DEFERRAL", "0")
    for name in ("no_proxy", "NO_PROXY"):  # where this machine has a proxy, its own servers are reached directly
        monkeypatch.setenv(name, ",".join(filter(None, [os.environ.get(name), "127.0.0.1", "localhost"])))


@pytest.fixture
def modelslab_clip(modelslab_bucket: Bucket) -> str:
    """The URI of a small clip in the bucket: 6 frames of 64 x 64 pixels."""
    return modelslab_bucket.put("in/clip.mp4", small_mp4())


@pytest.fixture
def modelslab_dag_runner(modelslab_connections: None) -> DagRunner:
    """Runs Dags and operators with those connections."""
    return DagRunner()
