"""From an Airflow connection to a client and an S3 profile."""

from __future__ import annotations

__all__ = ["DEFAULT_CONN_NAME"]

DEFAULT_CONN_NAME = "modelslab_default"
"""The Airflow connection that is used where none is named; here, so that a Dag's operators need not load the hook."""
