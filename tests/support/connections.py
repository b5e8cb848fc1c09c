"""Airflow connections, given as environment variables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support import airflow_versions as _airflow_versions  # noqa: F401  # 3.1 reads the environment then
from tests.support.s3 import S3Server

KEY = "test-key-of-nobody"


def set_connection(patch: pytest.MonkeyPatch, conn_id: str, conn_type: str, **fields: Any) -> None:
    """Define a connection; ``extra`` is a dict."""
    patch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps({"conn_type": conn_type, **fields}))


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
