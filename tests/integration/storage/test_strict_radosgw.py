"""A policy that is really evaluated, by Ceph: one prefix is granted to a user, and each put has to be encrypted."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests

from airflow_provider_modelslab.api.errors import StorageConfigurationError
from airflow_provider_modelslab.ledger.stores import S3LedgerStore, honours_conditional_puts
from airflow_provider_modelslab.storage.checks import require_listing, require_writable
from airflow_provider_modelslab.storage.extra_args import send_extra_args
from airflow_provider_modelslab.storage.s3_objects import put_object
from airflow_provider_modelslab.storage.signing import LinkSigner
from airflow_provider_modelslab.storage.upload import ObjectUpload
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.s3 import S3Server
from tools.stack.radosgw import RadosGateway

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def gateway(any_server: S3Server) -> RadosGateway:
    if not isinstance(any_server, RadosGateway):
        pytest.skip("moto does not evaluate the conditions of policies")
    return any_server


@pytest.fixture
def clients(gateway: RadosGateway, any_s3: S3Client, any_bucket: str) -> Iterator[tuple[S3Client, S3Client]]:
    """Two clients of the restricted user: with the headers, and without."""
    name = f"restricted{secrets.token_hex(3)}"
    keys = gateway.add_user(name)
    everything = {"Effect": "Allow", "Principal": {"AWS": [f"arn:aws:iam:::user/{name}"]}}
    bucket = f"arn:aws:s3:::{any_bucket}"
    policy: dict[str, Any] = {
        "Version": "2012-10-17",
        "Statement": [
            {
                **everything,
                "Action": "s3:ListBucket",
                "Resource": bucket,
                "Condition": {"StringLike": {"s3:prefix": "team/*"}},
            },
            {**everything, "Action": ["s3:GetObject", "s3:AbortMultipartUpload"], "Resource": f"{bucket}/team/*"},
            {
                **everything,
                "Action": "s3:PutObject",
                "Resource": f"{bucket}/team/*",
                "Condition": {"StringEquals": {"s3:x-amz-server-side-encryption": "aws:kms"}},
            },
        ],
    }
    any_s3.put_bucket_policy(Bucket=any_bucket, Policy=json.dumps(policy))
    session = boto3.session.Session(*keys, region_name=gateway.region)
    made = [
        session.client(
            "s3",
            endpoint_url=gateway.endpoint_url,
            verify=str(gateway.ca_path),
            config=gateway.profile().client_config(),
        )
        for _ in range(2)
    ]
    send_extra_args(made[0], {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": gateway.kms_key})
    yield made[0], made[1]
    for client in made:
        client.close()


def test_one_prefix_and_encrypted_puts(
    clients: tuple[S3Client, S3Client], any_bucket: str, gateway: RadosGateway
) -> None:
    encrypted, plain = clients
    target = S3Uri(any_bucket, "team/out/a.mp4")
    require_listing(encrypted, S3Uri(any_bucket, "team/_modelslab/"))
    require_writable(encrypted, target)
    root = S3Uri(any_bucket, "team/_modelslab/ledger")
    assert honours_conditional_puts(encrypted, root)
    assert S3LedgerStore(encrypted, root.child("tasks/x")).create("0001-claim", {})
    with ObjectUpload(encrypted, target, content_type="video/mp4") as upload:
        upload.write(b"a video")
        upload.complete()
    assert encrypted.head_object(Bucket=any_bucket, Key=target.key)["ServerSideEncryption"] == "aws:kms"
    link = LinkSigner(lambda: encrypted).sign(target, 60)
    assert requests.get(link.url, verify=str(gateway.ca_path), timeout=60).content == b"a video"
    elsewhere = S3Uri(any_bucket, "elsewhere/a.mp4")
    refused: list[Callable[[], object]] = [
        lambda: require_writable(plain, target),
        lambda: put_object(plain, target, b"", "text/plain"),
        lambda: require_writable(encrypted, elsewhere),
        lambda: require_listing(encrypted, elsewhere),
    ]
    for call in refused:
        with pytest.raises(StorageConfigurationError) as caught:
            call()
        assert caught.value.http_status == 403
