"""Batches of whole clips, through a real endpoint and S3 server: segments are paid for once, clips are counted."""

from __future__ import annotations

import json
import logging
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG, BaseOperator

from airflow_provider_modelslab.api.errors import BatchFailedError, ErrorCode
from airflow_provider_modelslab.api.redaction import strip_query
from airflow_provider_modelslab.decorators.video2video import modelslab_video2video_batch_task
from airflow_provider_modelslab.jobs.whole_clip.segment_jobs import SegmentOutcomes
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.plan_clips import ModelsLabPlanClipsOperator
from airflow_provider_modelslab.operators.video2video import ModelsLabVideo2VideoOperator
from tests.support.mirror_engine import MirrorEngine
from tests.support.s3 import S3Server, keys_of, lines_of
from tests.support.shell import Shell
from tests.support.sounding import BEEP, beep_time, frame_times, grey_frames, write_sounding
from tests.support.tasks import TaskInstance, context_of, deferral_of, execute, to_the_end

if TYPE_CHECKING:
    from airflow.sdk import Context
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections", "quick")

FPS, FRAMES, OVERLAP = 10, 6, 2
TOTALS = {"a": 10, "b": 14}  # frames of the clips
SEGMENTS = {"a": 2, "b": 3}
JOBS = sum(SEGMENTS.values())
PRICES = {"currency": "EUR", "per_job": "0.10"}

Make = Callable[..., ModelsLabVideo2VideoBatchOperator]


@pytest.fixture
def engine(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> MirrorEngine:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(s3_server.ca_path))
    return MirrorEngine()


@pytest.fixture
def batch(s3: S3Client, bucket: str, tmp_path: Path) -> Make:
    """Makes the operator for a prefix with two clips, as each parse of the Dag does."""
    for step, (name, count) in enumerate(TOTALS.items(), 10):
        path = tmp_path / f"{name}.mp4"
        write_sounding(path, grey_frames(count, step=step), [number / FPS for number in range(count)])
        s3.upload_file(str(path), bucket, f"in/{name}.mp4")

    def make(**changes: Any) -> ModelsLabVideo2VideoBatchOperator:
        return ModelsLabVideo2VideoBatchOperator(task_id="restyle", **arguments(bucket, **changes))

    return make


def arguments(bucket: str, **changes: Any) -> dict[str, Any]:
    return {
        "model_id": "dark-sushi-mix",
        "prompt": "a fox",
        "source": f"s3://{bucket}/in/",
        "destination": f"s3://{bucket}/out/",
        "clip_mode": "whole",
        "num_frames": FRAMES,
        "overlap": OVERLAP,
        "width": 64,
        "height": 48,
        "prices": PRICES,
        "max_in_flight": 4,
        "poll_interval": 0.02,
        "max_poll_interval": 0.1,
        "timeout": 600,
        "retries": 3,
        **changes,
    }


def attempt(number: int, run_id: str = "run 1") -> Context:
    return context_of(TaskInstance(run_id=run_id, try_number=number, max_tries=3))


def counts(summary: dict[str, Any]) -> dict[str, int]:
    return {name: summary[name] for name in ("landed", "skipped", "failed", "pending") if summary[name]}


def require_paid_once(engine: MirrorEngine, jobs: int = JOBS) -> None:
    """So many jobs, each for a segment of its own."""
    assert Counter(strip_query(request.init_video) for request in engine.submitted).most_common(1)[0][1] == 1
    assert len(engine.submitted) == jobs


def require_whole(s3: S3Client, bucket: str, folder: Path) -> None:
    """Both results have all of their frames, and the sound."""
    for name, count in TOTALS.items():
        s3.download_file(bucket, f"out/{name}.mp4", str(folder / "out.mp4"))
        assert frame_times(folder / "out.mp4") == pytest.approx([number / FPS for number in range(count)], abs=1e-3)
        beep = beep_time(folder / "out.mp4")
        assert beep is not None
        assert abs(beep - BEEP) < 0.04


