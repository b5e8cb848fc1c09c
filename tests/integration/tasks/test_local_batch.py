"""Many clips on this machine: the real pipeline with the tiny model, the real S3, no endpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import BatchFailedError, BatchSupersededError, InvalidRequestError
from airflow_provider_modelslab.local.engine import LocalEngine
from airflow_provider_modelslab.local.media.encode import write_mp4
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from airflow_provider_modelslab.operators.local_batch import LocalVideo2VideoBatchOperator
from tests.integration.tasks.conftest import Store
from tests.support.connections import set_modelslab
from tests.support.s3 import keys_of, lines_of
from tests.support.samples import small_mp4
from tests.support.sounding import grey_frames
from tests.support.tasks import TaskInstance, context_of, execute

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("model_cache")

Make = Callable[..., LocalVideo2VideoBatchOperator]
CLIPS = 4


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The plans that the model was run for, in order."""
    plans: list[Any] = []
    real = LocalEngine.render

    def render(engine: LocalEngine, prepared: Any, **options: Any) -> Any:
        plans.append(prepared.plan)
        return real(engine, prepared, **options)

    monkeypatch.setattr(LocalEngine, "render", render)
    return plans


@pytest.fixture
def batch(
    s3: S3Client, bucket: str, s3_connection: None, s3_extra: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> Make:
    """Makes the operator, for four clips below ``in/``, with a connection that has no key."""
    set_modelslab(monkeypatch, key=None, **s3_extra)
    for number in range(CLIPS):
        s3.put_object(Bucket=bucket, Key=f"in/clip{number}.mp4", Body=small_mp4())

    def make(**changes: Any) -> LocalVideo2VideoBatchOperator:
        return LocalVideo2VideoBatchOperator(task_id="restyle", **arguments(bucket, **changes))

    return make


def arguments(bucket: str, **changes: Any) -> dict[str, Any]:
    return {
        "model_id": "tiny",
        "prompt": "a fox",
        "source": f"s3://{bucket}/in/",
        "destination": f"s3://{bucket}/out/",
        "num_frames": 3,
        "num_inference_steps": 2,
        "width": 32,
        "height": 32,
        "seed": 11,
        "device": "cpu",
        **changes,
    }


@pytest.mark.slow
def test_a_prefix_lands_whole_with_one_load(
    batch: Make, store: Store, rendered: list[Any], capfd: pytest.CaptureFixture[str]
) -> None:
    summary = execute(batch())
    assert {name: summary[name] for name in ("found", "landed", "skipped", "failed", "pending")} == {
        "found": CLIPS,
        "landed": CLIPS,
        "skipped": 0,
        "failed": 0,
        "pending": 0,
    }
    for line in lines_of(store.s3, summary["manifest"]):
        assert store.frames(line["uri"]) == 3
        sidecar = json.loads(store.read(f"{line['uri']}.json"))
        assert (sidecar["sha256"], sidecar["seed"]) == (line["sha256"], 11)
        assert sidecar["request"]["init_video"] == line["source"]
        assert sidecar["meta"]["device"] == "cpu"
    assert len(rendered) == CLIPS
    said = "".join(capfd.readouterr())
    assert "clip0.mp4: step 1 of 1" in said
    assert f"{CLIPS} of {CLIPS} clips (100 %)" in said


@pytest.mark.slow
def test_whole_clips_of_several_lengths(
    batch: Make, store: Store, rendered: list[Any], bucket: str, tmp_path: Path
) -> None:
    for number, frames in enumerate((4, 13)):
        write_mp4(grey_frames(frames), tmp_path / "in.mp4", 10)
        store.s3.upload_file(str(tmp_path / "in.mp4"), bucket, f"whole/clip{number}.mp4")
    given = {"source": f"s3://{bucket}/whole/", "clip_mode": "whole", "num_frames": 8, "strength": 0.5}
    summary = execute(batch(**given, max_failed=1))
    assert (summary["landed"], len(rendered)) == (2, 2)
    assert [store.frames(line["uri"]) for line in lines_of(store.s3, summary["manifest"])] == [4, 13]
    again = execute(batch(**given), context_of(TaskInstance(run_id="tomorrow")))
    assert (again["skipped"], len(rendered)) == (2, 2)
    sampled = execute(batch(**{**given, "clip_mode": "sample"}), context_of(TaskInstance(run_id="later")))
    assert (sampled["landed"], len(rendered)) == (2, 4)


def test_a_rerun_makes_only_what_is_missing(batch: Make, rendered: list[Any], s3: S3Client, bucket: str) -> None:
    execute(batch())
    s3.delete_object(Bucket=bucket, Key="out/clip2.mp4")
    s3.put_object(Bucket=bucket, Key="in/new.mp4", Body=small_mp4())
    rendered.clear()
    summary = execute(batch(), context_of(TaskInstance(run_id="tomorrow")))
    assert (summary["landed"], summary["skipped"]) == (2, CLIPS - 1)
    assert len(rendered) == 2


def test_after_a_sample_the_whole_batch_makes_the_rest(batch: Make, rendered: list[Any]) -> None:
    sample = execute(batch(sample=1, sample_seed="a"))
    assert (sample["found"], sample["landed"], sample["ignored"]) == (1, 1, {"not in the sample": CLIPS - 1})
    whole = execute(batch(), context_of(TaskInstance(run_id="approved")))
    assert (whole["landed"], whole["skipped"]) == (CLIPS - 1, 1)
    assert len(rendered) == CLIPS


@pytest.mark.slow
def test_it_goes_on_after_a_kill_in_the_middle(
    batch: Make, rendered: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = batch()
    real = LocalEngine.render

    def render(engine: LocalEngine, prepared: Any, **options: Any) -> Any:
        if len(rendered) == 2:
            task.on_kill()
        return real(engine, prepared, **options)

    monkeypatch.setattr(LocalEngine, "render", render)
    with pytest.raises(InterruptedError):
        execute(task)
    monkeypatch.setattr(LocalEngine, "render", real)
    summary = execute(batch(), context_of(TaskInstance(try_number=2, max_tries=1)))
    assert (summary["landed"], summary["skipped"]) == (4, 0)  # two of them by the first try


def test_a_kill_between_two_clips_takes_up_no_other(
    batch: Make, rendered: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = batch()
    real = LocalEngine.render

    def render(engine: LocalEngine, prepared: Any, **options: Any) -> Any:
        made = real(engine, prepared, **options)
        task.on_kill()
        return made

    monkeypatch.setattr(LocalEngine, "render", render)
    with pytest.raises(InterruptedError):
        execute(task)
    assert len(rendered) == 1


@pytest.mark.slow
def test_clips_that_share_a_model_come_together(batch: Make, rendered: list[Any], bucket: str) -> None:
    rows = [
        {"init_video": f"s3://{bucket}/in/clip{number}.mp4", "width": 32 if number % 2 else 48}
        for number in range(CLIPS)
    ]
    assert execute(batch(source=rows))["landed"] == CLIPS
    widths = [plan.passes[0].width for plan in rendered]
    assert sorted(widths) in (widths, widths[::-1])


@pytest.mark.slow
def test_a_bad_clip_does_not_end_the_batch(batch: Make, store: Store, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="in/bad.mp4", Body=b"no video at all" * 9)
    with pytest.raises(BatchFailedError, match="1 of 5 clips failed"):
        execute(batch())
    summary = execute(batch(max_failed=1), context_of(TaskInstance(run_id="2")))
    assert (summary["failed"], summary["skipped"]) == (1, CLIPS)
    (line,) = [line for line in lines_of(store.s3, summary["manifest"]) if line["status"] == "failed"]
    assert line["source"].endswith("/in/bad.mp4")
    assert line["code"] == "validation"


def test_what_the_model_cannot_honour_is_told_before_anything_is_made(
    batch: Make, rendered: list[Any], bucket: str
) -> None:
    rows = [
        {"init_video": f"s3://{bucket}/in/clip0.mp4", "motion_loras": ["there-is-none"]},
        {"init_video": f"s3://{bucket}/in/clip1.mp4", "webhook": "https://example.com/hook"},
        {"init_video": f"s3://{bucket}/in/clip2.mp4"},
    ]
    with pytest.raises(InvalidRequestError, match="2 problems") as raised:
        execute(batch(source=rows))
    assert "motion_loras" in str(raised.value)
    assert "webhook" in str(raised.value)
    assert rendered == []


@pytest.mark.slow
def test_a_time_limit_holds_for_each_clip(batch: Make) -> None:
    with pytest.raises(BatchFailedError, match=r"The clip was not done within 1e-06 s"):
        execute(batch(timeout=1e-6))


@pytest.mark.slow
def test_a_dag_switches_by_changing_the_class(batch: Make, bucket: str) -> None:
    remote_only = {
        "deferrable": True,
        "max_in_flight": 5,
        "defer_after": 3.0,
        "resume_threshold": 0.7,
        "poll_interval": 1.0,
    }
    given = arguments(bucket, **remote_only)
    given.pop("device")
    ModelsLabVideo2VideoBatchOperator(task_id="restyle", **given)
    assert execute(batch(**remote_only))["landed"] == CLIPS


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["a fox", "a wolf"])
def test_what_a_later_try_has_landed_meanwhile_stays(
    batch: Make, rendered: list[Any], store: Store, bucket: str, monkeypatch: pytest.MonkeyPatch, prompt: str
) -> None:
    """Airflow had given this one up; while it renders its first clip, the next try makes all of them."""
    monkeypatch.setattr("airflow_provider_modelslab.ledger.listing.LedgerListing._VALID", 0.0)  # as after a minute
    tries = [context_of(TaskInstance(try_number=number, max_tries=1)) for number in (1, 2)]
    real = LocalEngine.render
    landed: list[Any] = []

    def render(engine: LocalEngine, prepared: Any, **options: Any) -> Any:
        made = real(engine, prepared, **options)
        if not landed:
            landed.append(None)
            landed[0] = execute(batch(prompt=prompt), tries[1])
        return made

    monkeypatch.setattr(LocalEngine, "render", render)
    with pytest.raises(BatchSupersededError):
        execute(batch(), tries[0])
    assert landed[0]["landed"] == CLIPS
    assert len(rendered) <= CLIPS + 2, "the clip in hand, and one that had been read ahead"
    for line in lines_of(store.s3, landed[0]["manifest"]):
        assert json.loads(store.read(f"{line['uri']}.json"))["request"]["prompt"] == prompt
    assert not [key for key in keys_of(store.s3, bucket) if "/results/" in key and "/0002-" in key]
