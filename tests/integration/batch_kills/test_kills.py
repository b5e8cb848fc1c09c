"""Batches whose processes are killed at any moment, run twice at once, or given up: landed once, paid for once."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import av
import pytest

from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch_kills.conftest import FRAMES
from tests.integration.batch_kills.driver import Batch, draw_plan
from tests.support.kills.processes import Processes, soon
from tests.support.kills.vendor import Vendor
from tests.support.s3 import keys_of

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Fill = Callable[[int], list[str]]


@dataclass(frozen=True)
class Auditor:
    """Looks at S3 and at the vendor's bills from the outside."""

    s3: S3Client
    bucket: str
    vendor: Vendor

    def read(self, key: str) -> bytes:
        return self.s3.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def bills(self) -> dict[str, list[str]]:
        """The ids of the jobs that were paid for, by the clip that their track_id names."""
        paid: dict[str, list[str]] = {}
        for job in self.vendor.jobs():
            found = re.fullmatch(rf"restyling\.batch/{self.bucket}[^/]*/out/(.+)/submission\d+", str(job["track_id"]))
            if found:
                paid.setdefault(found[1], []).append(str(job["id"]))
        return paid

    def require_landed_once(self, names: list[str]) -> None:
        """Each clip was paid for once, and its own result is whole in S3, with a sidecar that says so."""
        paid = self.bills()
        assert {name: len(jobs) for name, jobs in paid.items()} == dict.fromkeys(names, 1)
        for name in names:
            body, sidecar = self.read(f"out/{name}"), json.loads(self.read(f"out/{name}.json"))
            with av.open(io.BytesIO(body), "r") as container:
                assert sum(1 for _ in container.decode(video=0)) == FRAMES
            assert (sidecar["sha256"], sidecar["bytes"]) == (hashlib.sha256(body).hexdigest(), len(body))
            assert sidecar["job_id"] == paid[name][0]
            assert sidecar["request"]["init_video"] == f"s3://{self.bucket}/in/{name}"
        results = {key.removeprefix("out/") for key in keys_of(self.s3, self.bucket) if key.startswith("out/")}
        own = {name for name in results if "_modelslab/" not in name}
        assert own == {*names, *(f"{name}.json" for name in names)}
        assert self.s3.list_multipart_uploads(Bucket=self.bucket).get("Uploads", []) == []

    def require_accounted_for(self, summary: dict[str, Any], names: list[str]) -> list[dict[str, Any]]:
        """The counts of the summary and of the results manifest reconcile; returns the manifest's lines."""
        counts = {status: summary[status] for status in ("landed", "skipped", "failed", "pending")}
        assert summary["found"] == len(names) == sum(counts.values())
        assert (counts["failed"], counts["pending"], summary["retry"]) == (0, 0, None)
        lines = [json.loads(line) for line in self.read(S3Uri.parse(summary["manifest"]).key).splitlines()]
        assert {"failed": 0, "pending": 0, **counts} == {
            **dict.fromkeys(counts, 0),
            **Counter(line["status"] for line in lines),
        }
        assert [line["uri"] for line in lines] == [f"s3://{self.bucket}/out/{name}" for name in names]
        for line, name in zip(lines, names, strict=True):
            assert line["sha256"] == hashlib.sha256(self.read(f"out/{name}")).hexdigest()
        return lines


@pytest.fixture
def auditor(s3: S3Client, bucket: str, vendor: Vendor) -> Auditor:
    return Auditor(s3, bucket, vendor)


@pytest.mark.parametrize(("seed", "clips", "kills"), [(5, 24, 10), (6, 10, 5)])
def test_killed_at_random_moments(
    seed: int,
    clips: int,
    kills: int,
    processes: Processes,
    vendor: Vendor,
    auditor: Auditor,
    task: dict[str, Any],
    fill: Fill,
    s3: S3Client,
    bucket: str,
) -> None:
    names = fill(clips)
    batch = Batch(processes, task, f"{bucket}-run", vendor.jobs, draw_plan(seed, kills))
    outcome = batch.run()
    answers: dict[str, str] = {}
    while outcome["end"] == "failed":
        found = batch.ask_a_person(s3, outcome)
        assert not answers.keys() & found.keys()  # what was answered once is not asked again
        answers |= found
        outcome = batch.run()
    assert batch.killed == kills == len(processes.kills_of(bucket))
    assert batch.strays >= 1
    auditor.require_landed_once(names)
    auditor.require_accounted_for(outcome["result"], names)

    # Done is done: another run pays for nothing, asks for nothing, and reads little.
    before = vendor.requests()
    again = Batch(processes, task, f"{bucket}-again", vendor.jobs).run()
    assert vendor.requests() == before
    assert again["result"]["skipped"] == clips
    auditor.require_accounted_for(again["result"], names)
    assert sum(again["s3_calls"].values()) <= 20, again["s3_calls"]
    auditor.require_landed_once(names)


def test_two_runs_at_once_pay_once(
    processes: Processes, auditor: Auditor, task: dict[str, Any], fill: Fill, bucket: str
) -> None:
    names = fill(8)
    at = soon()
    runs = [
        processes.start(
            "execute",
            start_at=at,
            operator="batch",
            task={**task, "deferrable": False},
            run_id=f"{bucket}-{which}",
            try_number=1,
            max_tries=1,
            conf={},
        )
        for which in ("one", "two")
    ]
    for run in runs:
        outcome = processes.wait(run)
        assert outcome is not None
        auditor.require_accounted_for(outcome["result"], names)
    auditor.require_landed_once(names)
