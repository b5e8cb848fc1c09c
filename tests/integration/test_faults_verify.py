"""The campaign's own judge: what it calls lost, paid twice, explained and wrong."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from benchmarks.fault_campaign import verify as judge
from benchmarks.fault_campaign.attempt import DAG_ID, TASK_ID
from benchmarks.fault_campaign.clip import Clip
from benchmarks.fault_campaign.person import submission_of
from benchmarks.fault_campaign.plan import ClipPlan, draw_clip
from benchmarks.fault_campaign.stage import PREFIX

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME, PID, NOW = "clip0001", 77, 1_800_000_000.0
BODY = b"a clip"
DIGEST = hashlib.sha256(BODY).hexdigest()
CLAIM = {"process": {"pid": PID}, "claimed_at": "2027-01-15T08:00:00+00:00"}


def job(number: int, submission: int = 1, *, status: str = "success", faults: tuple[str, ...] = ()) -> dict[str, Any]:
    track_id = submission_of(NAME, submission)
    return {"id": number, "track_id": track_id, "status": status, "faults": list(faults), "accepted_at": NOW}


class Case:
    """One clip's traces, to be looked at."""

    def __init__(self, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(judge, "BUCKET", bucket)
        self._s3, self._bucket = s3, bucket
        self._key = f"{PREFIX}/{DAG_ID}/{TASK_ID}/{NAME}.mp4"
        self.clip = Clip(ClipPlan(NAME, False, False, (), {}, 0), "fail", manifests=[{"sha256": DIGEST}])
        self.journal: list[dict[str, Any]] = []

    def land(self, job_id: int, body: bytes = BODY) -> None:
        sidecar = {"sha256": DIGEST, "bytes": len(BODY), "job_id": str(job_id)}
        self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=body)
        self._s3.put_object(Bucket=self._bucket, Key=f"{self._key}.json", Body=json.dumps(sidecar).encode())

    def entries(self, **entries: dict[str, Any]) -> None:
        for name, entry in entries.items():
            S3LedgerStore(self._s3, judge.ledger_of(NAME)).create(name.removeprefix("_").replace("_", "-"), entry)

    def happened(self, *events: str, status: int) -> None:
        for event in events:
            self.journal.append({"event": event, "clip": NAME, "pid": PID, "at": NOW})
        self.journal.append({"event": "ended", "clip": NAME, "pid": PID, "at": NOW, "status": status})

    def findings(self, *jobs: dict[str, Any]) -> judge.Findings:
        return judge.verify([self.clip], {"jobs": list(jobs)}, self._s3, self.journal)


@pytest.fixture
def case(s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(s3, bucket, monkeypatch)


def test_paid_once_and_landed_once(case: Case) -> None:
    case.land(7)
    assert case.findings(job(7)) == judge.Findings(paid=1, landed=1)


def test_paid_and_not_landed_is_lost(case: Case) -> None:
    found = case.findings(job(7))
    assert (found.landed, found.lost) == (0, [f"{NAME}: paid as job 7"])


def test_another_object_than_was_told(case: Case) -> None:
    case.land(7, b"cut")
    assert len(case.findings(job(7)).wrong) == 2  # neither the sidecar nor XCom tells of it


def test_a_job_that_is_no_clips(case: Case) -> None:
    case.land(7)
    found = case.findings(job(7), {**job(8), "track_id": "of somebody else"})
    assert found.wrong == ["job 8 is no clip's: track_id of somebody else"]


def test_one_submission_sent_twice_is_explained_by_nothing(case: Case) -> None:
    case.land(7)
    case.entries(_0001_claim=CLAIM, _0001_unknown={})
    assert len(case.findings(job(7, faults=("reset_after",)), job(8)).unexplained) == 1


def test_a_second_submission_beside_a_job_whose_id_was_known(case: Case) -> None:
    case.land(8)
    case.entries(_0001_claim=CLAIM, _0001_job={"job_id": "7"})
    case.happened("start", "submitting", "submitted", status=-9)
    assert len(case.findings(job(7), job(8, 2)).unexplained) == 1


@pytest.mark.parametrize(
    ("passed", "status", "because"),
    [
        (("start", "submitting"), -9, "its process was killed in the phase 'submitting'"),
        (("start", "submitting", "submitted"), -9, "its process was killed in the phase 'submitted'"),
        (("start", "submitting", "submitted", "id written"), -9, None),
        (("start", "submitting"), 0, None),
    ],
)
def test_a_kill_explains_a_second_submission_before_the_id_is_written_alone(
    case: Case, passed: tuple[str, ...], status: int, because: str | None
) -> None:
    case.land(8)
    case.entries(_0001_claim=CLAIM)
    case.happened(*passed, status=status)
    found = case.findings(job(7), job(8, 2))
    assert [one.evidence.get("because") for one in found.duplicates] == [because]


def test_a_lost_answer_explains_a_second_submission(case: Case) -> None:
    case.land(8)
    case.entries(_0001_claim=CLAIM, _0001_unknown={})
    found = case.findings(job(7, faults=("malformed",)), job(8, 2))
    assert [one.evidence["because"] for one in found.duplicates] == ["the answer was lost: malformed"]
    assert case.findings(job(7), job(8, 2)).unexplained


def test_a_second_submission_after_one_that_the_endpoint_failed_or_lost(case: Case) -> None:
    case.land(9)
    case.entries(_0002_claim=CLAIM, _0002_failed={"error": {"code": "job_lost"}})
    found = case.findings(job(7, status="failed"), job(8, 2, faults=("lost_id",)), job(9, 3))
    assert (found.duplicates, len(found.resubmitted_after_failure), found.landed) == ([], 2, 1)


def test_a_plan_is_the_same_for_the_same_seed() -> None:
    assert draw_clip(7, 3, intensity=1.0) == draw_clip(7, 3, intensity=1.0)
    assert draw_clip(7, 3, intensity=1.0) != draw_clip(8, 3, intensity=1.0)