def test_a_prefix_of_whole_clips_lands_with_one_record_for_each_clip(
    batch: Make,
    engine: MirrorEngine,
    s3: S3Client,
    bucket: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    summary = execute(batch(max_segments=5), attempt(1))
    log = capsys.readouterr().out + caplog.text
    require_whole(s3, bucket, tmp_path)
    require_paid_once(engine)
    assert counts(summary) == {"landed": 2}
    assert {name: summary[name] for name in ("jobs", "cost", "currency")} == {
        "jobs": JOBS,
        "cost": "0.5",
        "currency": "EUR",
    }
    lines = lines_of(s3, summary["manifest"])
    assert [len(line["jobs"]) for line in lines] == list(SEGMENTS.values())
    assert [line["cost"] for line in lines] == ["0.2", "0.3"]
    assert len({job for line in lines for job in line["jobs"]}) == JOBS
    assert "at most 10 jobs to submit, estimated cost at most 1 EUR" in log
    assert "3 segments of 6 frames" in log

    again = execute(batch(), attempt(1, "run 2"))
    assert counts(again) == {"skipped": 2}
    assert (again["jobs"], again["saved"]) == (0, "0.5")
    assert [line["jobs"] for line in lines_of(s3, again["manifest"])] == [line["jobs"] for line in lines]
    require_paid_once(engine)


@pytest.mark.slow
def test_a_task_of_one_clip_and_a_batch_find_the_results_of_one_another(
    batch: Make, engine: MirrorEngine, bucket: str
) -> None:
    single = arguments(bucket, destination=f"s3://{bucket}/out/a.mp4", init_video=f"s3://{bucket}/in/a.mp4")
    del single["source"]
    manifest = execute(
        ModelsLabVideo2VideoOperator(task_id="one", **single), context_of(TaskInstance(task_id="one", run_id="run 1"))
    )
    assert counts(execute(batch(), attempt(1))) == {"landed": 1, "skipped": 1}
    require_paid_once(engine)
    one = ModelsLabVideo2VideoOperator(task_id="one", **single, reuse="always")
    assert execute(one, attempt(1, "run 2")) == manifest


def test_a_clip_that_cannot_be_read_counts_once_and_the_others_land(
    batch: Make, engine: MirrorEngine, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="in/0.mp4", Body=b"no video")
    with pytest.raises(BatchFailedError):
        execute(batch(), attempt(1))
    summary = execute(batch(max_failed=1), attempt(2))
    assert (counts(summary), summary["errors"][0]["code"]) == ({"landed": 2, "failed": 1}, ErrorCode.VALIDATION)
    require_paid_once(engine)


def test_a_segment_that_fails_twice_fails_its_clip_alone(batch: Make, engine: MirrorEngine, s3: S3Client) -> None:
    engine.fails = 2
    summary = execute(batch(max_in_flight=1, max_failed=1), attempt(1))
    assert counts(summary) == {"landed": 1, "failed": 1}
    failed, landed = lines_of(s3, summary["manifest"])
    paid = len(engine.submitted) - 1 - SEGMENTS["b"]  # of this clip, without the job that was submitted once more
    assert 1 <= paid <= SEGMENTS["a"]
    assert failed["code"] == ErrorCode.JOB_FAILED
    assert "Segment 1 of 2 (0.00 s to 0.60 s)" in failed["message"]
    assert failed["job_id"] in failed["jobs"]
    assert (len(failed["jobs"]), failed["cost"]) == (paid, f"0.{paid}")
    assert (len(landed["jobs"]), summary["jobs"], summary["cost"]) == (3, 3 + paid, f"0.{3 + paid}")

    assert counts(execute(batch(), attempt(2))) == {"landed": 2}
    assert len(engine.submitted) == 2 + JOBS


def test_a_deferrable_batch_frees_the_worker_and_pays_once(
    batch: Make, engine: MirrorEngine, s3: S3Client, bucket: str, tmp_path: Path
) -> None:
    engine.gate = threading.Event()

    def make() -> ModelsLabVideo2VideoBatchOperator:
        return batch(deferrable=True, defer_after=0.05, max_in_flight=3)

    deferred = deferral_of(make(), attempt(1))
    assert len(engine.submitted) == 3
    engine.gate.set()
    summary = to_the_end(make, deferred, attempt(1))
    assert (counts(summary), summary["jobs"]) == ({"landed": 2}, JOBS)
    require_paid_once(engine)
    require_whole(s3, bucket, tmp_path)


@pytest.mark.slow
def test_a_failed_segment_is_not_paid_for_a_third_time_after_a_deferral(batch: Make, engine: MirrorEngine) -> None:
    engine.gate, engine.fails = threading.Event(), 100

    def make() -> ModelsLabVideo2VideoBatchOperator:
        return batch(deferrable=True, defer_after=0.05, max_in_flight=1, max_failed=1)

    deferred = deferral_of(make(), attempt(1))
    engine.gate.set()
    assert counts(to_the_end(make, deferred, attempt(1))) == {"landed": 1, "failed": 1}
    links = Counter(strip_query(request.init_video) for request in engine.submitted)
    assert sorted(links.values()) in ([1] * 3 + [2], [1] * 4 + [2])


@pytest.mark.parametrize("after", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_a_kill_between_segments_pays_once(
    batch: Make,
    engine: MirrorEngine,
    s3: S3Client,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    landed, count = SegmentOutcomes.landed, 0

    def strike(self: SegmentOutcomes, *given: Any) -> None:
        nonlocal count
        count += 1
        if count > after:
            raise KeyboardInterrupt
        landed(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(SegmentOutcomes, "landed", strike)
        with pytest.raises(KeyboardInterrupt):
            execute(batch(max_in_flight=1), attempt(1))
    assert counts(execute(batch(), attempt(2))) == {"landed": 2}
    require_paid_once(engine)
    require_whole(s3, bucket, tmp_path)


def test_on_kill_ends_the_submits_and_a_retry_goes_on(batch: Make, engine: MirrorEngine) -> None:
    engine.gate = threading.Event()
    task, real = batch(max_in_flight=2), engine.check

    def kill_at_the_second(request: Any) -> None:
        real(request)
        if len(engine.submitted) == 2:
            task.on_kill()

    engine.check = kill_at_the_second  # type: ignore[method-assign]
    with pytest.raises(InterruptedError):
        execute(task, attempt(1))
    engine.gate.set()
    assert counts(execute(batch(), attempt(2))) == {"landed": 2}
    require_paid_once(engine)


def test_a_cap_on_jobs_leaves_clips_pending_with_what_they_cost(
    batch: Make, engine: MirrorEngine, s3: S3Client, bucket: str
) -> None:
    with pytest.raises(BatchFailedError) as failed:
        execute(batch(max_jobs=3, max_in_flight=1), attempt(1))
    assert failed.value.cause == ErrorCode.BUDGET
    require_paid_once(engine, 3)
    place = next(key for key in keys_of(s3, bucket) if "/batches/" in key and not key.endswith(".retry.jsonl"))
    lines = lines_of(s3, f"s3://{bucket}/{place}")
    assert [(line["status"], len(line["jobs"]), line["cost"]) for line in lines] == [
        ("landed", 2, "0.2"),
        ("pending", 1, "0.1"),
    ]
    assert counts(execute(batch(max_jobs=5), attempt(2))) == {"landed": 2}
    require_paid_once(engine)


def test_a_plan_knows_what_a_batch_stored_and_how_many_jobs_the_rest_may_take(
    batch: Make, engine: MirrorEngine, s3: S3Client, bucket: str, airflow: Shell
) -> None:
    words = ["plan", f"s3://{bucket}/in/", "--to", f"s3://{bucket}/out/", "--model-id", "dark-sushi-mix", "--json"]
    words += ["--prompt", "a fox", "--width", "64", "--height", "48", "--num-frames", str(FRAMES)]
    words += ["--clip-mode", "whole", "--overlap", str(OVERLAP), "--max-segments", "5"]
    execute(batch(limit=1), attempt(1))
    assert airflow(*words) == 0, airflow.err
    known = json.loads(airflow.out)
    assert {name: known[name] for name in ("clips", "stored", "jobs", "is_bound")} == {
        "clips": 2,
        "stored": 1,
        "jobs": 5,
        "is_bound": True,
    }
    plan: Any = {"task_id": "plan", "source": f"s3://{bucket}/in/", "destination": f"s3://{bucket}/out/"}
    for name in ("model_id", "prompt", "width", "height", "num_frames", "clip_mode", "overlap"):
        plan[name] = arguments(bucket)[name]
    context = attempt(1)
    assert len(execute(ModelsLabPlanClipsOperator(**plan, max_segments=5), context)) == 2
    assert context["ti"].xcoms["estimate"] == known  # type: ignore[attr-defined]
    require_paid_once(engine, SEGMENTS["a"])


@pytest.mark.parametrize("wrong", [{"fallback": [{"model_id": "m"}]}, {"clip_mode": "sample"}])
def test_what_does_not_go_together_is_refused_when_the_dag_is_parsed(batch: Make, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"fallback|overlap"):
        batch(**wrong)


@pytest.mark.slow
def test_a_function_may_name_the_clips(batch: Make, engine: MirrorEngine, bucket: str) -> None:
    given = arguments(bucket)
    del given["source"], given["prompt"]

    def restyle() -> dict[str, Any]:
        return {"source": [f"s3://{bucket}/in/a.mp4", f"s3://{bucket}/in/b.mp4"], "prompt": "a fox"}

    with DAG("restyling", schedule=None) as dag:
        modelslab_video2video_batch_task(**given)(restyle)()
    task = dag.get_task("restyle")
    assert isinstance(task, BaseOperator)
    assert counts(execute(task, attempt(1))) == {"landed": 2}
    require_paid_once(engine)
