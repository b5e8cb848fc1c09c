"""A batch from its source to its results manifest, run again, and chained: no clip is paid for twice."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import JobFailedError, StorageConfigurationError
from airflow_provider_modelslab.batch.planning.plan import BatchPlan
from airflow_provider_modelslab.batch.results.index import LandedIndex
from airflow_provider_modelslab.batch.results.outcomes import Outcome, Outcomes, Status
from airflow_provider_modelslab.batch.results.report import write_results
from airflow_provider_modelslab.batch.sources.discovery import find_clips
from airflow_provider_modelslab.ledger.attempt import AttemptId
from airflow_provider_modelslab.ledger.listing import LedgerRoot
from airflow_provider_modelslab.ledger.model import LedgerPolicy, Stored, SubmitNew
from airflow_provider_modelslab.storage.result_manifest import Job
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import Put, planned
from tests.support.s3 import keys_of, lines_of, refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


class Worker:
    """As much of an operator as it takes: it submits and lands, and fails for some clips."""

    def __init__(self, s3: S3Client, bucket: str) -> None:
        self.s3 = s3
        self.bucket = bucket
        self.root = S3Uri(bucket, "_modelslab/ledger")
        self.submitted: list[str] = []

    def run(self, plan: BatchPlan, *, failing: str = "", stop_after: int = 99, index: bool = True) -> dict[str, Any]:
        outcomes = Outcomes(plan)
        landed_index = LandedIndex(self.s3, self.root, plan.output)
        for number, entry in landed_index.find(plan).items():
            outcomes.tell(plan.clips[number], Outcome.skipped(entry.manifest()))
        ledgers, attempt = LedgerRoot(self.s3, self.root), AttemptId()
        left = [clip for clip, _ in outcomes.with_status(Status.PENDING)]
        listing = ledgers.list(clip.destination for clip in left)
        for clip in left[:stop_after]:
            ledger = ledgers.open(clip.destination, listing)
            found = ledger.find(clip.fingerprint, LedgerPolicy(reuse="always"), attempt)
            if isinstance(found, SubmitNew):
                number = found.number
                assert ledger.claim(number, clip.fingerprint, attempt, lease=60, name="n", track_id="t")
                if failing and failing in clip.source:
                    why = JobFailedError("the endpoint could not read https://host/x?sig=secret", job_id="9")
                    ledger.record_error(number, why)
                    outcomes.tell(clip, Outcome.failed(why))
                    continue
                self.submitted.append(clip.source)
                found = ledger.record(number, Job(f"job-{len(self.submitted)}", "c", submitted_at=time.time()))
            if isinstance(found, Stored):
                outcomes.tell(clip, Outcome.skipped(found.manifest))
                landed_index.add(clip, found.manifest)
                continue
            where = clip.destination
            etag = self.s3.put_object(Bucket=where.bucket, Key=where.key, Body=b"result")["ETag"].strip('"')
            manifest = {"uri": str(where), "bytes": 6, "etag": etag, "sha256": "ab", "job_id": found.job.job_id}
            ledger.landed(found.number, manifest)
            outcomes.tell(clip, Outcome.landed(manifest, seconds=1.25))
            landed_index.add(clip, manifest)
        if index:
            landed_index.close()
        return write_results(self.s3, S3Uri(self.bucket, "_modelslab/batches"), "dag/task/run", outcomes, seconds=3.21)


@pytest.fixture
def worker(s3: S3Client, bucket: str, put: Put) -> Worker:
    put(*(f"in/{name}.mp4" for name in ("a", "b", "x/c", "x/bad")))
    return Worker(s3, bucket)


def numbers(summary: dict[str, Any]) -> tuple[int, ...]:
    return tuple(summary[name] for name in ("found", "landed", "skipped", "failed", "pending"))


def test_a_batch_its_rerun_and_its_retry(s3: S3Client, bucket: str, worker: Worker) -> None:
    summary = worker.run(planned(s3, bucket), failing="bad")
    assert numbers(summary) == (4, 3, 0, 1, 0)
    assert summary["errors"] == [
        {
            "source": f"s3://{bucket}/in/x/bad.mp4",
            "job_id": "9",
            "code": "job_failed",
            "message": "the endpoint could not read https://host/x",
        }
    ]
    lines = lines_of(s3, summary["manifest"])
    assert [line["status"] for line in lines] == ["landed", "landed", "failed", "landed"]
    assert [line["index"] for line in lines] == [0, 1, 2, 3]
    assert lines[0]["uri"] == f"s3://{bucket}/out/a.mp4"
    assert (lines[0]["job_id"], lines[0]["bytes"], lines[0]["seconds"]) == ("job-1", 6, 1.25)
    assert json.loads(json.dumps(summary)) == summary
    assert (summary["bytes"], summary["seconds"], summary["retry_left_out"]) == (18, 3.2, 0)

    again = worker.run(planned(s3, bucket, summary["retry"]), failing="bad")
    assert numbers(again) == (1, 0, 0, 1, 0)
    cured = worker.run(planned(s3, bucket, summary["retry"]))
    assert numbers(cured) == (1, 1, 0, 0, 0)
    assert cured["retry"] is None

    rerun = worker.run(planned(s3, bucket))
    assert numbers(rerun) == (4, 0, 4, 0, 0)
    assert sorted(worker.submitted) == [f"s3://{bucket}/in/{name}.mp4" for name in ("a", "b", "x/bad", "x/c")]
    assert [line["job_id"] for line in lines_of(s3, rerun["manifest"])] == ["job-1", "job-2", "job-4", "job-3"]


def test_a_batch_that_stops_before_its_index_is_written_pays_for_the_rest_only(
    s3: S3Client, bucket: str, worker: Worker
) -> None:
    stopped = worker.run(planned(s3, bucket), stop_after=2, index=False)
    assert numbers(stopped) == (4, 2, 0, 0, 2)
    assert [line["init_video"] for line in lines_of(s3, stopped["retry"])] == [
        f"s3://{bucket}/in/x/bad.mp4",
        f"s3://{bucket}/in/x/c.mp4",
    ]
    assert not [key for key in keys_of(s3, bucket) if "/index/" in key]
    assert numbers(worker.run(planned(s3, bucket))) == (4, 2, 2, 0, 0)
    assert numbers(worker.run(planned(s3, bucket))) == (4, 0, 4, 0, 0)
    assert len(worker.submitted) == 4


def test_the_results_are_the_next_batchs_clips(s3: S3Client, bucket: str, worker: Worker) -> None:
    summary = worker.run(planned(s3, bucket), failing="bad")
    clips = find_clips(summary, lambda: s3)
    assert [clip.source for clip in clips.clips] == [f"s3://{bucket}/out/{name}.mp4" for name in ("a", "b", "x/c")]
    assert clips.ignored == {"clips that an earlier batch reports as failed": 1}


def test_a_manifest_that_cannot_be_written_is_an_error(s3: S3Client, bucket: str, worker: Worker) -> None:
    with (
        refusing(s3, "PutObject", 403, "AccessDenied"),
        pytest.raises(StorageConfigurationError, match="grant s3:PutObject"),
    ):
        write_results(s3, S3Uri(bucket, "results"), "run", Outcomes(planned(s3, bucket)))
