"""An endpoint that keeps bills and takes its time, a real S3 server over TLS, and processes that know both."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import requests

from tests.integration.batch_kills.processes import Processes
from tests.support.connections import KEY
from tests.support.s3 import S3Server
from tests.support.samples import mp4_box, small_mp4
from tools.stack.endpoint import EndpointProcess

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FRAMES = 2


class Vendor:
    """The endpoint, as its owner sees it."""

    def __init__(self, process: EndpointProcess) -> None:
        self._process = process
        self.url = process.url

    def requests(self) -> dict[str, int]:
        """How often each call was made."""
        return dict(self._admin()["requests"])

    def jobs(self) -> list[dict[str, Any]]:
        """One for each job that was accepted, and so paid for."""
        return list(self._admin()["jobs"])

    def _admin(self) -> dict[str, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer: dict[str, Any] = session.get(f"{self.url}/admin/bills", timeout=30).json()
            return answer


@pytest.fixture(scope="package")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    """Jobs take 0.8 s, three at a time, so that they are queued and waited for."""
    arguments = ("--engine", "echo", "--echo-seconds", "0.8", "--lanes", "3", "--admin", "--log-level", "warning")
    process = EndpointProcess(tmp_path_factory.mktemp("vendor"), key=KEY, arguments=arguments)
    process.start()
    yield Vendor(process)
    process.stop()


@pytest.fixture(scope="package")
def processes(vendor: Vendor, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    aws = {
        "conn_type": "aws",
        "login": s3_server.access_key,
        "password": s3_server.secret_key,
        "extra": {"verify": str(s3_server.ca_path)},
    }
    extra = {"region": s3_server.region, "endpoint_url": s3_server.endpoint_url}
    environment = {
        **os.environ,
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps(aws),
        "AIRFLOW_CONN_MODELSLAB_DEFAULT": json.dumps(
            {"conn_type": "modelslab", "host": vendor.url, "password": KEY, "extra": extra}
        ),
        "OMP_NUM_THREADS": "1",
    }
    with Processes(tmp_path_factory.mktemp("processes"), environment) as running:
        yield running


@pytest.fixture
def fill(s3: S3Client, bucket: str) -> Callable[[int], list[str]]:
    """Puts so many clips, each with its own content, below ``in/``; returns their names."""

    def put(count: int) -> list[str]:
        names = [f"cam{number % 2}/clip{number:02d}.mp4" for number in range(count)]
        for name in names:
            s3.put_object(Bucket=bucket, Key=f"in/{name}", Body=small_mp4() + mp4_box(b"free", name.encode()))
        return sorted(names)

    return put


@pytest.fixture
def task(bucket: str) -> dict[str, Any]:
    """The operator's arguments."""
    return {
        "model_id": "dark-sushi-mix",
        "prompt": "a fox",
        "source": f"s3://{bucket}/in/",
        "destination": f"s3://{bucket}/out/",
        "num_frames": FRAMES,
        "width": 64,
        "height": 64,
        "seed": 11,
        "max_in_flight": 3,
        "poll_interval": 0.1,
        "max_poll_interval": 0.3,
        "timeout": 60.0,
        "deferrable": True,
        "linger": 0.05,
        "retries": 60,
    }
