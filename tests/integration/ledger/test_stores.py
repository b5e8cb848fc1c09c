"""The ledger in S3: what is created once, what is an error, and how a store without conditional puts is found out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse
from botocore.compat import HTTPHeaders

from airflow_provider_modelslab.api.errors import STORAGE_ERRORS, StorageConfigurationError, StorageUnavailableError
from airflow_provider_modelslab.ledger.model import Entry, next_submission
from airflow_provider_modelslab.ledger.stores import S3LedgerStore, honours_conditional_puts
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.s3 import S3Server, keys_of, refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FINDING = "ledger/conditional-puts.json"


@pytest.fixture
def folder(any_bucket: str) -> S3Uri:
    return S3Uri(any_bucket, "ledger/task")


@pytest.fixture
def store(any_s3: S3Client, folder: S3Uri) -> S3LedgerStore:
    return S3LedgerStore(any_s3, folder)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.ledger.stores.time.sleep", lambda seconds: None)


def without_token(entries: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: {k: v for k, v in entry.items() if k != "entry_token"} for name, entry in entries.items()}


@contextmanager
def ignoring_conditions(s3: S3Client) -> Iterator[None]:
    """Within the block the store never sees a condition, as with stores that ignore it."""

    def drop(params: dict[str, Any], **_: Any) -> None:
        params.pop("IfNoneMatch", None)

    s3.meta.events.register("provide-client-params.s3.PutObject", drop)
    try:
        yield
    finally:
        s3.meta.events.unregister("provide-client-params.s3.PutObject", drop)


@contextmanager
def losing_the_answer(s3: S3Client) -> Iterator[list[int]]:
    """Within the block the first put reaches the server, and its answer is lost on the way; the statuses of all."""
    statuses: list[int] = []

    def send(request: Any, **_: Any) -> Any:
        real = s3._endpoint.http_session.send(request)  # type: ignore[attr-defined]
        statuses.append(real.status_code)
        if len(statuses) > 1:
            return real
        return AWSResponse(request.url, 503, HTTPHeaders.from_dict({}), real.raw)

    s3.meta.events.register("before-send.s3.PutObject", send)
    try:
        yield statuses
    finally:
        s3.meta.events.unregister("before-send.s3.PutObject", send)


def test_what_was_created_is_there(store: S3LedgerStore) -> None:
    assert store.load() == {}
    assert store.create("0001-claim", {"who": "Zoë", "at": 1.5})
    assert store.create("0001-job", {"job_id": "7"})
    assert without_token(store.load()) == {"0001-claim": {"who": "Zoë", "at": 1.5}, "0001-job": {"job_id": "7"}}


@pytest.mark.parametrize("conditional", [True, False])
def test_the_first_entry_stays(any_s3: S3Client, folder: S3Uri, conditional: bool) -> None:
    one, other = (S3LedgerStore(any_s3, folder, conditional=conditional) for _ in range(2))
    assert one.create("0001-claim", {"who": 1})
    assert not other.create("0001-claim", {"who": 2})
    assert not one.create("0001-claim", {"who": 1})
    assert without_token(one.load()) == {"0001-claim": {"who": 1}}


def test_a_put_whose_answer_was_lost_is_still_its_writers(any_s3: S3Client, store: S3LedgerStore) -> None:
    with losing_the_answer(any_s3) as statuses:
        assert store.create("0001-claim", {"who": 1})
    assert statuses == [200, 412]  # botocore repeated it, and met its own object
    assert not store.create("0001-claim", {"who": 2})


def test_a_refusal_whose_answer_was_lost_is_still_a_refusal(any_s3: S3Client, store: S3LedgerStore) -> None:
    store.create("0001-claim", {"who": 1})
    with losing_the_answer(any_s3) as statuses:
        assert not store.create("0001-claim", {"who": 2})
    assert statuses == [412, 412]


def test_a_conflict_is_repeated(any_s3: S3Client, store: S3LedgerStore) -> None:
    with refusing(any_s3, "PutObject", 409, "ConditionalRequestConflict", times=2):
        assert store.create("0001-claim", {"who": 1})


def test_a_conflict_that_stays_is_an_error_and_nobodys_entry(any_s3: S3Client, store: S3LedgerStore) -> None:
    with (
        refusing(any_s3, "PutObject", 409, "ConditionalRequestConflict"),
        pytest.raises(StorageUnavailableError, match="could not be written"),
    ):
        store.create("0001-job", {"job_id": "7"})
    assert store.load() == {}


@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject"])
@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "InvalidRequest")])
def test_what_cannot_be_read_is_not_empty(
    any_s3: S3Client, store: S3LedgerStore, operation: str, status: int, code: str
) -> None:
    store.create("0001-claim", {})
    with (
        refusing(any_s3, operation, status, code),
        pytest.raises(StorageConfigurationError, match="could not be read") as caught,
    ):
        store.load()
    assert caught.value.http_status == status


def test_an_entry_that_is_listed_and_not_there_is_not_passed_over(any_s3: S3Client, store: S3LedgerStore) -> None:
    store.create("0001-claim", {})
    with (
        refusing(any_s3, "GetObject", 404, "NoSuchKey"),
        pytest.raises(StorageConfigurationError, match="0001-claim: listed"),
    ):
        store.load()


def test_an_entry_that_is_no_json_is_not_passed_over(any_s3: S3Client, store: S3LedgerStore, folder: S3Uri) -> None:
    any_s3.put_object(Bucket=folder.bucket, Key=f"{folder.key}/0001-claim.json", Body=b"{")
    with pytest.raises(StorageConfigurationError, match="could not be read"):
        store.load()


def test_a_bucket_that_is_not_there_is_an_error(any_s3: S3Client) -> None:
    store = S3LedgerStore(any_s3, S3Uri("no-such-bucket-anywhere", "ledger"))
    with pytest.raises(StorageConfigurationError):
        store.load()
    with pytest.raises(StorageConfigurationError):
        store.create("0001-claim", {})


def test_a_write_that_is_refused_is_an_error(any_s3: S3Client, store: S3LedgerStore) -> None:
    with (
        refusing(any_s3, "PutObject", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError, match=r"could not be written.*s3:PutObject"),
    ):
        store.create("0001-claim", {})


def test_all_pages_are_read(any_s3: S3Client, store: S3LedgerStore) -> None:
    for number in range(1, 6):
        store.create(f"{number:04d}-claim", {})

    def small_pages(params: dict[str, Any], **_: Any) -> None:
        params["MaxKeys"] = 2

    any_s3.meta.events.register("provide-client-params.s3.ListObjectsV2", small_pages)
    assert sorted(store.load()) == [f"{number:04d}-claim" for number in range(1, 6)]


@pytest.mark.parametrize(
    "stray", ["notes.json", "0001-claim copy.json", "1.json", "-.json", "old/0001-claim.json", "0002.json"]
)
def test_a_stray_object_in_a_ledgers_folder_is_passed_over(
    any_s3: S3Client, store: S3LedgerStore, folder: S3Uri, stray: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.create("0001-claim", {"a": 1})
    any_s3.put_object(Bucket=folder.bucket, Key=f"{folder.key}/{stray}", Body=b"{}")
    assert list(store.names()) == list(store.load()) == ["0001-claim"]
    assert stray.removesuffix(".json") in caplog.text
    assert next_submission(store.names()) == 2


@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b"{"])
def test_an_entry_that_was_spoilt_is_an_error_of_the_package(
    any_s3: S3Client, store: S3LedgerStore, folder: S3Uri, body: bytes
) -> None:
    any_s3.put_object(Bucket=folder.bucket, Key=f"{folder.key}/0001-claim.json", Body=body)
    with pytest.raises(StorageConfigurationError):
        store.load()


def test_a_folder_made_by_hand_is_no_entry(any_s3: S3Client, store: S3LedgerStore, folder: S3Uri) -> None:
    any_s3.put_object(Bucket=folder.bucket, Key=f"{folder.key}/", Body=b"")
    assert store.load() == {}


def test_the_servers_honour_conditions_and_that_is_written_down(any_s3: S3Client, any_bucket: str) -> None:
    assert honours_conditional_puts(any_s3, S3Uri(any_bucket, "ledger"))
    assert keys_of(any_s3, any_bucket) == [FINDING]
    with refusing(any_s3, "PutObject", 500, "InternalError"):
        assert honours_conditional_puts(any_s3, S3Uri(any_bucket, "ledger"))


def test_a_store_that_ignores_conditions_is_found_out(any_server: S3Server, any_s3: S3Client, any_bucket: str) -> None:
    root = S3Uri(any_bucket, "ledger")
    with ignoring_conditions(any_s3):
        assert not honours_conditional_puts(any_s3, root)
    finding = json.loads(any_s3.get_object(Bucket=any_bucket, Key=FINDING)["Body"].read())
    assert finding["honoured"] is False
    assert keys_of(any_s3, any_bucket) == [FINDING]
    assert not honours_conditional_puts(any_s3, root)  # known from now on


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument"), (400, "")])
def test_a_store_that_does_not_know_conditions_is_found_out(
    any_s3: S3Client, any_bucket: str, status: int, code: str
) -> None:
    with refusing(any_s3, "PutObject", status, code, times=1):
        assert not honours_conditional_puts(any_s3, S3Uri(any_bucket, "ledger"))
    assert keys_of(any_s3, any_bucket) == [FINDING]


@pytest.mark.parametrize(("status", "code"), [(403, "AccessDenied"), (400, "InvalidTag"), (503, "SlowDown")])
def test_nothing_is_found_out_from_a_refusal(any_s3: S3Client, any_bucket: str, status: int, code: str) -> None:
    with (
        refusing(any_s3, "PutObject", status, code),
        pytest.raises(STORAGE_ERRORS),
    ):
        honours_conditional_puts(any_s3, S3Uri(any_bucket, "ledger"))
    assert keys_of(any_s3, any_bucket) == []


def test_finding_out_needs_no_permission_to_delete(any_s3: S3Client, any_bucket: str) -> None:
    with refusing(any_s3, "DeleteObject", 403, "AccessDenied"):
        assert honours_conditional_puts(any_s3, S3Uri(any_bucket, "ledger"))
    assert len(keys_of(any_s3, any_bucket)) == 2


def test_only_the_entries_of_some_kinds_are_read(store: S3LedgerStore) -> None:
    store.create("0001-claim", {"a": 1})
    store.create("0001-job", {"b": 2})
    assert without_token(store.load((Entry.CLAIM,))) == {"0001-claim": {"a": 1}, "0001-job": {}}
