"""An attempt that ends after its successor leaves the successor's results manifest alone, on a real S3 server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import (
    BatchFailedError,
    BatchSupersededError,
    LandingError,
    StorageConfigurationError,
)
from airflow_provider_modelslab.batch.results.put_if_newer import put_if_newer
from airflow_provider_modelslab.batch.results.tracker import BatchTracker
from airflow_provider_modelslab.batch.running.limits import FailureLimit
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import COMMON, Put, counted, planned
from tests.support.s3 import keys_of, listening, refusing
from tests.support.task_ids import made_at

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

NAME = "dag/task/run"
FIRST, SECOND, THIRD = (
    AttemptId(try_number=number, task_instance_id=made_at(1_795_435_200_000 + 60_000 * number)) for number in (1, 2, 3)
)


class Attempts:
    """Attempts at one batch of two clips, of which some fail."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.folder = S3Uri(bucket, "out/_modelslab/batches")

    def end(self, attempt: AttemptId | None, *, failing: int = 0) -> dict[str, Any]:
        """The end of an attempt that found the first ``failing`` clips failed, and the others landed."""
        plan = planned(self.s3, self.bucket)
        tracker = BatchTracker(
            self.s3, S3Uri(self.bucket, "ledger"), plan, name=NAME, limit=FailureLimit(None), attempt=attempt
        )
        for clip in plan:
            if clip.index < failing:
                tracker.failed(clip, LandingError("the network is gone"), None)
            else:
                tracker.landed(clip, {"bytes": 1, "etag": "e", "job_id": str(clip.index)})
        return tracker.finish()

    def end_having_landed(self, *landed: int, prompt: str = COMMON["prompt"]) -> dict[str, Any]:
        """The end of a process of the second try that reached nothing but these clips."""
        plan = planned(self.s3, self.bucket, common={**COMMON, "prompt": prompt})
        tracker = BatchTracker(
            self.s3, S3Uri(self.bucket, "ledger"), plan, name=NAME, limit=FailureLimit(None), attempt=SECOND
        )
        for index in landed:
            tracker.landed(
                plan.clips[index], {"bytes": 1, "etag": "e", "job_id": str(index), "cost": "0.1", "currency": "USD"}
            )
        return tracker.finish(stopped="the budget is spent")

    def statuses(self) -> list[str]:
        return [line["status"] for line in self._lines(f"{NAME}.jsonl")]

    def to_retry(self) -> int:
        return len(self._lines(f"{NAME}.retry.jsonl"))

    def written_by(self, suffix: str = ".jsonl") -> AttemptId | None:
        where = self.folder.child(f"{NAME}{suffix}")
        return AttemptId.from_metadata(self.s3.head_object(Bucket=where.bucket, Key=where.key)["Metadata"])

    def _lines(self, name: str) -> list[dict[str, Any]]:
        where = self.folder.child(name)
        body = self.s3.get_object(Bucket=where.bucket, Key=where.key)["Body"].read()
        return [json.loads(line) for line in body.splitlines()]


@pytest.fixture
def attempts(s3: S3Client, bucket: str, put: Put) -> Attempts:
    put("in/a.mp4", "in/b.mp4")
    return Attempts(s3, bucket)


@contextmanager
def just_before(s3: S3Client, operation: str, act: Callable[[], object], key: str = "") -> Iterator[None]:
    """Within the block, something happens between the decision for the first such request and its arrival."""
    acted = False

    def on_its_way(request: Any, **_: Any) -> None:
        nonlocal acted
        if not acted and request.url.endswith(key):
            acted = True
            act()

    with listening(s3, f"before-send.s3.{operation}", on_its_way):
        yield
    assert acted


@contextmanager
def ignoring_conditions(s3: S3Client) -> Iterator[None]:
    """A store that takes every put: it never gets to see the conditions."""

    def drop(params: Any, **_: Any) -> None:
        for name in ("If-Match", "If-None-Match"):
            params["headers"].pop(name, None)

    with listening(s3, "before-call.s3.PutObject", drop):
        yield


