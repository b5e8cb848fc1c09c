"""Airflow's tables, and the plugins' applications over them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support.airflow_tables import AirflowTables
from tests.support.plugin_site import Site, plugin_site

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.support.s3 import S3Server


@pytest.fixture(scope="module")
def tables() -> Iterator[AirflowTables]:
    made = AirflowTables()
    yield made
    made.close()


@pytest.fixture
def site(
    tables: AirflowTables, s3: S3Client, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    with plugin_site(tables, s3, s3_server, bucket, monkeypatch) as opened:
        yield opened
