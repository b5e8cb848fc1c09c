"""The endpoint on a real socket, in a thread of the test or as a process, and a caller for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from fastapi import FastAPI

from airflow_provider_modelslab.endpoint.engine import Engine
from airflow_provider_modelslab.endpoint.http.connections import ConnectionLimits
from airflow_provider_modelslab.endpoint.settings import Settings
from airflow_provider_modelslab.testing.endpoint import API_KEY, serve_app

KEY = API_KEY
VIDEO = "/api/v1/enterprise/video"
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Caller:
    """Calls an endpoint as a client without any of the package's client code."""

    url: str
    key: str = KEY

    def post(self, path: str, **body: Any) -> requests.Response:
        return requests.post(f"{self.url}{path}", json={"key": self.key, **body}, timeout=180)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def submit(self, **attributes: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.send(**attributes).json()
        return answer

    def send(self, **attributes: Any) -> requests.Response:
        defaults = {"model_id": "dark-sushi-mix", "prompt": "a fox", "init_video": "https://example.com/in.gif"}
        return self.post(f"{VIDEO}/video2video", **{**defaults, **attributes})

    def fetch(self, job_id: int | str) -> dict[str, Any]:
        answer: dict[str, Any] = self.post(f"{VIDEO}/fetch/{job_id}").json()
        return answer

    def finished(self, job_id: int | str) -> dict[str, Any]:
        """Fetch until the job is no longer "processing"; pytest's timeout is the limit."""
        while (answer := self.fetch(job_id))["status"] == "processing":
            time.sleep(0.02)
        return answer

    def bills(self) -> dict[str, Any]:
        """What was paid; the endpoint has to have its admin routes."""
        answer: dict[str, Any] = requests.get(f"{self.url}/admin/bills", timeout=60).json()
        return answer


@contextmanager
def serving(
    settings: Settings,
    engine: Engine | Sequence[Engine],
    *,
    clock: Callable[[], float] = time.time,
    prepare: Callable[[FastAPI], object] = lambda app: None,
    limits: ConnectionLimits | None = None,
) -> Iterator[Caller]:
    """The endpoint, started and stopped as a process would be.

    :param prepare: adds to the app before it starts.
    :param limits: of connections.
    """
    with serve_app(settings, engine, clock=clock, prepare=prepare, limits=limits) as url:
        yield Caller(url)


@contextmanager
def running(command: list[str], ready_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process of this Python, once it wrote its ready file; killed at the end if it still runs.

    It works in the folder of that file, so that what it leaves is not in the checkout.
    """
    python_path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "MODELSLAB_ENDPOINT_API_KEY": KEY, "PYTHONPATH": python_path}
    with subprocess.Popen([sys.executable, *command], cwd=ready_file.parent, env=environment) as process:
        try:
            while not ready_file.exists():
                assert process.poll() is None, "the endpoint ended before it listened"
                time.sleep(0.02)
            yield process
        finally:
            process.kill()
