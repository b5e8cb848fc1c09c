"""One budget for four tasks whose processes are killed: exactly as many jobs as it allows, and none of them lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.budget.log import S3BudgetLog
from airflow_provider_modelslab.budget.model import BudgetState
from airflow_provider_modelslab.ledger.stores import S3LedgerStore
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.kills.moments import Strike
from tests.support.kills.processes import Outcome, Process, Processes, soon
from tests.support.kills.vendor import Vendor
from tests.support.s3 import S3Server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

CLIPS, TASKS, CAP = 200, 4, 50


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vendor]:
    """Many jobs, so they are quick."""
    with Vendor(tmp_path_factory.mktemp("quick-vendor"), seconds=0.05, workers=3) as vendor:
        yield vendor


@pytest.fixture(scope="module")
def processes(vendor: Vendor, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with Processes(tmp_path_factory.mktemp("budget-processes"), vendor.environment(s3_server)) as running:
        yield running


def test_four_tasks_killed_twice_submit_exactly_what_the_budget_allows(
    processes: Processes,
    vendor: Vendor,
    task: dict[str, Any],
    fill: Callable[[int], list[str]],
    s3: S3Client,
    bucket: str,
) -> None:
    names = fill(CLIPS)
    strikes: dict[int, Strike] = {0: Strike("answered", 2), 1: Strike("claimed", 2)}
    answers: dict[str, str] = {}

    def start(number: int, try_number: int, cap: int, strike: Strike | None, at: float) -> Process:
        variables = {"BUDGETS": {"shared": {"max_jobs": cap}}, "SUBMISSIONS": answers}
        given: dict[str, Any] = {
            "source": [f"s3://{bucket}/in/{name}" for name in names[number::TASKS]],
            "key_template": "{stem}.{ext}",
            "budget": "shared",
            "max_in_flight": 10,
            "deferrable": False,
        }
        return processes.start(
            "execute",
            strike=strike,
            surely=strike is not None,
            environment={f"AIRFLOW_VAR_MODELSLAB_{name}": json.dumps(value) for name, value in variables.items()},
            start_at=at,
            operator="batch",
            task={**task, **given},
            run_id=f"{bucket}-task{number}",
            try_number=try_number,
            max_tries=60,
            conf={},
        )

    def run(try_number: int, cap: int = CAP, *, killed: bool = False) -> list[Outcome | None]:
        """One try of each task, all at once; or of those that are killed."""
        at, numbers = soon(), list(strikes) if killed else range(TASKS)
        started = [start(number, try_number, cap, strikes[number] if killed else None, at) for number in numbers]
        return [processes.wait(process) for process in started]

    def billed() -> dict[str, str]:
        jobs = [job for job in vendor.jobs() if bucket in str(job["track_id"])]
        found = {str(job["track_id"]): str(job["id"]) for job in jobs}
        assert len(found) == len(jobs), "no submission was accepted twice"
        return found

    def state() -> BudgetState:
        (folder,) = {key.rpartition("/")[0] for key in _all_keys(s3, bucket) if "/budgets/" in key}
        return S3BudgetLog(s3, S3Uri(bucket, folder)).load()[1]

    assert run(1, killed=True) == [None, None]
    retried = run(2)
    assert None not in retried
    assert any(end["end"] == "failed" and "shared" in end["text"] for end in retried if end)
    found = state()
    assert (found.total().jobs, found.open) == (CAP, {})
    assert len(found.held) >= len(strikes)  # others were under way beside them

    # A person looks them up at the endpoint. One at least was claimed and not sent, so it is free for a submit.
    for slot in found.held.values():
        (claim,) = [
            entry
            for name, entry in S3LedgerStore(s3, S3Uri.parse(slot.ledger)).load().items()
            if name.endswith("claim")
        ]
        answers[claim["name"]] = billed().get(claim["track_id"], "resubmit")
    unsent = list(answers.values()).count("resubmit")
    assert (len(billed()), unsent > 0) == (CAP - unsent, True)
    tries = iter(range(3, 60))
    while len(billed()) < CAP:  # a process looks a reservation up once a minute, and may have done so before the answer
        run(next(tries))
    found = state()
    assert (len(billed()), found.total().jobs, found.open) == (CAP, CAP, {})

    last = run(next(tries), CLIPS)
    assert all(end is not None and end["end"] == "success" for end in last), last
    landed = {key for key in _all_keys(s3, bucket) if key.startswith("out/") and key.endswith(".mp4")}
    assert landed == {f"out/{name.rpartition('/')[2]}" for name in names}
    found = state()
    assert (len(billed()), found.total().jobs, found.open) == (CLIPS, CLIPS, {})


def _all_keys(s3: S3Client, bucket: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return [item["Key"] for page in pages for item in page.get("Contents", [])]
