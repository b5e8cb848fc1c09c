"""The real S3 servers that tests of storage and ledgers run against: moto, and Ceph's gateway where it is wanted."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.s3 import S3Server
from tools.stack.radosgw import RadosGateway

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture(scope="session", params=["moto", "radosgw"])
def any_server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    """Each of the servers, one for the whole run."""
    if request.param == "moto":
        yield request.getfixturevalue("s3_server")
        return
    if os.environ.get("MODELSLAB_TEST_RADOSGW") != "1":
        pytest.skip("needs MODELSLAB_TEST_RADOSGW=1 and tools/radosgw/install.sh")
    with RadosGateway() as server:
        yield server


@pytest.fixture
def any_s3(any_server: S3Server) -> Iterator[S3Client]:
    """A client of that server."""
    client = any_server.client()
    yield client
    client.close()


@pytest.fixture
def any_bucket(any_s3: S3Client) -> str:
    """A fresh bucket on that server."""
    name = f"test-{secrets.token_hex(6)}"
    any_s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def small_pages(s3: S3Client) -> None:
    """Every listing takes several pages."""

    def limit(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = 2

    s3.meta.events.register("provide-client-params.s3.ListObjectsV2", limit)
