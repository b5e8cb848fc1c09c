"""Airflow connections, given as environment variables."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_modelslab.testing.connections import connection_variable
from airflow_provider_modelslab.testing.endpoint import API_KEY
from tests.support import airflow_versions as _airflow_versions  # noqa: F401  # 3.1 reads the environment then
from tests.support.s3 import S3Server

KEY = API_KEY


def set_connection(patch: pytest.MonkeyPatch, conn_id: str, conn_type: str, **fields: Any) -> None:
    """Define a connection; ``extra`` is a dict."""
    patch.setenv(*connection_variable(conn_id, conn_type, **fields))


def set_modelslab(
    patch: pytest.MonkeyPatch,
    url: str | None = None,
    *,
    conn_id: str = "modelslab_default",
    key: str | None = KEY,
    **extra: Any,
) -> None:
    """A connection of the type ``modelslab``; ``extra`` is its S3 profile."""
    set_connection(patch, conn_id, "modelslab", host=url, password=key, extra=extra)


def set_aws(patch: pytest.MonkeyPatch, server: S3Server, *, conn_id: str = "aws_default", **extra: Any) -> None:
    """A connection of the Amazon provider with the keys of the S3 server of the tests, and its CA to trust."""
    set_connection(
        patch,
        conn_id,
        "aws",
        login=server.access_key,
        password=server.secret_key,
        extra={"verify": str(server.ca_path), **extra},
    )
