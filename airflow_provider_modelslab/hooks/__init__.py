"""From an Airflow connection to a client and an S3 profile."""

from __future__ import annotations

__all__ = ["DEFAULT_CONN_NAME"]

DEFAULT_CONN_NAME = "modelslab_default"
"""The default Airflow connection; defined here, so that a Dag's operators need not load the hook."""