def test_an_attempt_that_ends_after_its_successor_leaves_its_results(
    attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    attempts.end(SECOND, failing=1)
    with pytest.raises(BatchSupersededError, match=r"Try 1 of this batch stops.*try 2 has already finished") as raised:
        attempts.end(FIRST, failing=2)
    assert f"s3://{attempts.bucket}/out/_modelslab/batches/{NAME}.jsonl was written by try " in str(raised.value)
    assert "A LATER ATTEMPT HAS ALREADY FINISHED THIS BATCH" in caplog.text
    assert (attempts.statuses(), attempts.to_retry()) == (["failed", "landed"], 1)
    assert (attempts.written_by(), attempts.written_by(".retry.jsonl")) == (SECOND, SECOND)


def test_a_successor_replaces_what_was_written_before_it(attempts: Attempts) -> None:
    attempts.end(FIRST, failing=2)
    attempts.end(SECOND, failing=1)
    assert (attempts.statuses(), attempts.to_retry(), attempts.written_by()) == (["failed", "landed"], 1, SECOND)
    attempts.end(THIRD)
    assert (attempts.statuses(), attempts.written_by()) == (["landed", "landed"], THIRD)


@pytest.mark.parametrize("again", [SECOND, AttemptId(try_number=2), replace(SECOND, task_instance_id=made_at(0))])
def test_the_same_try_replaces_its_own(attempts: Attempts, again: AttemptId) -> None:
    attempts.end(SECOND, failing=2)
    attempts.end(again)
    assert (attempts.statuses(), attempts.written_by()) == (["landed", "landed"], again)


# -- two processes of one try ------------------------------------------------------------------------------------------


def test_the_other_process_of_the_try_landed_all(attempts: Attempts) -> None:
    attempts.end(SECOND)
    summary = attempts.end_having_landed()
    assert (summary["landed"], summary["pending"], summary["retry"]) == (2, 0, None)
    assert attempts.statuses() == ["landed", "landed"]


def test_each_process_of_the_try_landed_a_part(attempts: Attempts) -> None:
    with pytest.raises(BatchFailedError):
        attempts.end_having_landed(0)
    assert (attempts.statuses(), attempts.to_retry()) == (["landed", "pending"], 1)
    summary = attempts.end_having_landed(1)
    assert (summary["landed"], summary["pending"], summary["retry"], summary["cost"]) == (2, 0, None, "0.2")
    assert attempts.statuses() == ["landed", "landed"]


def test_the_other_process_of_the_try_ends_between_the_look_and_the_put(attempts: Attempts) -> None:
    with just_before(attempts.s3, "PutObject", lambda: attempts.end(SECOND), key=f"{NAME}.jsonl"):
        assert attempts.end_having_landed(1)["landed"] == 2
    assert attempts.statuses() == ["landed", "landed"]


def test_a_failure_is_known_of_a_clip_that_the_last_process_of_the_try_did_not_reach(attempts: Attempts) -> None:
    attempts.end(SECOND, failing=2)
    summary = attempts.end_having_landed(1)  # any number may fail
    assert (summary["landed"], summary["failed"], summary["errors"][0]["code"]) == (1, 1, "landing")
    assert attempts.statuses() == ["failed", "landed"]


def test_a_result_of_another_request_is_not_the_same(attempts: Attempts) -> None:
    attempts.end(SECOND)
    with pytest.raises(BatchFailedError):
        attempts.end_having_landed(0, prompt="another")
    assert attempts.statuses() == ["landed", "pending"]


@pytest.mark.parametrize("body", [b"", b"<html>\n", b"[]\n{}\n", b'{"uri": 1, "status": []}\n'])
def test_a_damaged_manifest_of_the_same_try_is_replaced(
    s3: S3Client, bucket: str, attempts: Attempts, body: bytes
) -> None:
    where = attempts.folder.child(f"{NAME}.jsonl")
    s3.put_object(Bucket=bucket, Key=where.key, Body=body, Metadata=SECOND.metadata())
    attempts.end(SECOND)
    assert attempts.statuses() == ["landed", "landed"]


def test_a_run_that_was_deleted_and_made_anew_begins_with_try_1_and_writes_all_the_same(attempts: Attempts) -> None:
    attempts.end(THIRD, failing=2)
    anew = AttemptId(try_number=1, task_instance_id=made_at(1_795_535_200_000))
    attempts.end(anew, failing=1)
    assert (attempts.statuses(), attempts.to_retry(), attempts.written_by()) == (["failed", "landed"], 1, anew)


def test_a_manifest_that_does_not_say_who_wrote_it_is_replaced(attempts: Attempts) -> None:
    attempts.end(None, failing=2)
    assert attempts.written_by() is None
    attempts.end(FIRST)
    assert (attempts.statuses(), attempts.written_by()) == (["landed", "landed"], FIRST)


def test_an_end_costs_one_request_more(s3: S3Client, bucket: str, attempts: Attempts) -> None:
    with counted(s3) as without:
        attempts.end(None, failing=1)
    for key in keys_of(s3, bucket):
        if "batches" in key:
            s3.delete_object(Bucket=bucket, Key=key)
    with counted(s3) as fenced:
        attempts.end(FIRST, failing=1)
    assert sorted(fenced) == sorted([*without, "HeadObject"])
    with counted(s3) as fenced:
        attempts.end(SECOND, failing=1)
    assert sorted(fenced) == sorted([*without, "HeadObject", "HeadObject"])  # what to retry was there before, too
    with counted(s3) as fenced:
        attempts.end(THIRD)
    assert fenced.count("HeadObject") == 1


def test_a_successor_that_ends_between_the_look_and_the_put_is_not_overwritten(attempts: Attempts) -> None:
    with (
        just_before(attempts.s3, "PutObject", lambda: attempts.end(SECOND), key=f"{NAME}.jsonl"),
        pytest.raises(BatchSupersededError),
    ):
        attempts.end(FIRST, failing=2)
    assert (attempts.statuses(), attempts.written_by()) == (["landed", "landed"], SECOND)


def test_a_successor_that_replaces_a_manifest_between_the_look_and_the_put_is_not_overwritten(
    attempts: Attempts,
) -> None:
    attempts.end(FIRST, failing=2)
    with (
        just_before(attempts.s3, "PutObject", lambda: attempts.end(THIRD), key=f"{NAME}.jsonl"),
        pytest.raises(BatchSupersededError, match=r"Try 2 of this batch stops.*try 3 has already finished"),
    ):
        attempts.end(SECOND, failing=2)
    assert (attempts.statuses(), attempts.written_by()) == (["landed", "landed"], THIRD)


def test_a_successor_that_ends_between_the_two_manifests_keeps_both(attempts: Attempts) -> None:
    with (
        just_before(attempts.s3, "PutObject", lambda: attempts.end(SECOND, failing=1), key=f"{NAME}.retry.jsonl"),
        pytest.raises(BatchSupersededError),
    ):
        attempts.end(FIRST, failing=2)
    assert (attempts.statuses(), attempts.to_retry()) == (["failed", "landed"], 1)
    assert (attempts.written_by(), attempts.written_by(".retry.jsonl")) == (SECOND, SECOND)


def test_a_late_attempt_that_is_quicker_at_the_put_is_replaced(attempts: Attempts) -> None:
    with just_before(attempts.s3, "PutObject", lambda: attempts.end(FIRST, failing=2), key=f"{NAME}.jsonl"):
        attempts.end(SECOND)
    assert (attempts.statuses(), attempts.written_by()) == (["landed", "landed"], SECOND)


def test_a_manifest_that_is_deleted_between_the_look_and_the_put_is_written(s3: S3Client, attempts: Attempts) -> None:
    attempts.end(FIRST)
    where = attempts.folder.child(f"{NAME}.jsonl")
    with just_before(s3, "PutObject", lambda: s3.delete_object(Bucket=where.bucket, Key=where.key), f"{NAME}.jsonl"):
        attempts.end(SECOND)
    assert attempts.written_by() == SECOND


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_store_that_refuses_conditions_is_looked_at_all_the_same(
    s3: S3Client, bucket: str, status: int, code: str
) -> None:
    where = S3Uri(bucket, "batches/run.jsonl")
    with refusing(s3, "PutObject", status, code, times=1):
        assert not put_if_newer(s3, where, [{"n": 2}], SECOND)  # nothing was there, but that is not certain
    with refusing(s3, "PutObject", status, code), pytest.raises(BatchSupersededError):
        put_if_newer(s3, where, [{"n": 1}], FIRST)
    with refusing(s3, "PutObject", status, code, times=1):
        put_if_newer(s3, where, [{"n": 3}], THIRD)
    assert s3.get_object(Bucket=bucket, Key=where.key)["Body"].read() == b'{"n": 3}\n'


def test_a_store_that_ignores_conditions_is_looked_at_all_the_same(attempts: Attempts) -> None:
    with ignoring_conditions(attempts.s3):
        attempts.end(SECOND, failing=1)
        with pytest.raises(BatchSupersededError):
            attempts.end(FIRST, failing=2)
        assert (attempts.statuses(), attempts.to_retry()) == (["failed", "landed"], 1)
        attempts.end(THIRD)
    assert (attempts.statuses(), attempts.written_by()) == (["landed", "landed"], THIRD)


@pytest.mark.parametrize(("status", "code"), [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")])
def test_conditions_that_are_never_met_do_not_keep_an_attempt_from_its_manifest(
    attempts: Attempts, status: int, code: str
) -> None:
    attempts.end(FIRST, failing=2)
    with refusing(attempts.s3, "PutObject", status, code, times=4):  # the index's segment, and three with conditions
        attempts.end(SECOND)
    assert (attempts.statuses(), attempts.written_by()) == (["landed", "landed"], SECOND)


def test_a_successor_is_seen_at_the_last_look_too(s3: S3Client, bucket: str) -> None:
    where = S3Uri(bucket, "batches/run.jsonl")
    looks = itertools.count(1)

    def written_before_the_last(**_: Any) -> None:
        if next(looks) == 4:
            s3.put_object(Bucket=bucket, Key=where.key, Body=b"newer", Metadata=SECOND.metadata())

    s3.meta.events.register("before-send.s3.HeadObject", written_before_the_last)
    with refusing(s3, "PutObject", 412, "PreconditionFailed", times=3), pytest.raises(BatchSupersededError):
        put_if_newer(s3, where, [{"n": 1}], FIRST)
    assert s3.get_object(Bucket=bucket, Key=where.key)["Body"].read() == b"newer"


def test_a_manifest_that_must_not_be_looked_at_is_written_with_a_warning(
    attempts: Attempts, caplog: pytest.LogCaptureFixture
) -> None:
    attempts.end(FIRST, failing=1)
    with refusing(attempts.s3, "HeadObject", 403, ""):
        attempts.end(SECOND, failing=1)
    assert (attempts.statuses(), attempts.to_retry()) == (["failed", "landed"], 1)
    assert "Grant s3:GetObject on it, and s3:ListBucket" in caplog.text


@pytest.mark.parametrize("operation", ["HeadObject", "PutObject"])
def test_a_store_that_is_out_of_order_is_an_error(s3: S3Client, bucket: str, operation: str) -> None:
    with refusing(s3, operation, 405, "MethodNotAllowed"), pytest.raises(StorageConfigurationError, match=operation):
        put_if_newer(s3, S3Uri(bucket, "run.jsonl"), [], FIRST)
    assert not keys_of(s3, bucket)


def test_a_bucket_that_does_not_exist_is_named(s3: S3Client) -> None:
    with pytest.raises(StorageConfigurationError, match="the bucket 'no-such-bucket-here' does not exist"):
        put_if_newer(s3, S3Uri("no-such-bucket-here", "run.jsonl"), [], FIRST)
