"""What the book of a batch leaves in S3 while the batch is deferred again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab.api.errors import LandingError
from airflow_provider_modelslab.batch.desk import BatchDesk
from airflow_provider_modelslab.batch.limits import FailureLimit
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import Put, planned
from tests.support.s3 import keys_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIPS = 12


def test_a_batch_that_was_deferred_often_is_known_whole_from_a_few_reads(s3: S3Client, bucket: str, put: Put) -> None:
    put(*(f"in/{number:02d}.mp4" for number in range(CLIPS)))
    plan = planned(s3, bucket)

    def desk() -> BatchDesk:
        return BatchDesk(s3, S3Uri(bucket, "ledger"), plan, name="dag/task/run", limit=FailureLimit(0))

    at_work = desk()
    for clip in plan:
        body = clip.destination.key.encode()
        stored = s3.put_object(Bucket=bucket, Key=clip.destination.key, Body=body)
        at_work.landed(clip, {"bytes": len(body), "etag": stored["ETag"].strip('"'), "job_id": str(clip.index)})
        state, at_work = at_work.state(), desk()
        at_work.restore(state)
    segments = [key for key in keys_of(s3, bucket) if key.startswith("ledger/index/")]
    assert len(segments) < CLIPS  # one each would be more than a rerun reads
    assert at_work.finish()["landed"] == CLIPS
    assert desk().begin() == []


def test_a_rerun_says_how_much_is_there_already(
    s3: S3Client, bucket: str, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put(*(f"in/{number}.mp4" for number in range(3)))
    plan = planned(s3, bucket)

    def desk() -> BatchDesk:
        return BatchDesk(s3, S3Uri(bucket, "ledger"), plan, name="dag/task/run", limit=FailureLimit(None))

    caplog.set_level("INFO", "airflow_provider_modelslab.batch.desk")
    first = desk()
    assert first.begin() == list(plan)
    for clip in plan.clips[:2]:
        stored = s3.put_object(Bucket=bucket, Key=clip.destination.key, Body=b"result")
        first.landed(clip, {"bytes": 6, "etag": stored["ETag"].strip('"'), "job_id": str(clip.index)})
    first.state()
    assert "already" not in caplog.text
    assert desk().begin() == [plan.clips[2]]
    assert caplog.messages.count("2 of 3 results are there already") == 1
    assert desk().begin(reuse_landed=False) == list(plan)
    assert caplog.text.count("already") == 1


def test_results_that_cannot_be_landed_end_a_batch_though_it_is_deferred_between_them(
    s3: S3Client, bucket: str, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put(*(f"in/{number:02d}.mp4" for number in range(CLIPS)))
    plan = planned(s3, bucket)

    def desk() -> BatchDesk:
        return BatchDesk(s3, S3Uri(bucket, "ledger"), plan, name="dag/task/run", limit=FailureLimit(None))

    at_work = desk()
    told: list[str | None] = []
    for clip in plan:
        at_work.failed(clip, LandingError("S3 refuses"), None)
        told.append(at_work.too_many())
        state, at_work = at_work.state(), desk()
        at_work.restore(state)
    assert told == [None] * 9 + [f"{count} results in a row could not be landed" for count in (10, 11, 12)]
