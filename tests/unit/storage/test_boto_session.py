from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

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


OBJECT = "<Key>a%20%C3%BC&amp;.mp4</Key><LastModified>2026-11-30T04:30:00.000Z</LastModified><ETag>&quot;e&quot;</ETag>"
FIELDS = {
    "as all stores send them": f"{OBJECT}<Size>12</Size><StorageClass>STANDARD</StorageClass>",
    "with a checksum": f"{OBJECT}<ChecksumAlgorithm>CRC32</ChecksumAlgorithm><ChecksumType>COMPOSITE</ChecksumType>",
    "with checksums": f"{OBJECT}{'<ChecksumAlgorithm>SHA1</ChecksumAlgorithm>' * 2}<Size>12</Size>",
    "with an owner": f"{OBJECT}<Size>12</Size><Owner><ID>1</ID><DisplayName>a</DisplayName></Owner>",
    "without a size": f"{OBJECT}<StorageClass/>",
}


@pytest.mark.parametrize("fields", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("space", ['xmlns="http://s3.amazonaws.com/doc/2006-03-01/"', ""])
@pytest.mark.parametrize("objects", [0, 1, 3])
def test_pages_are_read_as_botocore_reads_them(fields: str, space: str, objects: int) -> None:
    session = boto3.session.Session("key", "secret", region_name="us-east-1")
    make_cheaper(session)
    client: Any = session.client("s3")
    model = client.meta.service_model.operation_model("ListObjectsV2")
    parser = client._endpoint._response_parser_factory.create_parser("rest-xml")
    body = (
        f"<ListBucketResult {space}><Name>clips</Name><IsTruncated>true</IsTruncated><KeyCount>{objects}</KeyCount>"
        f"{f'<Contents>{fields}</Contents>' * objects}<CommonPrefixes><Prefix>b/</Prefix></CommonPrefixes>"
        "<NextContinuationToken>t&lt;</NextContinuationToken></ListBucketResult>"
    ).encode()
    response = {"status_code": 200, "headers": {}, "body": body, "context": {}}
    expected = parser.parse(dict(response), model.output_shape)
    ours: dict[str, Any] = {}
    client.meta.events.emit(
        "before-parse.s3.ListObjectsV2",
        operation_model=model,
        response_dict=response,
        customized_response_dict=ours,
    )
    assert bool(ours) is (objects > 0 and "Owner" not in fields)
    assert {**parser.parse(response, model.output_shape), **ours} == expected
    client.close()


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"no XML"), (200, b""), (503, b"<Error><Code>SlowDown</Code></Error>")]
)
def test_what_is_no_page_is_left_to_botocore(status: int, body: bytes) -> None:
    response, ours = {"status_code": status, "body": body}, dict[str, Any]()
    boto_session._read_objects(response_dict=response, customized_response_dict=ours)
    assert (response, ours) == ({"status_code": status, "body": body}, {})


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
