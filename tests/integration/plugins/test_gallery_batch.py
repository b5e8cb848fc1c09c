"""What the gallery reads of batches, from real manifests in a real S3 server."""

from __future__ import annotations

import json
import re
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError, StorageConfigurationError
from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
from airflow_provider_modelslab.batch.results.checkpoint import save_batch
from airflow_provider_modelslab.batch.results.outcomes import Outcome, Outcomes, Status
from airflow_provider_modelslab.batch.results.report import write_results
from airflow_provider_modelslab.ledger.model import Fingerprint
from airflow_provider_modelslab.plugins.gallery.batch import COLUMNS, compact, read_batch, retry_lines
from airflow_provider_modelslab.plugins.gallery.data import describe_clip, describe_single, media_of
from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage
from airflow_provider_modelslab.plugins.task_results import TaskResult
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.s3 import refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BUCKET = "gallery-tests"
NAME = "films/restyle_all/manual_1"
OUTPUT = S3Uri(BUCKET, "styled/")
SIGNED = "https://clips.invalid/signed.mp4?X-Amz-Signature=abc"


@pytest.fixture
def store(s3: S3Client) -> GalleryStorage:
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET)
    return GalleryStorage(s3, S3Profile(bucket=BUCKET))


def task(state: str = "success", returned: Any = None, **fields: Any) -> TaskResult:
    """The batch's task instance; its arguments put the results below ``OUTPUT``."""
    return TaskResult(
        dag_id="films",
        run_id="manual_1",
        task_id="restyle_all",
        map_index=-1,
        operator="ModelsLabVideo2VideoBatchOperator",
        state=state,
        try_number=2,
        started_at=None,
        ended_at=None,
        returned=returned,
        fields={"destination": str(OUTPUT), "prompt": "a boat", **fields},
    )


def plan(*more: ClipPlan) -> BatchPlan:
    clips = [
        ClipPlan(
            index, f"s3://{BUCKET}/in/{index}.mp4", {"seed": index}, OUTPUT.child(f"{index}.mp4"),
            Fingerprint(f"{index:064}", None), "mp4",
        )
        for index in range(4)
    ]  # fmt: skip
    return BatchPlan((*clips, *more), {"prompt": "a boat", "model_id": "demo"}, "modelslab_default", OUTPUT)


def outcomes(batch: BatchPlan) -> Outcomes:
    told = Outcomes(batch)
    told.tell(batch.clips[0], Outcome(Status.LANDED, job_id="j0", seed=5, bytes=10, seconds=2.5))
    told.tell(batch.clips[1], Outcome(Status.SKIPPED, job_id="j1", seed=1, bytes=20))
    told.tell(batch.clips[2], Outcome(Status.FAILED, job_id="j2", code="job_failed", message="<b>out of memory</b>"))
    return told


def put_sidecar(s3: S3Client, place: S3Uri, request: dict[str, Any]) -> None:
    body = {"schema_version": 1, "uri": str(place), "request": request, "seed": 5, "sha256": "abc", "bytes": 10}
    s3.put_object(Bucket=place.bucket, Key=f"{place.key}.json", Body=json.dumps(body).encode())


def test_a_finished_batch(store: GalleryStorage) -> None:
    summary = write_results(store.s3, OUTPUT.child("_modelslab/batches"), NAME, outcomes(plan()), seconds=9)
    answer = compact(read_batch(task(returned=summary), store))
    assert answer["columns"] == COLUMNS
    assert answer["heads"] == {"source": f"s3://{BUCKET}/in/", "uri": str(OUTPUT)}
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in answer["rows"]]
    assert [row["status"] for row in rows] == ["landed", "skipped", "failed", "pending"]
    assert [row["source"] for row in rows] == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]
    assert rows[2]["message"] == "<b>out of memory</b>"
    assert answer["summary"]["seconds"] == 9
    assert answer["summary"]["retry"] == summary["retry"]
    assert answer["live"] is False


def test_a_failed_task_returned_nothing_and_its_manifest_is_found(store: GalleryStorage) -> None:
    write_results(store.s3, OUTPUT.child("_modelslab/batches"), NAME, outcomes(plan()))
    view = read_batch(task("failed"), store)
    assert view.summary["failed"] == 1
    assert view.source == f"{OUTPUT}_modelslab/batches/{NAME}.jsonl"


