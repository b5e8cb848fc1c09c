"""Reading connections outside of tasks, on the Airflow that cannot do it by itself too."""

from __future__ import annotations

import json

import pytest
from airflow.models.connection import Connection
from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_modelslab.cli.connections import open_hook


@pytest.fixture(autouse=True)
def taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "")


def test_below_airflow_3_2_what_the_database_has_is_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = {
        "modelslab_default": Connection(
            conn_id="modelslab_default",
            conn_type="modelslab",
            host="http://127.0.0.1:1",
            password="a key/with:odd@signs",
            extra=json.dumps({"bucket": "my-bucket", "aws_conn_id": "my_store"}),
        ),
        "my_store": Connection(conn_id="my_store", conn_type="aws", login="me", password="s3cret+/"),
    }
    for conn_id in stored:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", "")
        monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")
    monkeypatch.setattr("airflow.__version__", "3.1.8")
    monkeypatch.setattr(Connection, "get_connection_from_secrets", lambda conn_id: stored[conn_id])
    hook = open_hook("modelslab_default")
    assert (hook.connection.password, hook.base_url) == ("a key/with:odd@signs", "http://127.0.0.1:1/api/v1")
    assert hook.s3_profile.bucket == "my-bucket"
    assert hook.get_connection("my_store").password == "s3cret+/"


def test_below_airflow_3_2_a_missing_connection_is_told_and_missing_aws_keys_are_botos(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def get(conn_id: str) -> Connection:
        if conn_id != "modelslab_default":
            raise AirflowNotFoundException(conn_id)
        return Connection(conn_id=conn_id, conn_type="modelslab", password="key")

    for conn_id in ("modelslab_default", "aws_default"):
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", "")
        monkeypatch.delenv(f"AIRFLOW_CONN_{conn_id.upper()}")
    monkeypatch.setattr("airflow.__version__", "3.1.0")
    monkeypatch.setattr(Connection, "get_connection_from_secrets", get)
    with pytest.raises(AirflowNotFoundException):
        open_hook("nobody")
    found = open_hook("modelslab_default").get_connection("aws_default")
    assert (found.conn_type, found.login, found.password) == ("aws", None, None)
