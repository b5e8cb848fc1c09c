"""The campaign's own judge: what it calls lost, paid twice, explained and wrong. And its plan: what it draws."""

from __future__ import annotations

import hashlib
import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.uri import S3Uri
from benchmarks.fault_campaign import allowance as budget
from benchmarks.fault_campaign import clock
from benchmarks.fault_campaign import verify as judge
from benchmarks.fault_campaign.allowance import Allowance, cap_in
from benchmarks.fault_campaign.journal import Journal
from benchmarks.fault_campaign.phases import PHASES
from benchmarks.fault_campaign.plan import Planner, RunPlan
from benchmarks.fault_campaign.run import LEDGERS, Run

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAME, PID, NOW = "run00001", 77, 1_800_000_000.0
BODY = b"a clip"
DIGEST = hashlib.sha256(BODY).hexdigest()
CLAIM: dict[str, Any] = {"process": {"pid": PID}, "claimed_at": "2027-01-15T08:00:00+00:00"}


def run_of(unknown: Any) -> Run:
    return Run(RunPlan(NAME, unknown=unknown), returned=[{"sha256": DIGEST}])


(RESULT,) = run_of("fail").results


def job(number: int, submission: int = 1, *, status: str = "success", faults: tuple[str, ...] = ()) -> dict[str, Any]:
    track_id = RESULT.submission(submission)
    return {"id": number, "track_id": track_id, "status": status, "faults": list(faults), "accepted_at": NOW}


