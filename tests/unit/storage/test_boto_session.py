from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.utils import parse_timestamp

from airflow_provider_modelslab.storage import boto_session
from airflow_provider_modelslab.storage.boto_session import make_cheaper
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-30T04:30:00.000Z",
        "2026-11-30T04:30:00Z",
        "20261130T043000Z",
        "2026-11-30T04:30:00.000+01:00",
        "Mon, 30 Nov 2026 04:30:00 GMT",
        "1796013000",
    ],
)
def test_dates_are_read_as_botocore_reads_them(text: str) -> None:
    assert boto_session._date(text) == parse_timestamp(text)


def test_what_is_no_date_is_an_error_as_with_botocore() -> None:
    with pytest.raises(ValueError, match="Z"):
        boto_session._date("neverZ")


def test_listings_and_headers_tell_the_same_date(
    s3: S3Client, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.put_object(Bucket=bucket, Key="a", Body=b"a")
    session = boto3.session.Session(s3_server.access_key, s3_server.secret_key, region_name=s3_server.region)
    make_cheaper(session)
    quick = session.client("s3", endpoint_url=s3_server.endpoint_url, verify=str(s3_server.ca_path))
    (item,) = quick.list_objects_v2(Bucket=bucket)["Contents"]
    assert item == s3.list_objects_v2(Bucket=bucket)["Contents"][0]
    assert quick.head_object(Bucket=bucket, Key="a")["LastModified"] == item["LastModified"].replace(microsecond=0)
    monkeypatch.setattr("botocore.parsers.DEFAULT_TIMESTAMP_PARSER", None)
    assert quick.list_objects_v2(Bucket=bucket)["Contents"] == [item]
    quick.close()


def test_sessions_share_the_models_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [boto3.session.Session("key", "secret", region_name=region) for region in ("eu-west-1", "us-west-2")]
    for session in sessions:
        make_cheaper(session)
    clients = [session.client("s3") for session in sessions]
    assert clients[0].meta.service_model.metadata is clients[1].meta.service_model.metadata
    assert [client.meta.region_name for client in clients] == ["eu-west-1", "us-west-2"]
    for client in clients:
        client.close()


def test_own_models_have_their_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    session = boto3.session.Session("key", "secret", region_name="us-east-1")
    make_cheaper(session)
    assert str(tmp_path) in session._session.get_component("data_loader").search_paths
