"""``extra_args``: what is refused by name, and that no call of a client that creates an object goes without them."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.storage.extra_args import checked_extra_args, send_extra_args
from airflow_provider_modelslab.storage.s3_profile import S3Profile

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ALL = {
    "ServerSideEncryption": "aws:kms",
    "SSEKMSKeyId": "key-1",
    "SSEKMSEncryptionContext": "e30=",
    "BucketKeyEnabled": True,
    "ACL": "bucket-owner-full-control",
    "Tagging": "team=video",
    "StorageClass": "STANDARD_IA",
    "RequestPayer": "requester",
    "ExpectedBucketOwner": "123456789012",
    "Metadata": {"team": "video"},
}
HEADERS = {
    "x-amz-server-side-encryption": "aws:kms",
    "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
    "x-amz-server-side-encryption-context": "e30=",
    "x-amz-server-side-encryption-bucket-key-enabled": "true",
    "x-amz-acl": "bucket-owner-full-control",
    "x-amz-tagging": "team=video",
    "x-amz-storage-class": "STANDARD_IA",
    "x-amz-meta-team": "video",
}
PAYER, OWNER = {"x-amz-request-payer": "requester"}, {"x-amz-expected-bucket-owner": "123456789012"}
WHERE = {"Bucket": "clips", "Key": "a.mp4"}


class Raw(BytesIO):
    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


@pytest.fixture(scope="module")
def client() -> Iterator[S3Client]:
    found = boto3.session.Session("AKIA", "secret", region_name="us-east-1").client(
        "s3", config=S3Profile(region="us-east-1").client_config()
    )
    send_extra_args(found, checked_extra_args(ALL))
    yield found
    found.close()


@pytest.fixture
def sent(client: S3Client) -> Iterator[dict[str, str]]:
    """The headers of the call that is made; nothing leaves this process."""
    seen: dict[str, str] = {}

    def answer(request: Any, **_: Any) -> Any:
        seen.clear()
        pairs = {name.lower(): value for name, value in request.headers.items()}
        seen.update({n: v.decode() if isinstance(v, bytes) else str(v) for n, v in pairs.items()})
        body = b"<a><UploadId>1</UploadId></a>"
        return AWSResponse(request.url, 200, HTTPHeaders.from_dict({}), Raw(body))

    client.meta.events.register("before-send.s3", answer)
    yield seen
    client.meta.events.unregister("before-send.s3", answer)


@pytest.mark.parametrize(
    ("call", "arguments", "carried"),
    [
        ("put_object", {"Body": b""}, HEADERS | PAYER | OWNER),
        ("create_multipart_upload", {}, HEADERS | PAYER | OWNER),
        ("copy_object", {"CopySource": "clips/b.mp4"}, HEADERS | PAYER | OWNER),
        ("upload_part", {"UploadId": "1", "PartNumber": 1, "Body": b""}, PAYER | OWNER),
        ("complete_multipart_upload", {"UploadId": "1"}, PAYER | OWNER),
        ("abort_multipart_upload", {"UploadId": "1"}, PAYER | OWNER),
        ("delete_object", {}, PAYER | OWNER),
        ("put_object_acl", {"ACL": "public-read"}, {"x-amz-acl": "public-read"} | PAYER | OWNER),
        ("get_object", {}, PAYER),
        ("head_object", {}, PAYER),
    ],
)
def test_what_each_call_carries(
    client: S3Client, sent: dict[str, str], call: str, arguments: dict[str, Any], carried: dict[str, str]
) -> None:
    getattr(client, call)(**WHERE, **arguments)
    known = {*HEADERS, *PAYER, *OWNER}
    assert {name: value for name, value in sent.items() if name in known} == carried


@pytest.mark.parametrize("call", ["list_objects_v2", "list_multipart_uploads"])
def test_listings_say_who_pays(client: S3Client, sent: dict[str, str], call: str) -> None:
    getattr(client, call)(Bucket="clips")
    assert sent["x-amz-request-payer"] == "requester"
    assert not {*HEADERS, *OWNER} & {*sent}


def test_what_a_call_gives_itself_goes_before(client: S3Client, sent: dict[str, str]) -> None:
    client.put_object(
        Bucket="clips", Key="a.mp4", Body=b"", StorageClass="STANDARD", Metadata={"sha256": "abc", "team": "mine"}
    )
    assert sent["x-amz-storage-class"] == "STANDARD"
    assert (sent["x-amz-meta-sha256"], sent["x-amz-meta-team"]) == ("abc", "mine")


def test_a_presigned_link_says_who_pays_in_its_query(client: S3Client) -> None:
    link = client.generate_presigned_url("get_object", Params=WHERE)
    query = parse_qs(urlsplit(link).query)
    assert query["x-amz-request-payer"] == ["requester"]
    assert query["X-Amz-SignedHeaders"] == ["host"], "whoever reads by the link sends no other headers"


def test_every_creating_call_of_the_service_is_known(client: S3Client) -> None:
    """Another call by which boto makes objects would go without the headers."""
    model = client.meta.service_model
    taking = {
        name
        for name in model.operation_names
        if "StorageClass" in getattr(model.operation_model(name).input_shape, "members", {})
    }
    # Not of buckets: CreateMultipartUpload's own listing, and what Object Lambda answers.
    assert taking - {"WriteGetObjectResponse"} == {"CopyObject", "CreateMultipartUpload", "PutObject"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"ServerSideEncyption": "AES256"}, "ServerSideEncryption"),
        ({"Colour": "red"}, "Colour"),
        ({"SSECustomerKey": "secret"}, "SSECustomerKey"),
        ({"SSECustomerAlgorithm": "AES256"}, "SSECustomerAlgorithm"),
        ({"ContentType": "video/mp4"}, "ContentType"),
        ({"ContentEncoding": "gzip"}, "ContentEncoding"),
        ({"ChecksumSHA256": "abc"}, "ChecksumSHA256"),
        ({"Bucket": "clips"}, "Bucket"),
        ({"IfNoneMatch": "*"}, "IfNoneMatch"),
        ({"ServerSideEncryption": 7}, "ServerSideEncryption"),
        ({"ServerSideEncryption": ""}, "ServerSideEncryption"),
        ({"BucketKeyEnabled": "true"}, "BucketKeyEnabled"),
        ({"Metadata": {"SHA256": "x"}}, "Metadata"),
        ({"Metadata": {"modelslab-try": "7"}}, "Metadata"),
        ({"Metadata": "a=b"}, "Metadata"),
        ("{", "extra_args"),
        ("[1]", "extra_args"),
        (["ACL"], "extra_args"),
    ],
)
def test_what_no_write_can_carry_is_refused_by_its_name(given: object, named: str) -> None:
    with pytest.raises(StorageConfigurationError) as caught:
        checked_extra_args(given)
    assert named in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", [None, "", " ", {}, "{}", "null"])
def test_nothing_is_set(given: object) -> None:
    assert checked_extra_args(given) == {}


def test_json_text_is_read() -> None:
    extra = {"bucket": "clips", "extra_args": '{"ServerSideEncryption": "AES256", "ACL": null}'}
    assert S3Profile.from_extra(extra).extra_args == {"ServerSideEncryption": "AES256", "ACL": None}
