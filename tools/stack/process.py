"""The server processes of :mod:`airflow_provider_modelslab.testing`, of which the stack is made."""

from airflow_provider_modelslab.testing.process import (
    WAIT_TIMEOUT_S,
    PartFailedError,
    ServerProcess,
    free_port,
    wait_until,
)

__all__ = ["WAIT_TIMEOUT_S", "PartFailedError", "ServerProcess", "free_port", "wait_until"]
