"""The same refusal by S3 is the same exception, whatever S3 was asked for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from botocore.config import Config

from airflow_provider_modelslab.api.errors import (
    InputRefusedError,
    LandingError,
    ModelsLabError,
    StorageConfigurationError,
    StorageUnavailableError,
    TransportError,
)
from airflow_provider_modelslab.batch.results.put_if_newer import put_if_newer
from airflow_provider_modelslab.batch.sources.input_manifest import read_manifest
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.stores import S3LedgerStore, honours_conditional_puts
from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage, read_json
from airflow_provider_modelslab.storage.checks import require_listing
from airflow_provider_modelslab.storage.inputs import identify_input, prepare_input
from airflow_provider_modelslab.storage.local_files import fetch_object
from airflow_provider_modelslab.storage.s3_objects import list_pages, put_object, read_object
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.s3_removal import list_dated, list_uploads
from airflow_provider_modelslab.storage.sidecar import read_sidecar
from airflow_provider_modelslab.storage.upload import ObjectUpload
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.s3 import S3Server, refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Use = Callable[["S3Client", S3Uri, Path], object]

ATTEMPT = AttemptId()


def stage(s3: S3Client, uri: S3Uri, folder: Path) -> None:
    clip = folder / "in.gif"
    clip.write_bytes(b"GIF89a" + bytes(64))
    prepare_input(str(clip), lambda: s3, staging=S3Uri(uri.bucket, "inputs"))


def upload(s3: S3Client, uri: S3Uri, folder: Path) -> None:
    with ObjectUpload(s3, uri, content_type="video/mp4") as target:
        target.write(b"bytes")
        target.complete()


def read_entry(s3: S3Client, uri: S3Uri, _: Path) -> None:
    put_object(s3, uri.child("0001-claim.json"), b"{}", "application/json")
    S3LedgerStore(s3, uri).load_one("0001-claim")


def read_beside(s3: S3Client, uri: S3Uri, _: Path) -> None:
    put_object(s3, S3Uri(uri.bucket, f"{uri.key}.json"), b"{}", "application/json")
    read_sidecar(s3, uri)


GENERAL: dict[str, tuple[str, Use]] = {
    "a place for ledgers": ("ListObjectsV2", lambda s3, uri, _: require_listing(s3, uri)),
    "one entry of a ledger": ("GetObject", read_entry),
    "a ledger's finding": ("GetObject", lambda s3, uri, _: honours_conditional_puts(s3, uri)),
    "old objects": ("ListObjectsV2", lambda s3, uri, _: list(list_dated(s3, uri))),
    "unfinished uploads": ("ListMultipartUploads", lambda s3, uri, _: list(list_uploads(s3, uri))),
    "a listing": ("ListObjectsV2", lambda s3, uri, _: list(list_pages(s3, uri))),
    "a small object": ("GetObject", lambda s3, uri, _: read_object(s3, uri)),
    "a small object to write": ("PutObject", lambda s3, uri, _: put_object(s3, uri, b"", "text/plain")),
    "a manifest of clips": ("GetObject", lambda s3, uri, _: read_manifest(f"{uri}.jsonl", lambda: s3)),
    "a batch report": ("PutObject", lambda s3, uri, _: put_if_newer(s3, uri, [], ATTEMPT)),
    "a ledger": ("ListObjectsV2", lambda s3, uri, _: S3LedgerStore(s3, uri).load()),
    "an entry of a ledger": ("PutObject", lambda s3, uri, _: S3LedgerStore(s3, uri).create("0001-claim", {})),
    "the gallery": ("GetObject", lambda s3, uri, _: GalleryStorage(s3, S3Profile()).read(uri, read_json)),
    "a clip to stage": ("PutObject", stage),
}
INPUTS: dict[str, tuple[str, Use]] = {
    "the start of a clip": (
        "GetObject",
        lambda s3, uri, _: prepare_input(str(uri), lambda: s3, staging=None),
    ),
    "the identity of a clip": ("HeadObject", lambda s3, uri, _: identify_input(str(uri), lambda: s3)),
    "a clip to work on": ("GetObject", lambda s3, uri, folder: fetch_object(str(uri), lambda: s3, folder)),
}
RESULTS: dict[str, tuple[str, Use]] = {
    "an upload": ("PutObject", upload),
    "a sidecar": ("GetObject", read_beside),
}

BUSY = {
    "busy": (503, "SlowDown"),
    "broken": (500, "InternalError"),
    "a gateway": (504, ""),
    "too slow": (400, "RequestTimeout"),
}
REFUSALS = {"denied": (403, "AccessDenied"), "credentials": (403, "InvalidAccessKeyId"), **BUSY}


@pytest.fixture(scope="module")
def once(s3_server: S3Server) -> Iterator[S3Client]:
    """A client that sends each call once."""
    import boto3

    config = s3_server.profile().client_config().merge(Config(retries={"total_max_attempts": 1}))
    session = boto3.session.Session(s3_server.access_key, s3_server.secret_key, region_name=s3_server.region)
    client = session.client("s3", endpoint_url=s3_server.endpoint_url, verify=str(s3_server.ca_path), config=config)
    yield client
    client.close()


def raised(s3: S3Client, bucket: str, folder: Path, use: tuple[str, Use], refusal: str) -> type[ModelsLabError]:
    operation, call = use
    status, code = REFUSALS[refusal]
    s3.put_object(Bucket=bucket, Key="in.mp4", Body=bytes(64))
    with refusing(s3, operation, status, code), pytest.raises(ModelsLabError) as caught:
        call(s3, S3Uri(bucket, "in.mp4"), folder)
    if refusal in BUSY:
        assert caught.value.retryable
        assert not re.search("grant|s3:[A-Z]", str(caught.value)), "trouble that passes is no missing permission"
    return caught.type


@pytest.mark.parametrize(
    ("refusal", "cls"),
    [
        ("denied", StorageConfigurationError),
        ("credentials", StorageConfigurationError),
        *((name, StorageUnavailableError) for name in BUSY),
    ],
)
@pytest.mark.parametrize("name", GENERAL)
def test_what_a_whole_batch_needs(
    once: S3Client, bucket: str, tmp_path: Path, name: str, refusal: str, cls: type[ModelsLabError]
) -> None:
    assert raised(once, bucket, tmp_path, GENERAL[name], refusal) is cls


@pytest.mark.parametrize(
    ("refusal", "cls"),
    [
        ("denied", InputRefusedError),
        ("credentials", StorageConfigurationError),
        *((name, TransportError) for name in BUSY),
    ],
)
@pytest.mark.parametrize("name", INPUTS)
def test_a_clip(
    once: S3Client, bucket: str, tmp_path: Path, name: str, refusal: str, cls: type[ModelsLabError]
) -> None:
    assert raised(once, bucket, tmp_path, INPUTS[name], refusal) is cls


@pytest.mark.parametrize("refusal", REFUSALS)
@pytest.mark.parametrize("name", RESULTS)
def test_a_result(once: S3Client, bucket: str, tmp_path: Path, name: str, refusal: str) -> None:
    assert raised(once, bucket, tmp_path, RESULTS[name], refusal) is LandingError
