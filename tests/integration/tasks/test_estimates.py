"""The estimate before a batch, and the bill after it, against a real endpoint and a real S3 server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import FRAMES, Restyle, WatchedEngine
from tests.support.connections import set_modelslab
from tests.support.endpoint import Caller
from tests.support.s3 import keys_of, lines_of
from tests.support.shell import Shell
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick")

PRICES = {"currency": "EUR", "per_job": "0.10", "per_frame": "0.01"}  # 0.15 for the five frames of a clip


@pytest.fixture(autouse=True)
def _prices(endpoint: Caller, s3_extra: dict[str, Any], connections: None, monkeypatch: pytest.MonkeyPatch) -> None:
    set_modelslab(monkeypatch, endpoint.url, **s3_extra, prices=PRICES)


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    dag = Dag(s3, bucket, deferrable=False)
    dag.add(*(f"clip{number}" for number in range(6)))
    return dag


def plan_command(airflow: Shell, bucket: str, *words: str) -> dict[str, Any]:
    line = ["plan", f"s3://{bucket}/in/", "--to", f"s3://{bucket}/out/", "--model-id", "dark-sushi-mix"]
    assert airflow(*line, "--prompt", "a fox", "--num-frames", str(FRAMES), *words, "--json") == 0, airflow.err
    found = json.loads(airflow.out)
    return dict(found[0] if isinstance(found, list) else found)


@pytest.mark.slow
def test_the_estimate_before_is_the_bill_after_and_a_rerun_is_free(
    dag: Dag, airflow: Shell, bucket: str, engine: WatchedEngine, s3: S3Client
) -> None:
    before = plan_command(airflow, bucket)
    written = [key for key in keys_of(s3, bucket) if not key.startswith("in/")]
    assert written == ["styled/_modelslab/ledger/conditional-puts.json"]  # found out once for each store
    assert (before["jobs"], before["cost"], before["currency"], before["is_bound"]) == (6, "0.9", "EUR", False)
    summary = execute(dag())
    assert (summary["jobs"], summary["cost"], summary["currency"], summary["saved"]) == (6, "0.9", "EUR", "0")
    assert len(engine.submitted) == 6
    assert {line["cost"] for line in lines_of(s3, summary["manifest"])} == {"0.15"}
    after = plan_command(airflow, bucket)
    assert (after["stored"], after["jobs"], after["cost"]) == (6, 0, None)
    again = execute(dag(), context_of(TaskInstance(run_id="2")))
    assert (again["jobs"], again["cost"], again["saved"]) == (0, "0", "0.9")


def test_the_command_knows_samples(dag: Dag, airflow: Shell, bucket: str) -> None:
    for words in (("--limit", "2"), ("--sample", "2"), ("--sample", "2", "--sample-seed", "a")):
        found = plan_command(airflow, bucket, *words)
        assert (found["clips"], found["jobs"], found["cost"]) == (2, 2, "0.3")
    assert plan_command(airflow, bucket, "--sample", "60")["jobs"] == 6


@pytest.mark.slow
def test_the_ledger_tells_what_is_free(dag: Dag, restyle: Restyle, airflow: Shell, bucket: str, s3: S3Client) -> None:
    """One result of another task, which is in no index, and one job that is paid for and has not landed."""
    common = {"num_frames": FRAMES, "seed": None}
    for number, wait in ((0, True), (1, False)):
        clip, place = f"s3://{bucket}/in/clip{number}.mp4", f"s3://{bucket}/out/clip{number}.mp4"
        execute(restyle(**common, init_video=clip, destination=place, wait_for_completion=wait))
    found = plan_command(airflow, bucket)
    assert {name: found[name] for name in ("clips", "stored", "waiting", "jobs")} == {
        "clips": 6, "stored": 1, "waiting": 1, "jobs": 4,
    }  # fmt: skip
    other = plan_command(airflow, bucket, "--negative-prompt", "rain")
    assert (other["stored"], other["jobs"]) == (0, 6)


def test_the_log_of_a_batch_begins_with_it(dag: Dag, capsys: pytest.CaptureFixture[str]) -> None:
    execute(dag())
    lines = [line for line in capsys.readouterr().out.splitlines() if "jobs to submit" in line]
    assert len(lines) == 1
    assert "6 jobs to submit, estimated cost 0.9 EUR" in lines[0]


def test_the_clips_of_mapped_tasks_have_an_estimate_where_their_request_is_known(
    dag: Dag, bucket: str, engine: WatchedEngine
) -> None:
    def plan_clips(ti: TaskInstance, **request: Any) -> None:
        places: dict[str, Any] = {"source": f"s3://{bucket}/in/", "destination": f"s3://{bucket}/out/"}
        execute(ModelsLabPlanClipsOperator(task_id="clips", **places, **request), context_of(ti))

    known, unknown = TaskInstance(task_id="clips"), TaskInstance(task_id="clips")
    plan_clips(known, model_id="dark-sushi-mix", prompt="a fox", num_frames=FRAMES)
    plan_clips(unknown)
    assert (known.xcoms["estimate"]["jobs"], known.xcoms["estimate"]["cost"]) == (6, "0.9")
    assert "estimate" not in unknown.xcoms
    assert engine.submitted == []
