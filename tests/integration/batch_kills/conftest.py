"""An endpoint that keeps bills and takes its time, a real S3 server over TLS, and processes that know both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.kills.processes import Processes
from tests.support.kills.vendor import Vendor
from tests.support.s3 import S3Server
from tests.support.samples import mp4_box, small_mp4

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FRAMES = 2


@pytest.fixture(scope="package")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    """Jobs take 0.8 s, three at a time, so that they are queued and waited for."""
    with Vendor(tmp_path_factory.mktemp("vendor"), seconds=0.8, workers=3) as vendor:
        yield vendor


@pytest.fixture(scope="package")
def processes(vendor: Vendor, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("processes"), vendor.environment(s3_server)) as running:
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
        "defer_after": 0.05,
        "retries": 60,
    }
