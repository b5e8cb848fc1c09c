"""Which objects count as missing: those that S3 says are not there, and no others."""

from __future__ import annotations

from typing import Any, cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_provider_modelslab.api.errors import StorageConfigurationError, StorageUnavailableError
from airflow_provider_modelslab.storage.s3_objects import missing_objects
from airflow_provider_modelslab.storage.uri import S3Uri

THERE = S3Uri("bucket", "there.mp4")


class FakeS3:
    """A store with one object, which gives one error for all others."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def head_object(self, **given: str) -> dict[str, Any]:
        if given["Key"] == THERE.key:
            return {}
        raise self.error

    def list_objects_v2(self, **given: Any) -> dict[str, Any]:
        return {"Contents": [{"Key": "forbidden.mp4"}] if given["Prefix"] == "forbidden.mp4" else []}


def response(status: int, code: str = "") -> ClientError:
    answer: Any = {"Error": {"Code": code or str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "HeadObject")


def missing(error: Exception, key: str = "gone.mp4") -> list[S3Uri]:
    return missing_objects(cast("Any", FakeS3(error)), [THERE, S3Uri("bucket", key)] * 20)


@pytest.mark.parametrize("error", [response(404), response(403)])
def test_objects_that_are_not_there_are_missing(error: ClientError) -> None:
    assert missing(error) == [S3Uri("bucket", "gone.mp4")] * 20


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (response(500), StorageUnavailableError),
        (response(503, "SlowDown"), StorageUnavailableError),
        (EndpointConnectionError(endpoint_url="https://s3.invalid"), StorageUnavailableError),
        (response(403), StorageConfigurationError),
    ],
)
def test_an_object_that_cannot_be_read_is_not_missing(error: Exception, raised: type[Exception]) -> None:
    with pytest.raises(raised):
        missing(error, "forbidden.mp4")


def test_no_objects_need_no_request() -> None:
    assert missing_objects(cast("Any", FakeS3(response(500))), []) == []