def test_a_batch_on_its_way_shows_its_saved_state(store: GalleryStorage) -> None:
    batch = plan()
    state = {"outcomes": {"0": {"status": "landed", "seed": 5}}, "progress": {}}
    save_batch(store.s3, OUTPUT.child(f"_modelslab/batches/{NAME}.try2.state.json.gz"), batch, state)
    view = read_batch(task("deferred"), store)
    assert view.live
    assert [row["status"] for row in view.rows.values()] == ["landed", "pending", "pending", "pending"]
    assert view.common["model_id"] == "demo"
    lines, left_out = retry_lines(view, store)
    assert left_out == 0
    assert lines[0] == {"init_video": f"s3://{BUCKET}/in/1.mp4", "seed": 1, "destination": f"{OUTPUT}1.mp4"}


@pytest.mark.parametrize("state", ["running", "deferred", "up_for_retry"])
def test_what_landed_since_the_checkpoint_is_no_longer_pending(store: GalleryStorage, state: str) -> None:
    """A killed try leaves a checkpoint that is a minute old, and clips that nobody should be asked to make again."""
    batch, began = plan(), time.time() - 60
    saved = {"outcomes": {"0": {"status": "landed", "seed": 5}}, "progress": {}, "started": began}
    save_batch(store.s3, OUTPUT.child(f"_modelslab/batches/{NAME}.try2.state.json.gz"), batch, saved)
    store.s3.put_object(Bucket=BUCKET, Key=OUTPUT.child("2.mp4").key, Body=b"result")
    view = read_batch(task(state), store)
    assert [row["status"] for row in view.rows.values()] == ["landed", "pending", "landed", "pending"]
    assert view.summary["landed"] == 2
    assert view.rows[2]["bytes"] == 6
    # What was there before the try began may be another request's.
    saved["started"] = time.time() + 60
    save_batch(store.s3, OUTPUT.child(f"_modelslab/batches/{NAME}.try2.state.json.gz"), batch, saved)
    assert [row["status"] for row in read_batch(task(state), store).rows.values()].count("landed") == 1
    with refusing(store.s3, "ListObjectsV2", 403, "AccessDenied"):
        assert len(read_batch(task(state), store).rows) == 4


def test_each_iteration_of_a_loop_shows_its_own_batch(store: GalleryStorage) -> None:
    """Airflow 3.4: all iterations have the same Dag, run, task and map index."""
    folder = OUTPUT.child("_modelslab/batches")
    write_results(store.s3, folder, NAME, outcomes(plan()))  # as outside a loop
    write_results(store.s3, folder, f"{NAME}/loop0", outcomes(plan()))
    save_batch(store.s3, folder.child(f"{NAME}/loop1.try2.state.json.gz"), plan(), {"outcomes": {}})
    first, second = (replace(task(state), loop_index=index) for index, state in ((0, "failed"), (1, "deferred")))
    assert read_batch(first, store).source == f"{folder}/{NAME}/loop0.jsonl"
    assert read_batch(second, store).source == f"{folder}/{NAME}/loop1.try2.state.json.gz"


@pytest.mark.parametrize("bucket", [BUCKET, "of-somebody-else"])
def test_another_manifest_than_the_tasks_own_is_refused(store: GalleryStorage, bucket: str) -> None:
    """Not even one with the task's name: in another bucket it may have been written by whoever edited the XCom."""
    name = "other/task/run" if bucket == BUCKET else NAME
    secret = f"s3://{bucket}/styled/_modelslab/batches/{name}.jsonl"
    with pytest.raises(StorageConfigurationError, match=re.escape(secret)):
        read_batch(task(returned={"schema_version": 1, "found": 1, "manifest": secret}), store)


def test_the_list_of_what_failed_is_the_batchs_own(store: GalleryStorage) -> None:
    signed = ClipPlan(4, SIGNED, {}, OUTPUT.child("4.mp4"), Fingerprint("4" * 64, None), "mp4")
    batch = plan(signed)
    told = outcomes(batch)
    told.tell(signed, Outcome(Status.FAILED, code="job_failed", message="no"))
    summary = write_results(store.s3, OUTPUT.child("_modelslab/batches"), NAME, told)
    view = read_batch(task(returned=summary), store)
    lines, left_out = retry_lines(view, store)
    stored = store.s3.get_object(Bucket=BUCKET, Key=S3Uri.parse(summary["retry"]).key)["Body"].read()
    assert lines == [json.loads(line) for line in stored.splitlines()]
    assert left_out == 1  # its link was signed
    assert "X-Amz" not in json.dumps([lines, compact(view)])


