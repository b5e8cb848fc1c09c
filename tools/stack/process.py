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


def python_module(name: str, *, quick: bool = False) -> list[str]:
    """The command that runs a Python module.

    :param quick: whether it starts and ends sooner, see :mod:`tools.stack.run_module`.
    """
    if quick:
        return [sys.executable, str(Path(__file__).with_name("run_module.py")), name]
    return [sys.executable, "-m", name]
