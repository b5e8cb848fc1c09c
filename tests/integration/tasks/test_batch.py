"""The batch operator from a prefix to a results manifest, against a real endpoint and a real S3 server over TLS."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import BatchFailedError, InvalidRequestError
from airflow_provider_modelslab.operators.batch import ModelsLabVideo2VideoBatchOperator
from tests.integration.tasks.conftest import FRAMES, Store, WatchedEngine
from tests.support.connections import set_modelslab
from tests.support.endpoint import Caller
from tests.support.s3 import keys_of, lines_of
from tests.support.samples import small_gif, small_mp4
from tests.support.tasks import (
    TaskInstance,
    context_of,
    deferral_of,
    event_of,
    execute,
    in_the_triggerer,
    resume,
    to_the_end,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")

Make = Callable[..., ModelsLabVideo2VideoBatchOperator]
CLIPS = 7


@pytest.fixture
def clips(s3: S3Client, bucket: str) -> list[str]:
    """Clips below ``in/``, in two folders, and what is none."""
    keys = [f"in/cam{i % 2}/clip{i}.mp4" for i in range(CLIPS)]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=small_mp4())
    s3.put_object(Bucket=bucket, Key="in/readme.txt", Body=b"no video")
    s3.put_object(Bucket=bucket, Key="in/empty.mp4", Body=b"")
    return keys


@pytest.fixture
def batch(bucket: str) -> Make:
    def make(**changes: Any) -> ModelsLabVideo2VideoBatchOperator:
        arguments = {
            "model_id": "dark-sushi-mix",
            "prompt": "a fox",
            "source": f"s3://{bucket}/in/",
            "destination": f"s3://{bucket}/out/",
            "num_frames": FRAMES,
            "seed": 11,
            "max_in_flight": 4,
            "poll_interval": 0.02,
            "max_poll_interval": 0.1,
            "timeout": 600,
            **changes,
        }
        return ModelsLabVideo2VideoBatchOperator(task_id="restyle", **arguments)

    return make


def run_id(name: str) -> Any:
    return context_of(TaskInstance(run_id=name))


def test_a_prefix_lands_whole(
    batch: Make, clips: list[str], store: Store, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    summary = execute(batch())
    assert {name: summary[name] for name in ("found", "landed", "skipped", "failed", "pending", "retry")} == {
        "found": CLIPS,
        "landed": CLIPS,
        "skipped": 0,
        "failed": 0,
        "pending": 0,
        "retry": None,
    }
    told = lines_of(store.s3, summary["manifest"])
    assert [line["source"] for line in told] == [f"s3://{bucket}/{key}" for key in sorted(clips)]
    assert [line["uri"] for line in told] == [f"s3://{bucket}/out/{key[3:]}" for key in sorted(clips)]
    for line in told:
        assert store.frames(line["uri"]) == FRAMES
        sidecar = json.loads(store.read(f"{line['uri']}.json"))
        assert (sidecar["sha256"], sidecar["job_id"], sidecar["seed"]) == (line["sha256"], line["job_id"], 11)
        assert sidecar["request"]["init_video"] == line["source"]
    assert len(engine.submitted) == CLIPS
    assert len({request.track_id for request in engine.submitted}) == CLIPS
    assert summary["ignored"] == {"empty": 1, "not matching": 1}


def test_a_rerun_does_only_what_is_missing(
    batch: Make, clips: list[str], engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    execute(batch())
    s3.delete_object(Bucket=bucket, Key="out/cam0/clip2.mp4")
    s3.put_object(Bucket=bucket, Key="in/new.mp4", Body=small_mp4())
    s3.put_object(Bucket=bucket, Key="in/cam1/clip3.mp4", Body=small_mp4(frames=9))  # another clip in its place
    again = execute(batch(), run_id("the next day"))
    assert {name: again[name] for name in ("found", "landed", "skipped")} == {"found": 8, "landed": 3, "skipped": 5}
    assert len(engine.submitted) == CLIPS + 2  # the deleted result is copied once more from the job that was paid for


def test_after_a_sample_the_whole_batch_pays_for_the_rest(
    batch: Make, clips: list[str], engine: WatchedEngine, s3: S3Client
) -> None:
    sample = execute(batch(sample="3", key_template="{index}-{stem}.{ext}"))
    assert (sample["found"], sample["landed"], sample["ignored"]["not in the sample"]) == (3, 3, CLIPS - 3)
    first = execute(batch(limit=1, key_template="{index}-{stem}.{ext}"), run_id("2"))
    assert (first["landed"], first["skipped"], first["ignored"]["beyond the limit"]) == (1, 0, CLIPS - 1)
    whole = execute(batch(key_template="{index}-{stem}.{ext}"), run_id("3"))
    assert (whole["landed"], whole["skipped"]) == (CLIPS - 4, 4)
    assert len(engine.submitted) == CLIPS
    jobs = {line["uri"]: line["job_id"] for line in lines_of(s3, whole["manifest"])}
    made = {line["uri"]: line["job_id"] for line in lines_of(s3, sample["manifest"])}
    assert made.items() <= jobs.items()


@pytest.mark.parametrize("wrong", [{"sample": 0}, {"limit": "many"}, {"sample": 2, "limit": 2}])
def test_a_sample_that_makes_no_sense_is_refused_while_the_dag_is_parsed(batch: Make, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        batch(**wrong)


@pytest.mark.slow
def test_another_prompt_is_another_result(batch: Make, clips: list[str], engine: WatchedEngine) -> None:
    execute(batch())
    assert execute(batch(prompt="a wolf"), run_id("2"))["landed"] == CLIPS
    assert len(engine.submitted) == 2 * CLIPS
    off = execute(batch(prompt="a wolf", reuse="never"), run_id("3"))
    assert (off["landed"], off["skipped"]) == (CLIPS, 0)
    assert len(engine.submitted) == 3 * CLIPS


def test_clips_of_a_manifest_have_attributes_of_their_own(
    batch: Make, clips: list[str], store: Store, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    rows = [
        {"init_video": f"s3://{bucket}/{clips[0]}", "prompt": "a wolf", "seed": 1},
        {"init_video": f"s3://{bucket}/{clips[1]}", "output_type": "gif"},
        {"init_video": f"s3://{bucket}/{clips[2]}", "destination": f"s3://{bucket}/out/here.mp4"},
    ]
    body = "\n".join(json.dumps(row) for row in rows).encode()
    s3.put_object(Bucket=bucket, Key="lists/today.jsonl", Body=body)
    summary = execute(batch(source=f"s3://{bucket}/lists/today.jsonl", key_template="{stem}-{seed}.{ext}"))
    told = [(line["uri"], line["seed"]) for line in lines_of(store.s3, summary["manifest"])]
    assert told == [
        (f"s3://{bucket}/out/clip0-1.mp4", 1),
        (f"s3://{bucket}/out/clip1-11.gif", 11),
        (f"s3://{bucket}/out/here.mp4", 11),
    ]
    assert sorted(request.prompt for request in engine.submitted) == ["a fox", "a fox", "a wolf"]


def test_it_waits_in_the_triggerer_and_refills_the_window(
    batch: Make, clips: list[str], store: Store, engine: WatchedEngine, gate: threading.Event
) -> None:
    def make() -> ModelsLabVideo2VideoBatchOperator:
        return batch(deferrable=True, defer_after=0.2)

    deferred = deferral_of(make())
    assert len(engine.submitted) == 4
    assert deferred.method_name == "execute_complete"
    assert "a-key" not in json.dumps(deferred.trigger.serialize())
    gate.set()
    summary = to_the_end(make, deferred)
    assert (summary["landed"], summary["failed"], summary["pending"]) == (CLIPS, 0, 0)
    assert len(engine.submitted) == len(engine.finished) == CLIPS
    assert len(lines_of(store.s3, summary["manifest"])) == CLIPS


def test_clips_that_moved_away_while_it_waited_still_land(
    batch: Make, clips: list[str], engine: WatchedEngine, gate: threading.Event, s3: S3Client, bucket: str
) -> None:
    def make() -> ModelsLabVideo2VideoBatchOperator:
        return batch(deferrable=True, defer_after=0.2, max_in_flight=CLIPS)

    deferred = deferral_of(make())
    gate.set()
    event = event_of(in_the_triggerer(deferred))
    for key in clips:
        s3.delete_object(Bucket=bucket, Key=key)
    assert resume(make(), deferred, event)["landed"] == CLIPS


def test_a_retry_after_a_kill_goes_on_with_what_is_paid_for(
    batch: Make, clips: list[str], engine: WatchedEngine, gate: threading.Event
) -> None:
    def make() -> ModelsLabVideo2VideoBatchOperator:
        return batch(deferrable=True, defer_after=0.2)

    deferral_of(make())  # and then the task is lost: nobody resumes it
    gate.set()
    second = TaskInstance(try_number=2, max_tries=1)
    summary = execute(batch(), context_of(second))
    assert summary["landed"] == CLIPS
    assert len(engine.submitted) == CLIPS


def test_a_bad_clip_does_not_end_the_batch(
    batch: Make, clips: list[str], store: Store, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="in/cam0/bad.mp4", Body=b"this is no video at all, whatever its name says" * 9)
    with pytest.raises(BatchFailedError, match=r"1 of 8 clips failed \(max_failed: 0\); 7 landed") as raised:
        execute(batch())
    assert "bad.mp4" in str(raised.value)
    assert len(engine.submitted) == CLIPS
    summary = execute(batch(max_failed="20%"), run_id("2"))
    assert (summary["failed"], summary["skipped"]) == (1, CLIPS)
    (again,) = lines_of(store.s3, summary["retry"])
    assert again["init_video"] == f"s3://{bucket}/in/cam0/bad.mp4"
    s3.put_object(Bucket=bucket, Key="in/cam0/bad.mp4", Body=small_mp4())
    retried = execute(batch(source=summary["retry"]), run_id("3"))
    assert (retried["found"], retried["landed"]) == (1, 1)
    assert len(engine.submitted) == CLIPS + 1


def test_an_object_that_s3_does_not_give_is_one_clips_failure(
    batch: Make, clips: list[str], store: Store, engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="in/a-first.mp4", Body=small_mp4(), StorageClass="GLACIER")
    summary = execute(batch(max_failed=1, max_in_flight=1))
    assert (summary["landed"], summary["failed"], summary["pending"]) == (CLIPS, 1, 0)
    assert "restore it first" in summary["errors"][0]["message"]
    assert len(engine.submitted) == CLIPS


def test_everything_wrong_is_told_before_anything_is_submitted(
    batch: Make, clips: list[str], engine: WatchedEngine, s3: S3Client, bucket: str
) -> None:
    rows = [
        {"init_video": f"s3://{bucket}/{clips[0]}", "num_frames": 0},
        {"init_video": f"s3://{bucket}/{clips[1]}", "strength": 3},
        {"init_video": f"s3://{bucket}/{clips[2]}"},
    ]
    with pytest.raises(InvalidRequestError, match="2 problems; nothing was submitted") as raised:
        execute(batch(source=rows))
    assert "item 1: num_frames" in str(raised.value)
    assert "item 2: strength" in str(raised.value)
    assert engine.submitted == []


def test_an_empty_prefix_is_an_empty_batch(batch: Make, store: Store, bucket: str, s3: S3Client) -> None:
    s3.put_object(Bucket=bucket, Key="in/readme.txt", Body=b"no video")
    summary = execute(batch(on_empty="succeed"))
    assert (summary["found"], summary["ignored"]) == (0, {"not matching": 1})
    assert store.read(summary["manifest"]) == b""


def test_a_key_that_is_refused_stops_the_batch(
    batch: Make,
    clips: list[str],
    engine: WatchedEngine,
    endpoint: Caller,
    s3_extra: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_modelslab(monkeypatch, endpoint.url, key="another-key", **s3_extra)
    with pytest.raises(BatchFailedError, match="authentication: ") as raised:
        execute(batch(max_failed=None, max_in_flight=1))
    assert "6 were not reached" in str(raised.value)
    assert "another-key" not in str(raised.value)
    assert engine.submitted == []


def test_the_list_may_come_from_another_task(batch: Make, clips: list[str], bucket: str, store: Store) -> None:
    first = execute(batch())
    second = batch(source=first, destination=f"s3://{bucket}/second/", prompt="a wolf", key_template="{stem}.{ext}")
    summary = execute(second, run_id("2"))
    assert summary["landed"] == CLIPS
    assert [line["source"] for line in lines_of(store.s3, summary["manifest"])] == [
        f"s3://{bucket}/out/{key[3:]}" for key in sorted(clips)
    ]


def test_gifs_are_clips_too(batch: Make, s3: S3Client, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="in/a.gif", Body=small_gif())
    execute(batch())
    assert "out/a.mp4" in keys_of(s3, bucket)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"max_in_flight": 0}, "max_in_flight: "),
        ({"resume_threshold": 0}, "resume_threshold: "),
        ({"max_failed": -1}, "max_failed: must be"),
        ({"key_template": "{nothing}.mp4"}, "key_template: .*{nothing}"),
        ({"timeout": 0}, "timeout: "),
        ({"defer_after": -1}, "defer_after: "),
        ({"strength": 2}, "strength"),
        ({"on_empty": "ignore"}, "on_empty: "),
    ],
)
def test_what_makes_no_sense_fails_while_the_dag_is_parsed(batch: Make, wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        batch(**wrong)