def test_chosen_clips_that_landed_come_with_their_whole_request(store: GalleryStorage) -> None:
    summary = write_results(store.s3, OUTPUT.child("_modelslab/batches"), NAME, outcomes(plan()))
    view = read_batch(task(returned=summary), store)
    put_sidecar(store.s3, OUTPUT.child("0.mp4"), {"prompt": "a boat", "seed": 5, "fps": None, "track_id": "x"})
    lines, left_out = retry_lines(view, store, [0, 1])
    assert lines == [
        {"prompt": "a boat", "seed": 5, "init_video": f"s3://{BUCKET}/in/0.mp4", "destination": f"{OUTPUT}0.mp4"}
    ]
    assert left_out == 1  # without a sidecar nobody knows what it was
    with pytest.raises(InvalidRequestError, match="no clip 77"):
        retry_lines(view, store, [77])


def test_one_clip_of_a_batch(store: GalleryStorage) -> None:
    summary = write_results(store.s3, OUTPUT.child("_modelslab/batches"), NAME, outcomes(plan()))
    view = read_batch(task(returned=summary), store)
    put_sidecar(store.s3, OUTPUT.child("0.mp4"), {"prompt": "a boat", "strength": 0.4})
    landed, failed = (describe_clip(store, view.rows[index], view.common) for index in (0, 2))
    assert landed["request"] == {"prompt": "a boat", "strength": 0.4, "init_video": f"s3://{BUCKET}/in/0.mp4"}
    assert landed["result"]["sidecar_uri"] == f"{OUTPUT}0.mp4.json"
    assert failed["result"] is None
    assert failed["error"] == {"code": "job_failed", "message": "<b>out of memory</b>", "job_id": "j2"}


def test_a_file_is_read_again_only_when_it_changed(store: GalleryStorage) -> None:
    place = OUTPUT.child("_modelslab/batches")
    summary = write_results(store.s3, place, NAME, outcomes(plan()))
    first = read_batch(task(returned=summary), store)
    assert read_batch(task(returned=summary), store).rows is first.rows
    write_results(store.s3, place, NAME, Outcomes(plan()))
    assert read_batch(task(returned=summary), store).version != first.version


def test_links_are_given_out_again_until_they_are_old(store: GalleryStorage) -> None:
    uri = OUTPUT.child("0.mp4")
    link = store.link(uri)
    assert store.link(uri) == link
    assert "X-Amz-Signature" in link
    assert "X-Amz-Expires=3600" in link
    store.link(uri, renew=True)
    assert store.link(OUTPUT.child("1.mp4")) != link


def test_an_xcom_alone_signs_nothing(store: GalleryStorage) -> None:
    """Whoever can edit an XCom could name any object, and put a sidecar beside one in a bucket of his own."""
    own, payroll = OUTPUT.child(f"{NAME}.mp4"), S3Uri(BUCKET, "payroll.mp4")
    for place in (own, payroll):
        put_sidecar(store.s3, place, {"init_video": f"s3://{BUCKET}/in/9.mp4"})

    def made(place: S3Uri) -> TaskResult:
        manifest = {"schema_version": 1, "status": "landed", "job_id": "1", "uri": str(place)}
        return task(returned=manifest, init_video=f"s3://{BUCKET}/in/0.mp4")

    forged = describe_single(made(payroll), store)
    assert (len(forged["notes"]), forged["verified"]) == (1, False)
    assert "9.mp4" not in json.dumps(forged)
    assert set(media_of(made(payroll), forged)) == {"source"}
    single = describe_single(made(own), store)
    assert not single["notes"]
    assert {side: media.where for side, media in media_of(made(own), single).items()} == {
        "result": str(own),
        "source": f"s3://{BUCKET}/in/9.mp4",
    }
    store.s3.delete_object(Bucket=BUCKET, Key=f"{own.key}.json")
    bare = describe_single(made(own), store)
    assert (len(bare["notes"]), bare["verified"]) == (1, False)
    assert set(media_of(made(own), bare)) == {"source"}
    submitted = {
        "schema_version": 1,
        "status": "submitted",
        "job_id": "1",
        "request": {"init_video": "s3://other/x.mp4"},
    }
    waiting = task(returned=submitted)
    assert media_of(waiting, describe_single(waiting, store)) == {}


def test_what_cannot_be_read_is_told(store: GalleryStorage) -> None:
    manifest: dict[str, Any] = {"schema_version": 1, "status": "landed", "job_id": "1", "uri": f"{OUTPUT}{NAME}.mp4"}
    put_sidecar(store.s3, S3Uri.parse(manifest["uri"]), {})  # what is not there counts as missing
    with refusing(store.s3, "GetObject", 403, "AccessDenied"):
        single = describe_single(task(returned=manifest), store)
    assert "s3:GetObject" in single["notes"][0]
    assert single["result"]["uri"] == f"{OUTPUT}{NAME}.mp4"
