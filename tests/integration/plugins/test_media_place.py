"""An XCom is a claim: what bears it out, in a real S3 store, and what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mypy_boto3_s3 import S3Client

from airflow_provider_modelslab.plugins.gallery.store import GalleryStorage
from airflow_provider_modelslab.plugins.media.location import What, is_verified
from airflow_provider_modelslab.plugins.task_results import TaskResult
from airflow_provider_modelslab.storage.s3_profile import S3Profile
from airflow_provider_modelslab.storage.uri import S3Uri

BUCKET = "media-place"
THEIRS = "media-place-of-others"
RESULT = f"s3://{BUCKET}/out/dag/task/manual__1.mp4"
SOURCE = f"s3://{BUCKET}/in/clip.mp4"
MANIFEST = f"s3://{BUCKET}/out/_modelslab/batches/dag/task/manual__1.jsonl"
FACTS = {"result": RESULT, "source": SOURCE, "manifest": f"{RESULT}.json"}


@pytest.fixture
def store(s3: S3Client) -> GalleryStorage:
    """Two buckets; in that of others is all that whoever can write there may wish."""
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in {BUCKET, THEIRS} - there:
        s3.create_bucket(Bucket=bucket)
    for bucket in (BUCKET, THEIRS):
        own = RESULT.replace(BUCKET, bucket)
        objects: dict[str, Any] = {
            "out/dag/task/manual__1.mp4": "video",
            "out/dag/task/manual__1.mp4.json": {"schema_version": 1, "uri": own, "request": {"init_video": SOURCE}},
            "in/clip.mp4": "clip",
            "private/payroll.json": {"secret": 1},
            "private/list.json": [1],
            "private/moved.mp4.json": {"schema_version": 1, "uri": own},
            "out/other.mp4.json": {"schema_version": 1, "uri": f"s3://{bucket}/out/other.mp4"},
            "out/_modelslab/batches/dag/task/manual__1.jsonl": {},
        }
        for key, body in objects.items():
            s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(body).encode())
    return GalleryStorage(s3, S3Profile(bucket=BUCKET, prefix="out"))


def task(**fields: Any) -> TaskResult:
    return TaskResult(
        "dag", "manual__1", "task", -1, "ModelsLabVideo2VideoOperator", "success", 1, None, None, None, fields
    )


def verified(store: GalleryStorage, what: What, uri: str, facts: dict[str, str] = FACTS, **fields: Any) -> bool:
    return is_verified(what, S3Uri.parse(uri), task(**fields), facts, store)


def test_a_result_is_where_the_task_writes_and_has_a_sidecar(store: GalleryStorage) -> None:
    assert verified(store, "result", RESULT)
    assert verified(store, "result", f"s3://{BUCKET}/out/other.mp4", destination="other.mp4")
    assert not verified(store, "result", f"s3://{BUCKET}/out/other.mp4")  # another task's
    assert not verified(store, "result", SOURCE)
    assert not verified(store, "result", SOURCE, destination=SOURCE)  # nothing tells of it
    for other in ("private/moved.mp4", "private/payroll.json"):
        assert not verified(store, "result", f"s3://{BUCKET}/{other}", destination=f"s3://{BUCKET}/{other}")


def test_a_clip_is_in_the_sidecar_or_was_asked_for_below_the_prefix(store: GalleryStorage) -> None:
    assert verified(store, "source", SOURCE)
    waiting = {"result": f"s3://{BUCKET}/out/not-there-yet.mp4"}
    below = f"s3://{BUCKET}/out/in/clip.mp4"
    assert verified(store, "source", below, waiting, init_video=below)
    assert verified(store, "source", below, waiting, job={"request": {"init_video": below}})
    assert not verified(store, "source", below, waiting, init_video=f"see {below}")
    assert not verified(store, "source", below, waiting, prompt=below)
    # What a run was told to read may be anything.
    assert not verified(store, "source", SOURCE, waiting, init_video=SOURCE)
    assert not verified(store, "source", SOURCE, waiting, job={"request": {"init_video": SOURCE}})
    assert not verified(store, "source", SOURCE, {})
    assert not verified(store, "source", f"s3://{BUCKET}/private/payroll.json", init_video=SOURCE)


@pytest.mark.parametrize("what", ["manifest", "sidecar"])
def test_a_manifest_is_the_tasks_own_or_the_sidecar_of_its_result(store: GalleryStorage, what: What) -> None:
    assert verified(store, what, MANIFEST)
    assert verified(store, what, f"{RESULT}.json")
    for other in ("private/payroll.json", "private/list.json", "private/moved.mp4.json", "in/clip.mp4"):
        assert not verified(store, what, f"s3://{BUCKET}/{other}")
    assert not verified(store, what, f"s3://{BUCKET}/out/other.mp4.json")  # another task's
    assert not verified(store, what, MANIFEST.replace("manual__1", "manual__2"))
    assert not verified(store, what, MANIFEST.replace("_modelslab/batches/", ""))


def test_a_bucket_in_which_somebody_else_writes_bears_nothing_out(store: GalleryStorage) -> None:
    """Who can edit XComs and write to any bucket that the connection reads could otherwise name every object."""
    result, manifest = (place.replace(BUCKET, THEIRS) for place in (RESULT, MANIFEST))
    assert not verified(store, "result", result)
    assert not verified(store, "source", SOURCE, FACTS | {"result": result})
    assert not verified(store, "manifest", f"{result}.json")
    assert not verified(store, "manifest", manifest)
    # Unless the Dag itself says that this task writes there.
    assert verified(store, "result", result, destination=f"s3://{THEIRS}/out/")
    assert verified(store, "manifest", manifest, destination=f"s3://{THEIRS}/out/")
