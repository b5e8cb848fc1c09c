"""The real parts: the endpoint as a process that can be killed, S3 over TLS, and the connections to them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from benchmarks.fault_campaign.plan import BACKGROUND
from tools.make_clip import DEFAULT_PATH
from tools.stack.endpoint import EndpointProcess
from tools.stack.process import free_port
from tools.stack.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["BUCKET", "PREFIX", "Stage"]

BUCKET, PREFIX = "clips", "landed"
_KEY = "key-of-the-campaign"


class Stage:
    """Endpoint and S3 in a folder of their own.

    :param seed: of the endpoint's own faults.
    """

    def __init__(self, folder: Path, *, seed: int) -> None:
        self.s3 = S3Server(folder / "s3")
        self.port = free_port()
        arguments = f"--port {self.port} --engine echo --echo-seconds 0.05 --admin --allow-request-faults".split()
        arguments += ["--faults", json.dumps({"seed": seed, **BACKGROUND})]
        self.endpoint = EndpointProcess(folder / "endpoint", key=_KEY, arguments=tuple(arguments))
        self.url = f"http://127.0.0.1:{self.port}"
        self._session = requests.Session()
        self._session.trust_env = False

    def start(self) -> None:
        """Start both, and make the bucket."""
        self.s3.start()
        self.endpoint.start()
        with self.client() as s3:
            s3.create_bucket(Bucket=BUCKET)
            s3.put_object(Bucket=BUCKET, Key="inputs/clip.mp4", Body=DEFAULT_PATH.read_bytes())

    def stop(self) -> None:
        """Stop both."""
        self._session.close()
        self.endpoint.stop()
        self.s3.stop()

    def environment(self) -> dict[str, str]:
        """The Airflow connections, and a Variable that is empty so that no database is asked for it."""
        extra = {"bucket": BUCKET, "prefix": PREFIX, "region": self.s3.region, "endpoint_url": self.s3.endpoint_url}
        aws = {"conn_type": "aws", "login": self.s3.access_key, "password": self.s3.secret_key}
        return {
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({**aws, "extra": {"verify": str(self.s3.ca_path)}}),
            "AIRFLOW_CONN_MODELSLAB_DEFAULT": json.dumps(
                {"conn_type": "modelslab", "host": self.url, "password": _KEY, "extra": extra}
            ),
            "AIRFLOW_VAR_MODELSLAB_SUBMISSIONS": "{}",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    @contextlib.contextmanager
    def connected(self) -> Iterator[None]:
        """The environment of this process has the connections, and so have its children."""
        before = dict(os.environ)
        os.environ.update(self.environment())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    @contextlib.contextmanager
    def client(self) -> Iterator[S3Client]:
        """An S3 client that looks from the outside."""
        s3 = self.s3.client()
        try:
            yield s3
        finally:
            s3.close()

    def bills(self) -> dict[str, Any]:
        """What the endpoint counted: accepted jobs, faults, requests.

        :raises requests.RequestException: while it is down.
        """
        answer = self._session.get(f"{self.url}/admin/bills", timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def clear_queue(self) -> Mapping[str, Any]:
        """What the vendor does with jobs that never end, when asked to."""
        answer = self._session.post(f"{self.url}/api/v1/enterprise/video/clear_queue", json={"key": _KEY}, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found
