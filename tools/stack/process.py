"""The server processes of :mod:`airflow_provider_modelslab.testing`, of which the stack is made."""

import sys
from pathlib import Path

from airflow_provider_modelslab.testing.process import (
    WAIT_TIMEOUT_S,
    PartFailedError,
    ServerProcess,
    free_port,
    wait_until,
)

__all__ = ["WAIT_TIMEOUT_S", "PartFailedError", "ServerProcess", "free_port", "python_module", "wait_until"]


def python_module(name: str) -> list[str]:
    """The command that runs a Python module as a server, see :mod:`tools.stack.run_module`."""
    return [sys.executable, str(Path(__file__).with_name("run_module.py")), name]
