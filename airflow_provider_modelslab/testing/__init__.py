"""Pytest fixtures for tests of your own Dags: a served endpoint, an S3 bucket, a runner of Dags.

They need the extra ``testing``. Name the plugin in the ``conftest.py`` at the root of your tests::

    pytest_plugins = ["airflow_provider_modelslab.testing"]

It is no entry point of pytest: that would be imported by every pytest run of an environment that has the provider.

PYTEST_DONT_REWRITE: a ``conftest.py`` may import names from here before pytest loads the plugin.
"""

from __future__ import annotations

from airflow_provider_modelslab.testing.clips import small_mp4
from airflow_provider_modelslab.testing.connections import connection_variables
from airflow_provider_modelslab.testing.dags import DagRun, DagRunner, TaskRun
from airflow_provider_modelslab.testing.endpoint import Bill, ServedEndpoint, serve_endpoint
from airflow_provider_modelslab.testing.fixtures import (
    modelslab_bucket,
    modelslab_clip,
    modelslab_connections,
    modelslab_dag_runner,
    modelslab_endpoint,
    modelslab_engine,
    modelslab_s3_server,
)
from airflow_provider_modelslab.testing.s3 import Bucket, S3Server

__all__ = [
    "Bill",
    "Bucket",
    "DagRun",
    "DagRunner",
    "S3Server",
    "ServedEndpoint",
    "TaskRun",
    "connection_variables",
    "modelslab_bucket",
    "modelslab_clip",
    "modelslab_connections",
    "modelslab_dag_runner",
    "modelslab_endpoint",
    "modelslab_engine",
    "modelslab_s3_server",
    "serve_endpoint",
    "small_mp4",
]
