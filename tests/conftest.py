"""What tests of every room share."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from tests.support.files_server import FilesServer
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytest_plugins = ["airflow_provider_modelslab.testing"]

# Airflow reads its settings when tests import it: here it finds none of the user's, and writes nothing to their home.
for _name in [name for name in os.environ if name.startswith("AIRFLOW_")]:
    del os.environ[_name]
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ["AIRFLOW__MODELSLAB__MIN_DEFERRAL"] = "0"  # no executor has to be waited for; a real Airflow has its own
# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("modelslab", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("modelslab")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``-n``, keep the tests of a file on one worker, and all that start a real Airflow.

    Two such Airflows at a time, and on a small machine heartbeats come so late that tasks are given up.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # not typed
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            starts_one = file.startswith("tests/system/") and not file.endswith("/test_wheel_installed.py")
            return "airflow" if starts_one else file

    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """System tests come first, since they take longest: the others fill the time of the other workers.

    Of them the one that has its Airflow to itself, before those whose Airflow stays until the last of them.
    """
    items.sort(key=lambda item: ("system" not in item.path.parts, item.path.name != "test_lineage.py"))  # stable


@pytest.fixture(scope="session", autouse=True)
def no_proxy_on_loopback() -> Iterator[None]:
    """Where the machine has an HTTP proxy, the servers of the tests are still reached directly."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("no_proxy", "NO_PROXY"):
            patch.setenv(name, "127.0.0.1,localhost")
        yield


@pytest.fixture(scope="session")
def s3_server(modelslab_s3_server: S3Server) -> S3Server:
    """One S3 server over TLS for the whole run; buckets keep the tests apart."""
    return modelslab_s3_server


@pytest.fixture
def s3(s3_server: S3Server) -> Iterator[S3Client]:
    """A client of that server."""
    client = s3_server.client()
    yield client
    client.close()


@pytest.fixture
def bucket(s3: S3Client) -> str:
    """A fresh bucket."""
    name = f"test-{secrets.token_hex(6)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def files() -> Iterator[FilesServer]:
    """A file server for links."""
    with FilesServer() as server:
        yield server
