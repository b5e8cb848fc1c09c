"""The real parts: the endpoint as a process that can be killed, S3 over TLS, and the connections to them."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from benchmarks.fault_campaign import s3_server
from benchmarks.fault_campaign.endpoint import Endpoint
from benchmarks.fault_campaign.plan import BACKGROUND
from benchmarks.fault_campaign.run import BATCH_CLIPS, BUCKET, PREFIX
from tools.make_clip import DEFAULT_PATH
from tools.stack.process import free_port
from tools.stack.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Stage"]

_KEY = "key-of-the-campaign"
_S3_TIMEOUTS = {"read_timeout": 1.2, "connect_timeout": 2.0}


class Stage:
    """Endpoint and S3 in a folder of their own.

    :param seed: of the endpoint's own faults.
    :param journal: the file in which both note what went wrong.
    """

    def __init__(self, folder: Path, *, seed: int, journal: Path) -> None:
        self.s3 = S3Server(folder / "s3")
        s3_server.go_wrong(self.s3, journal)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        arguments = (
            f"--port {port} --engine echo --echo-seconds 0.05 --workers 3 --admin --allow-request-faults".split()
        )
        arguments += ["--faults", json.dumps({"seed": seed, **BACKGROUND})]
        self.endpoint = Endpoint(folder / "endpoint", key=_KEY, arguments=arguments, url=self.url, journal=journal)
        self._session = requests.Session()
        self._session.trust_env = False

    def start(self) -> None:
        """Start both, and make the bucket."""
        self.s3.start()
        self.endpoint.start()
        self.endpoint.wait()
        clip = DEFAULT_PATH.read_bytes()
        with self.client() as s3:
            s3.create_bucket(Bucket=BUCKET)
            for key in ("inputs/clip.mp4", *(f"batch/{name}.mp4" for name in BATCH_CLIPS)):
                s3.put_object(Bucket=BUCKET, Key=key, Body=clip)

    def stop(self) -> None:
        """Stop both."""
        self._session.close()
        self.endpoint.stop()
        self.s3.stop()

    def environment(self) -> dict[str, str]:
        """The Airflow connections, and a Variable that is empty so that no database is asked for it."""
        extra = {"bucket": BUCKET, "prefix": PREFIX, "region": self.s3.region, "endpoint_url": self.s3.endpoint_url}
        aws = {"conn_type": "aws", "login": self.s3.access_key, "password": self.s3.secret_key}
        aws_extra = {"verify": str(self.s3.ca_path), "config_kwargs": _S3_TIMEOUTS}
        return {
            "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({**aws, "extra": aws_extra}),
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

    def forget_bills(self) -> None:
        """Begin to count anew."""
        self._session.post(f"{self.url}/admin/reset", timeout=30).raise_for_status()

    def made(self, job_id: str) -> bytes | None:
        """The endpoint's own copy of a job's result, from its disk; ``None`` when it has made none."""
        state = self.endpoint.folder / "state"
        with contextlib.closing(sqlite3.connect(f"file:{state / 'endpoint.db'}?mode=ro", uri=True)) as database:
            row = database.execute("SELECT file_prefix FROM jobs WHERE id = ?", (job_id,)).fetchone()
        place = state / "generations" / f"{row[0]}.mp4" if row else None
        return place.read_bytes() if place and place.is_file() else None

    def clear_queue(self) -> Mapping[str, Any]:
        """What the vendor does with jobs that never end, when asked to."""
        answer = self._session.post(f"{self.url}/api/v1/enterprise/video/clear_queue", json={"key": _KEY}, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found
