"""One budget for four tasks whose processes are killed: never more jobs than it allows, and none of them lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.budget.log import S3BudgetLog
from airflow_provider_modelslab.budget.model import BudgetState
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.kills.moments import Strike
from tests.support.kills.processes import Outcome, Process, Processes, soon
from tests.support.kills.vendor import Vendor
from tests.support.s3 import keys_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

CLIPS, TASKS, CAP = 24, 4, 10


def test_four_tasks_killed_twice_submit_what_the_budget_allows(
    processes: Processes,
    vendor: Vendor,
    task: dict[str, Any],
    fill: Callable[[int], list[str]],
    s3: S3Client,
    bucket: str,
) -> None:
    names = fill(CLIPS)

    def start(number: int, *, cap: int, strike: Strike | None = None, **more: Any) -> Process:
        clips = [f"s3://{bucket}/in/{name}" for name in names[number::TASKS]]
        given = {
            **task,
            "source": clips,
            "key_template": "{stem}.{ext}",
            "budget": "shared",
            "deferrable": False,
        }
        return processes.start(
            "execute",
            strike=strike,
            surely=strike is not None,
            environment={"AIRFLOW_VAR_MODELSLAB_BUDGETS": json.dumps({"shared": {"max_jobs": cap}})},
            operator="batch",
            task={**given, **more.pop("task", {})},
            run_id=f"{bucket}-task{number}",
            max_tries=60,
            conf={},
            **more,
        )

    def billed() -> int:
        return sum(bucket in str(job["track_id"]) for job in vendor.jobs())

    def state() -> BudgetState:
        (folder,) = {key.rpartition("/")[0] for key in keys_of(s3, bucket) if "/budgets/" in key}
        return S3BudgetLog(s3, S3Uri(bucket, folder)).load()[1]

    def ends(*started: Process) -> list[Outcome | None]:
        return [processes.wait(process) for process in started]

    at, strikes = soon(), (Strike("answered", 2), Strike("claimed", 2), None, None)
    first = [start(number, cap=CAP, strike=strike, try_number=1, start_at=at) for number, strike in enumerate(strikes)]
    assert [end is None for end in ends(*first)] == [True, True, False, False]
    retried = ends(*(start(number, cap=CAP, try_number=2) for number in range(TASKS)))
    assert None not in retried
    assert any(end["end"] == "failed" and "shared" in end["text"] for end in retried if end)
    found = state()
    assert (found.total().jobs, found.open) == (CAP, {})
    assert CAP - len(found.held) <= billed() <= CAP  # what is held was sent by a process that was killed, or was not

    # Nobody knows what became of those; here that they may be paid for again. The larger budget does the rest.
    unknown = len(found.held)
    larger = [
        start(number, cap=CLIPS + unknown, try_number=3, task={"on_unknown_submission": "resubmit"})
        for number in range(TASKS)
    ]
    last = ends(*larger)
    assert all(end is not None and end["end"] == "success" for end in last), last
    landed = {key for key in keys_of(s3, bucket) if key.startswith("out/") and key.endswith(".mp4")}
    assert landed == {f"out/{name.rpartition('/')[2]}" for name in names}
    assert CLIPS <= billed() <= CLIPS + unknown
    assert state().total().jobs == CLIPS + unknown
