"""The endpoint that the processes submit to, in a process of its own that outlives them all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

import requests

from tests.support.connections import KEY
from tests.support.s3 import S3Server
from tools.stack.endpoint import EndpointProcess

__all__ = ["Vendor"]


class Vendor:
    """The endpoint, as its owner sees it: an engine that only paints, and bills that are kept.

    :param seconds: how long each job takes.
    :param workers: how many jobs run at the same time.
    :param more: other arguments of its command line.
    """

    def __init__(self, folder: Path, *, seconds: float, workers: int, more: tuple[str, ...] = ()) -> None:
        arguments = ("--engine", "echo", "--echo-seconds", str(seconds), "--workers", str(workers), "--admin")
        self._process = EndpointProcess(folder, key=KEY, arguments=(*arguments, *more, "--log-level", "warning"))

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stop()

    def requests(self) -> dict[str, int]:
        """How often each call was made."""
        return dict(self._admin()["requests"])

    def jobs(self) -> list[dict[str, Any]]:
        """One for each job that was accepted, and so paid for."""
        return list(self._admin()["jobs"])

    def connection(self, **extra: Any) -> str:
        """An Airflow connection that leads here, as the value of an environment variable."""
        return json.dumps({"conn_type": "modelslab", "host": self._process.url, "password": KEY, "extra": extra})

    def environment(self, s3: S3Server) -> dict[str, str]:
        """The environment of a process whose Airflow connections lead here and to an S3 server."""
        aws = {
            "conn_type": "aws",
            "login": s3.access_key,
            "password": s3.secret_key,
            "extra": {"verify": str(s3.ca_path)},
        }
        return {
            **os.environ,
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
            "AIRFLOW_CONN_MODELSLAB_DEFAULT": self.connection(region=s3.region, endpoint_url=s3.endpoint_url),
            "OMP_NUM_THREADS": "1",
        }

    def _admin(self) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer: dict[str, Any] = session.get(f"{self._process.url}/admin/bills", timeout=30).json()
            return answer