class Case:
    """One run's traces, to be looked at."""

    def __init__(self, s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(judge, "BUCKET", bucket)
        monkeypatch.setattr(judge, "LEDGERS", S3Uri(bucket, LEDGERS.key))
        self.s3, self.bucket = s3, bucket
        self.run = run_of("resubmit")
        self.journal: list[dict[str, Any]] = []

    def land(self, job_id: int, body: bytes = BODY) -> None:
        sidecar = {"sha256": DIGEST, "bytes": len(BODY), "job_id": str(job_id)}
        self.s3.put_object(Bucket=self.bucket, Key=RESULT.key, Body=body)
        self.s3.put_object(Bucket=self.bucket, Key=f"{RESULT.key}.json", Body=json.dumps(sidecar).encode())

    def entries(self, **entries: dict[str, Any]) -> None:
        for name, entry in entries.items():
            S3LedgerStore(self.s3, judge.ledger_of(RESULT)).create(name.removeprefix("_").replace("_", "-"), entry)

    def happened(self, *events: str, status: int = 0, **more: Any) -> None:
        by = {"run": NAME, "pid": PID, "at": NOW, "ledger": judge.ledger_of(RESULT).key, "submission": 1}
        self.journal += [{"event": event, **by, **more} for event in events]
        self.journal.append({"event": "ended", "run": NAME, "pid": PID, "at": NOW, "status": status})

    def findings(self, *jobs: dict[str, Any]) -> judge.Findings:
        return judge.verify([self.run], {"jobs": list(jobs)}, self.s3, self.journal, lambda _: BODY)

    def reason(self, *jobs: dict[str, Any]) -> str | None:
        """Why the last job was paid for; ``None`` when nothing explains it."""
        found = self.findings(*jobs)
        assert len(found.duplicates) + len(found.second_payments) == 1
        return found.second_payments[0].reason if found.second_payments else None


@pytest.fixture
def case(s3: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Case:
    return Case(s3, bucket, monkeypatch)


def test_paid_once_and_landed_once(case: Case) -> None:
    case.land(7)
    assert case.findings(job(7)) == judge.Findings(paid=1, landed=1)


def test_paid_and_not_landed_is_lost(case: Case) -> None:
    found = case.findings(job(7))
    assert (found.landed, found.lost) == (0, [f"{RESULT.name}: paid as job 7"])


def test_another_object_than_was_made(case: Case) -> None:
    case.land(7, b"cut")
    found = case.findings(job(7))
    assert len(found.wrong) == 2  # neither the sidecar nor what was returned describes it
    assert found.lost == [f"{RESULT.name}: what landed is not what the endpoint made as job 7"]


def test_a_job_that_is_no_runs(case: Case) -> None:
    case.land(7)
    found = case.findings(job(7), {**job(8), "track_id": "of somebody else"})
    assert found.wrong == ["job 8 is no run's: track_id of somebody else"]


def test_one_submission_sent_twice_is_explained_by_nothing(case: Case) -> None:
    case.land(7)
    case.entries(_0001_claim=CLAIM, _0001_unknown={})
    assert case.reason(job(7, faults=("reset_after",)), job(8)) is None


def test_a_second_submission_beside_a_job_whose_id_was_known(case: Case) -> None:
    case.land(8)
    case.entries(_0001_claim=CLAIM, _0001_job={"job_id": "7"})
    case.happened("start", "submit sent", "submit answered", status=-9)
    assert case.reason(job(7), job(8, 2)) is None


@pytest.mark.parametrize(
    ("passed", "status", "because"),
    [
        (("start", "submit sent"), -9, "its process was killed in the phase 'submit sent'"),
        (("start", "submit sent", "submit answered"), -9, "its process was killed in the phase 'submit answered'"),
        (("start", "submit sent", "submit answered", "job recorded"), -9, None),
        (("start", "submit sent"), 0, None),
    ],
)
def test_a_kill_explains_a_second_submission_before_the_id_is_recorded_alone(
    case: Case, passed: tuple[str, ...], status: int, because: str | None
) -> None:
    case.land(8)
    case.entries(_0001_claim=CLAIM)
    case.happened(*passed, status=status)
    reason = case.reason(job(7), job(8, 2))
    assert reason is because is None or (because is not None and because in str(reason))


def test_a_record_that_s3_refused_explains_a_second_submission(case: Case) -> None:
    case.land(8)
    case.entries(_0001_claim=CLAIM)
    case.happened("fault", kind="s3 denied", phase="job put")
    assert "S3 did not take the record of its id: s3 denied" in str(case.reason(job(7), job(8, 2)))


@pytest.mark.parametrize(("seconds", "is_explained"), [(400, True), (100, False)])
def test_a_clock_ahead_of_the_lease_explains_a_second_submission(case: Case, seconds: int, is_explained: bool) -> None:
    case.land(8)
    claimed = datetime.fromisoformat(CLAIM["claimed_at"]).timestamp()
    claims = {"_0001_claim": {**CLAIM, "expires_at": claimed + 310}, "_0002_claim": {**CLAIM, "process": {"pid": 78}}}
    case.entries(**claims, _0001_job={"job_id": "7"})
    case.happened("fault", kind="clock", phase="start", pid=78, seconds=seconds)
    case.happened("claim put", pid=78)
    assert (case.reason(job(7), job(8, 2)) is not None) == is_explained


def test_a_lost_answer_explains_a_second_submission(case: Case) -> None:
    case.land(8)
    case.entries(_0001_claim=CLAIM, _0001_unknown={})
    assert "the answer was lost: malformed" in str(case.reason(job(7, faults=("malformed",)), job(8, 2)))
    assert case.reason(job(7), job(8, 2)) is None


def test_what_a_person_decides_about_is_never_paid_twice(case: Case) -> None:
    case.run = run_of("fail")
    case.land(8)
    case.entries(_0001_claim=CLAIM, _0001_unknown={})
    assert case.reason(job(7, faults=("malformed",)), job(8, 2)) is None


def test_a_second_submission_after_one_that_the_endpoint_failed_or_lost(case: Case) -> None:
    case.land(9)
    case.entries(_0002_claim=CLAIM, _0002_failed={"error": {"code": "job_lost"}})
    found = case.findings(job(7, status="failed"), job(8, 2, faults=("lost_id",)), job(9, 3))
    assert (found.duplicates, len(found.second_payments), found.landed) == ([], 2, 1)


def test_a_plan_is_the_same_for_the_same_seed() -> None:
    first, second, other = Planner(7), Planner(7), Planner(8)
    assert [first.run(number) for number in range(9)] == [second.run(number) for number in range(9)]
    assert [first.run(number) for number in range(9)] != [other.run(number) for number in range(9)]
    plan = first.run(0)
    assert first.process(plan, "execute", 0, paid=False) == second.process(plan, "execute", 0, paid=False)


def test_the_phase_that_was_hit_least_is_hit_next() -> None:
    planner = Planner(7)
    planner.hits.update(dict.fromkeys(set(PHASES) - {"job put"}, 40))
    drawn = [planner.process(RunPlan(f"run{number}"), "execute", 0, paid=False).strike for number in range(100)]
    strikes = [strike.phase for strike in drawn if strike is not None]
    assert strikes.count("job put") > len(strikes) / 2


def budget_of(s3: S3Client, tmp_path: Path, step: int) -> Allowance:
    return Allowance(s3, step, Journal(tmp_path / "journal.jsonl"))


def test_a_cap_is_raised_once_however_many_runs_meet_it(
    s3: S3Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_MODELSLAB_BUDGETS", "{}")
    allowance = budget_of(s3, tmp_path, 8)
    for _ in range(3):
        allowance.reached(8)
    assert (allowance.cap, os.environ["AIRFLOW_VAR_MODELSLAB_BUDGETS"]) == (16, '{"campaign": {"max_jobs": 16}}')


@pytest.mark.parametrize(("late", "over"), [(0, 2), (1, 1), (2, 0)])
def test_jobs_beyond_a_cap_count_until_it_is_raised(
    s3: S3Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int, over: int
) -> None:
    """Of ten jobs with a cap of eight, those that were accepted after the raise are none too many."""
    monkeypatch.setenv("AIRFLOW_VAR_MODELSLAB_BUDGETS", "{}")
    allowance = budget_of(s3, tmp_path, 8)
    allowance.reached(8)
    then = clock.now()
    assert allowance._overspent([then - 60] * (10 - late) + [then + 60] * late) == over


def test_the_cap_that_a_message_names() -> None:
    text = "budget: Budget 'campaign' (max_jobs 40 in total) has no room for another job (1 job); nothing was submitted"
    assert (cap_in(text), cap_in("the job has failed")) == (40, None)


def test_a_job_without_a_reservation_is_wrong(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "LEDGERS", S3Uri(case.bucket, "ledgers"))
    case.land(7)
    case.entries(_0001_claim=CLAIM, _0001_job={"job_id": "7"})
    figures, wrong = budget_of(case.s3, tmp_path, 8).audit([case.run], [job(7)])
    assert (figures["spent"], figures["held"], figures["overspent"]) == (0, 0, 0)
    assert len(wrong) == 2  # it has none, and the sums differ
