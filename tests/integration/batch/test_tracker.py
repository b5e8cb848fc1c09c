"""What a batch leaves in S3 while the batch is deferred again and again."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from airflow_provider_modelslab.api.errors import (
    AuthenticationError,
    BatchFailedError,
    ChangedRequestError,
    InputRefusedError,
    InvalidRequestError,
    JobFailedError,
    LandingError,
    ModelsLabError,
    SubmissionUnknownError,
    TransportError,
)
from airflow_provider_modelslab.batch.results.tracker import BatchTracker
from airflow_provider_modelslab.batch.running.limits import FailureLimit
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.model import LedgerPolicy, Stored, Submission
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import Put, planned
from tests.support.s3 import keys_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLIPS = 12


def test_a_batch_that_was_deferred_often_is_known_whole_from_a_few_reads(s3: S3Client, bucket: str, put: Put) -> None:
    put(*(f"in/{number:02d}.mp4" for number in range(CLIPS)))
    plan = planned(s3, bucket)

    def open_tracker() -> BatchTracker:
        return BatchTracker(s3, S3Uri(bucket, "ledger"), plan, name="dag/task/run", limit=FailureLimit(0))

    tracker = open_tracker()
    for clip in plan:
        body = clip.destination.key.encode()
        stored = s3.put_object(Bucket=bucket, Key=clip.destination.key, Body=body)
        tracker.landed(clip, {"bytes": len(body), "etag": stored["ETag"].strip('"'), "job_id": str(clip.index)})
        state, tracker = tracker.state(), open_tracker()
        tracker.restore(state)
    segments = [key for key in keys_of(s3, bucket) if key.startswith("ledger/index/")]
    assert len(segments) < CLIPS  # one each would be more than a rerun reads
    assert tracker.finish()["landed"] == CLIPS
    assert open_tracker().begin() == []


def test_a_rerun_says_how_much_is_there_already(
    s3: S3Client, bucket: str, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put(*(f"in/{number}.mp4" for number in range(3)))
    plan = planned(s3, bucket)

    def open_tracker() -> BatchTracker:
        return BatchTracker(s3, S3Uri(bucket, "ledger"), plan, name="dag/task/run", limit=FailureLimit(None))

    caplog.set_level("INFO", "airflow_provider_modelslab.batch.results.tracker")
    first = open_tracker()
    assert first.begin() == list(plan)
    for clip in plan.clips[:2]:
        stored = s3.put_object(Bucket=bucket, Key=clip.destination.key, Body=b"result")
        first.landed(clip, {"bytes": 6, "etag": stored["ETag"].strip('"'), "job_id": str(clip.index)})
    first.state()
    assert "already" not in caplog.text
    assert open_tracker().begin() == [plan.clips[2]]
    assert caplog.messages.count("2 of 3 results are already stored") == 1
    assert open_tracker().begin(reuse="never") == list(plan)
    assert caplog.text.count("already") == 1


@pytest.mark.parametrize("indexed", [True, False], ids=["index", "ledger"])
def test_what_an_earlier_try_landed_counts_as_landed_with_its_seconds(
    s3: S3Client, bucket: str, put: Put, indexed: bool
) -> None:
    """Not as "there before": it was made in this run. A killed try leaves no index, but the ledger of each clip."""
    put("in/a.mp4")
    plan = planned(s3, bucket)
    (clip,) = plan

    def open_tracker(run_id: str, number: int) -> tuple[BatchTracker, AttemptId]:
        attempt = AttemptId("dag", "task", run_id, try_number=number)
        root, limit = S3Uri(bucket, "ledger"), FailureLimit(None)
        return BatchTracker(s3, root, plan, name=f"dag/task/{run_id}", limit=limit, attempt=attempt), attempt

    tracker, attempt = open_tracker("run", 1)
    assert tracker.begin() == [clip]
    etag = s3.put_object(Bucket=bucket, Key=clip.destination.key, Body=b"result")["ETag"].strip('"')
    submitted = datetime.fromtimestamp(time.time() - 60, UTC).isoformat()
    manifest = {"uri": str(clip.destination), "bytes": 6, "etag": etag, "submitted_at": submitted, "cost": "0.10"}
    ledger = tracker.ledger(clip)
    assert ledger.claim(1, clip.fingerprint, attempt, lease=60, name="job", track_id="job")
    ledger.record(1, Job("7", "c", time.time() - 60))
    ledger.landed(1, manifest)
    tracker.landed(clip, manifest)
    if indexed:
        assert tracker.finish()["landed"] == 1

    for run_id, status in (("run", "landed"), ("another", "skipped")):
        later, attempt = open_tracker(run_id, 2)
        for left in later.begin():
            found = later.ledger(left).find(left.fingerprint, LedgerPolicy(reuse="always"), attempt)
            assert isinstance(found, Stored)
            later.stored(left, found)
        (outcome,) = (told for _, told in later.outcomes)
        assert (outcome.status, outcome.cost) == (status, "0.10")
        assert outcome.seconds == (pytest.approx(60, abs=30) if status == "landed" else None)


def test_results_that_cannot_be_landed_end_a_batch_though_it_is_deferred_between_them(
    s3: S3Client, bucket: str, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put(*(f"in/{number:02d}.mp4" for number in range(CLIPS)))
    plan = planned(s3, bucket)

    def open_tracker() -> BatchTracker:
        return BatchTracker(s3, S3Uri(bucket, "ledger"), plan, name="dag/task/run", limit=FailureLimit(None))

    tracker = open_tracker()
    told: list[str | None] = []
    for clip in plan:
        tracker.failed(clip, LandingError("S3 refuses"), None)
        told.append(tracker.too_many())
        state, tracker = tracker.state(), open_tracker()
        tracker.restore(state)
    assert told == [None] * 9 + [f"{count} results in a row could not be copied to S3" for count in (10, 11, 12)]


MANY = 25


def many(s3: S3Client, bucket: str, put: Put) -> BatchTracker:
    put(*(f"in/{number:02d}.mp4" for number in range(MANY + 5)))
    return BatchTracker(s3, S3Uri(bucket, "ledger"), planned(s3, bucket), name="dag/task/run", limit=FailureLimit(0))


@pytest.mark.parametrize(
    "error",
    [
        InvalidRequestError.of("init_video", "is not an mp4 or gif"),
        InputRefusedError("S3 refuses"),
        TransportError("the clip's host has trouble"),
        ChangedRequestError("another one was paid for"),
        SubmissionUnknownError("an earlier run's"),
    ],
)
def test_clips_that_fail_before_anything_is_sent_keep_no_others_back(
    s3: S3Client, bucket: str, put: Put, error: ModelsLabError
) -> None:
    """They fail again in each rerun, and would starve all that come after them."""
    open_tracker = many(s3, bucket, put)
    for clip in open_tracker.plan.clips[:MANY]:
        open_tracker.failed(clip, error, None)
    assert open_tracker.too_many() is None


def refused_by_the_endpoint() -> ModelsLabError:
    error = InvalidRequestError("model_id: there is no such model", http_status=422)
    error.sent = True
    return error


@pytest.mark.parametrize(
    ("error", "submission"),
    [
        (JobFailedError("no"), Submission(1, Job("7", "c"))),
        (refused_by_the_endpoint(), None),
        (KeyError("a defect"), None),
    ],
)
def test_clips_that_fail_at_the_endpoint_one_after_the_other_end_the_batch(
    s3: S3Client, bucket: str, put: Put, error: Exception, submission: Submission | None
) -> None:
    open_tracker = many(s3, bucket, put)
    told = []
    for clip in open_tracker.plan.clips[:MANY]:
        open_tracker.failed(clip, error, submission)
        told.append(open_tracker.too_many())
    assert told[18:20] == [None, "20 clips in a row failed"]


def test_the_failure_of_a_batch_that_was_given_up_tells_the_reason(s3: S3Client, bucket: str, put: Put) -> None:
    open_tracker = many(s3, bucket, put)
    error = AuthenticationError("the key was refused")
    open_tracker.failed(open_tracker.plan.clips[0], error, None)
    with pytest.raises(BatchFailedError) as raised:
        open_tracker.finish(stopped=f"{error.code}: {error}")
    assert raised.value.cause is error.code
