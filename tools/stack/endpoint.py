"""The endpoint served locally, in a process of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from airflow_provider_modelslab.api.request import MODEL_IDS
from tools.stack.process import WAIT_TIMEOUT_S, ServerProcess, python_module, wait_until

__all__ = ["EndpointProcess"]


class EndpointProcess:
    """``python -m airflow_provider_modelslab.endpoint`` on a free port.

    :param folder: its state and log.
    :param key: the API key it accepts; it travels in the environment, where ``ps`` does not show it.
    :param arguments: more command line arguments.
    :param env: more environment variables.
    :param port: a free one by default.
    :param quick: whether it starts and ends sooner than when people run it.
    """

    def __init__(
        self,
        folder: Path,
        *,
        key: str,
        arguments: tuple[str, ...] = (),
        env: Mapping[str, str] | None = None,
        port: int = 0,
        quick: bool = False,
    ) -> None:
        self.folder = folder
        self._ready_file = folder / "ready.json"
        # torch's threads sleep while they wait for each other: to spin takes the cores from Airflow's parts, and then
        # the model itself takes several times as long.
        environment = {"OMP_WAIT_POLICY": "passive", **os.environ, **(env or {}), "MODELSLAB_ENDPOINT_API_KEY": key}
        command = [*python_module("airflow_provider_modelslab.endpoint", quick=quick), "--port", str(port)]
        command += ["--state-dir", str(folder / "state"), "--ready-file", str(self._ready_file)]
        command += ["--allow-private-addresses", *(f"--alias={name}=demo" for name in MODEL_IDS), *arguments]
        self.process = ServerProcess("the endpoint", command, log=folder / "endpoint.log", env=environment)

    def launch(self) -> None:
        """Start it without waiting for it; :meth:`start` then only waits."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._ready_file.unlink(missing_ok=True)
        self.process.start()

    def start(self, timeout: float = WAIT_TIMEOUT_S) -> Self:
        """Start it and wait until it listens.

        :raises PartFailedError: when it does not within ``timeout`` seconds.
        """
        if not self.process.started:
            self.launch()
        wait_until(self._ready_file.exists, [self.process], what="the endpoint", timeout=timeout)
        return self

    @property
    def url(self) -> str:
        """``http://127.0.0.1:<port>``."""
        return str(json.loads(self._ready_file.read_text())["url"])

    def stop(self) -> None:
        """Stop it; its queue stays on disk."""
        self.process.stop()
