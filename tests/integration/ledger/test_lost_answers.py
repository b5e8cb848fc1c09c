"""A store that takes a claim and loses its answer: nothing was submitted, so nobody has to be asked."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ReadTimeoutError

from airflow_provider_modelslab.api.errors import ErrorCode, StorageUnavailableError
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.s3 import listening

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLAIM, OTHER = {"who": "me"}, {"who": "another"}


@pytest.fixture
def store(s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch) -> S3LedgerStore:
    monkeypatch.setattr("airflow_provider_modelslab.ledger.stores.time.sleep", lambda seconds: None)
    return S3LedgerStore(s3, S3Uri(bucket, "ledger"))


@contextmanager
def answers_lost(s3: S3Client, operation: str, *, after: bool, times: int = 1) -> Iterator[None]:
    """Calls fail before or after the server has done what they ask."""
    left = itertools.count()

    def fail(**_: Any) -> None:
        if next(left) < times:
            raise ReadTimeoutError(endpoint_url="https://s3.example")

    with listening(s3, f"{'after-call' if after else 'before-send'}.s3.{operation}", fail):
        yield


def test_the_put_of_a_claim_took_effect(s3: S3Client, store: S3LedgerStore) -> None:
    with answers_lost(s3, "PutObject", after=True):
        assert store.create("0001-claim", CLAIM) is True
    assert store.load() == {"0001-claim": CLAIM}


def test_the_claim_is_read_back_through_an_outage(s3: S3Client, store: S3LedgerStore) -> None:
    with answers_lost(s3, "PutObject", after=True), answers_lost(s3, "GetObject", after=True, times=3):
        assert store.create("0001-claim", CLAIM) is True


def test_a_claim_whose_put_was_accepted_is_not_read_back(s3: S3Client, store: S3LedgerStore) -> None:
    with answers_lost(s3, "GetObject", after=True, times=99):
        assert store.create("0001-claim", CLAIM) is True


def test_without_conditional_puts_a_claim_is_read_back(s3: S3Client, bucket: str) -> None:
    plain = S3LedgerStore(s3, S3Uri(bucket, "ledger"), conditional=False)

    def overwrite(**_: Any) -> None:
        s3.meta.events.unregister("after-call.s3.PutObject", overwrite)
        s3.put_object(Bucket=bucket, Key="ledger/0001-claim.json", Body=b'{"who": "another"}')

    with listening(s3, "after-call.s3.PutObject", overwrite):
        assert plain.create("0001-claim", CLAIM) is False


def test_the_put_did_not_arrive(s3: S3Client, store: S3LedgerStore) -> None:
    with answers_lost(s3, "PutObject", after=False, times=99), pytest.raises(StorageUnavailableError) as lost:
        store.create("0001-claim", CLAIM)
    assert lost.value.code is ErrorCode.STORAGE_UNAVAILABLE
    assert store.load() == {}
    assert store.create("0001-claim", CLAIM) is True


def test_another_process_holds_it(s3: S3Client, store: S3LedgerStore) -> None:
    assert store.create("0001-claim", OTHER)
    with answers_lost(s3, "PutObject", after=False, times=99):
        assert store.create("0001-claim", CLAIM) is False
    assert store.load() == {"0001-claim": OTHER}
