"""A size of other proportions than the clip's: said before it is paid for, wherever a remote job is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import BatchFailedError, InvalidRequestError
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from tests.integration.tasks.batch_dag import Dag
from tests.integration.tasks.conftest import FRAMES, Restyle, WatchedEngine
from tests.support.s3 import lines_of
from tests.support.samples import small_mp4
from tests.support.shell import Shell
from tests.support.tasks import execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick")

WIDE: dict[str, Any] = {"width": 192, "height": 96}  # the clips are squares of 64 pixels
KEPT = "768x768"


@pytest.fixture(params=["link", "object", "file"])
def place(request: pytest.FixtureRequest, clip: str, s3: S3Client, bucket: str, tmp_path: Path) -> str:
    """The clip, in each place where it can be."""
    (tmp_path / "in.mp4").write_bytes(small_mp4())
    s3.put_object(Bucket=bucket, Key="in.mp4", Body=small_mp4())
    places = {"link": clip, "object": f"s3://{bucket}/in.mp4", "file": str(tmp_path / "in.mp4")}
    return places[request.param]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.endswith("jobs.stretch")]


def test_a_task_warns_and_names_the_sizes(
    restyle: Restyle, place: str, bucket: str, engine: WatchedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    place_in_s3 = f"s3://{bucket}/out.mp4"
    execute(restyle(init_video=place, destination=place_in_s3, wait_for_completion=False, **WIDE))
    (said,) = warnings(caplog)
    assert "64x64" in said
    assert KEPT in said
    assert len(engine.submitted) == 1


@pytest.mark.parametrize(
    "changes",
    [{"on_stretch": "ignore"}, {"width": 96, "height": 96}, {"width": None}, {"check_input": False}],
    ids=["ignored", "kept", "no width", "not read"],
)
def test_a_task_says_nothing(
    restyle: Restyle, changes: dict[str, Any], engine: WatchedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    execute(restyle(**{**WIDE, "wait_for_completion": False, **changes}))
    assert warnings(caplog) == []
    assert len(engine.submitted) == 1


def test_a_task_may_fail_before_it_pays(restyle: Restyle, place: str, engine: WatchedEngine) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        execute(restyle(init_video=place, on_stretch="fail", **WIDE))
    assert KEPT in refused.value.fields["width"][0]
    assert engine.submitted == []


def test_a_bad_choice_fails_when_the_dag_is_parsed(restyle: Restyle, s3: S3Client, bucket: str) -> None:
    for make in (lambda: restyle(on_stretch="crop"), lambda: Dag(s3, bucket)(on_stretch="crop")):
        with pytest.raises(InvalidRequestError) as refused:
            make()
        assert list(refused.value.fields) == ["on_stretch"]


@pytest.fixture
def dag(s3: S3Client, bucket: str) -> Dag:
    dag = Dag(s3, bucket, deferrable=False, **WIDE)
    dag.add(*(f"clip{number:02d}" for number in range(3)))
    return dag


def warned(output: str) -> list[str]:
    return [line for line in output.splitlines() if "[warning" in line and KEPT in line]


def test_a_batch_warns_once(dag: Dag, engine: WatchedEngine, capsys: pytest.CaptureFixture[str]) -> None:
    execute(dag())
    (said,) = warned(capsys.readouterr().out)
    assert "3 of the 3 clips" in said
    assert "in/clip00.mp4" in said
    assert len(engine.submitted) == 3
    execute(dag())  # all are stored, and nothing is submitted
    assert warned(capsys.readouterr().out) == []


def test_a_batch_fails_the_clips_that_would_be_stretched(
    dag: Dag, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    s3.put_object(
        Bucket=bucket,
        Key="in/kept.jsonl",
        Body=f'{{"init_video": "s3://{bucket}/in/clip00.mp4"}}\n'
        f'{{"init_video": "s3://{bucket}/in/clip01.mp4", "width": 96, "height": 96}}\n'.encode(),
    )
    task = dag(source=f"s3://{bucket}/in/kept.jsonl", on_stretch="fail", max_failed=1)
    summary = execute(task)
    assert (summary["landed"], summary["failed"]) == (1, 1)
    assert [(request.width, request.height) for request in engine.submitted] == [(96, 96)]
    (failed,) = [line for line in lines_of(s3, summary["manifest"]) if line["status"] == "failed"]
    assert failed["code"] == "validation"
    assert KEPT in failed["message"]
    with pytest.raises(BatchFailedError):
        execute(dag(on_stretch="fail"))
    assert len(engine.submitted) == 1


@pytest.mark.slow
def test_a_large_batch_looks_at_some_of_its_clips(dag: Dag, airflow: Shell, bucket: str, engine: WatchedEngine) -> None:
    dag.add(*(f"clip{number:02d}" for number in range(3, 60)))
    line = ["plan", f"s3://{bucket}/in/", "--to", f"s3://{bucket}/out/", "--model-id", "m", "--prompt", "a fox"]
    assert airflow(*line, "--width", "192", "--height", "96") == 0
    assert "20 of the 20 clips" in airflow.err
    assert KEPT in airflow.err
    assert airflow(*line, "--width", "96", "--height", "96") == 0
    assert "STRETCHED" not in airflow.err
    assert engine.submitted == []


def test_the_plan_of_mapped_tasks_warns_too(dag: Dag, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    common = {"model_id": "m", "prompt": "a fox", "num_frames": FRAMES, **WIDE}
    places = {"source": f"s3://{bucket}/in/", "destination": f"s3://{bucket}/out/"}
    execute(ModelsLabPlanClipsOperator(task_id="clips", **places, **common))
    assert len(warned(capsys.readouterr().out)) == 1


def test_a_whole_clip_is_looked_at_before_it_is_cut(
    restyle: Restyle, bucket: str, engine: WatchedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    task = restyle(clip_mode="whole", destination=f"s3://{bucket}/whole.mp4", on_stretch="fail", **WIDE)
    with pytest.raises(InvalidRequestError) as refused:
        execute(task)
    assert list(refused.value.fields) == ["width"]
    assert engine.submitted == []


def test_the_command_submit_warns(
    airflow: Shell, clip: str, bucket: str, engine: WatchedEngine, caplog: pytest.LogCaptureFixture
) -> None:
    line = ["submit", clip, "--model-id", "m", "--prompt", "a fox", "--to", f"s3://{bucket}/out.mp4"]
    assert airflow(*line, "--width", "192", "--height", "96", "--no-wait", "--yes", "--output", "json") == 0
    assert len(warnings(caplog)) == 1
    assert len(engine.submitted) == 1
