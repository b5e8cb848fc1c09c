"""The hook in a process that is no task: connections from the environment, a secrets backend, or Airflow's database."""

from __future__ import annotations

import os

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_modelslab.compat import commands_need_connections, read_connection
from airflow_provider_modelslab.hooks.modelslab import ModelsLabHook

__all__ = ["open_hook"]


def open_hook(conn_id: str) -> ModelsLabHook:
    """The hook, its connection read.

    :raises AirflowNotFoundException: when there is no such connection.
    """
    old = commands_need_connections()
    if old:
        _hand_over(conn_id)
    hook = ModelsLabHook(conn_id)
    hook.connection  # noqa: B018 - read here, so that a missing one is told before anything else
    if old:
        _hand_over(hook.s3_profile.aws_conn_id, missing="aws://")  # boto's own credentials, as with a missing one
    return hook


def _hand_over(conn_id: str, *, missing: str | None = None) -> None:
    """Airflow 3.1: hooks outside a task know no database, so what is there is put into this process's environment.

    :param missing: what to put there when there is no such connection.
    :raises AirflowNotFoundException: when there is none, and nothing in its place.
    """
    try:
        found = read_connection(conn_id).as_json()
    except AirflowNotFoundException:
        if missing is None:
            raise
        found = missing
    os.environ.setdefault(f"AIRFLOW_CONN_{conn_id.upper()}", found)
