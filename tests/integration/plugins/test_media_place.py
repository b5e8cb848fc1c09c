"""An XCom is a claim: what bears it out, in a real S3 store, and what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mypy_boto3_s3 import S3Client

from airflow_provider_modelslab.plugins.media_place import What, is_borne_out
from airflow_provider_modelslab.plugins.task_results import TaskResult
from airflow_provider_modelslab.storage.uri import S3Uri

BUCKET = "media-place"
RESULT = f"s3://{BUCKET}/out/a.mp4"
SOURCE = f"s3://{BUCKET}/in/clip.mp4"
MANIFEST = f"s3://{BUCKET}/out/_modelslab/batches/dag/task/manual__1.jsonl"
FACTS = {"result": RESULT, "source": SOURCE, "manifest": f"{RESULT}.json"}


@pytest.fixture
def store(s3: S3Client) -> S3Client:
    if BUCKET not in {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}:
        s3.create_bucket(Bucket=BUCKET)
    sidecar = {"schema_version": 1, "uri": RESULT, "request": {"init_video": SOURCE}}
    objects: dict[str, Any] = {
        "out/a.mp4": "video",
        "out/a.mp4.json": json.dumps(sidecar),
        "in/clip.mp4": "clip",
        "private/payroll.json": json.dumps({"secret": 1}),
        "private/list.json": json.dumps([1]),
        "private/moved.mp4.json": json.dumps(sidecar),  # a copy of a sidecar, beside another object
        "out/_modelslab/batches/dag/task/manual__1.jsonl": "{}",
    }
    for key, body in objects.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=body.encode())
    return s3


def task(**fields: Any) -> TaskResult:
    return TaskResult(
        "dag", "manual__1", "task", -1, "ModelsLabVideo2VideoOperator", "success", 1, None, None, None, fields
    )


def borne_out(store: S3Client, what: What, uri: str, facts: dict[str, str] = FACTS, **fields: Any) -> bool:
    return is_borne_out(what, S3Uri.parse(uri), task(**fields), facts, store)


def test_a_result_has_a_sidecar_that_names_it(store: S3Client) -> None:
    assert borne_out(store, "result", RESULT)
    assert not borne_out(store, "result", SOURCE)
    assert not borne_out(store, "result", f"s3://{BUCKET}/private/moved.mp4")
    assert not borne_out(store, "result", f"s3://{BUCKET}/private/payroll.json")


def test_a_clip_is_in_the_rendered_fields_or_in_the_sidecar(store: S3Client) -> None:
    assert borne_out(store, "source", SOURCE)
    waiting = {"result": f"s3://{BUCKET}/out/not-there-yet.mp4"}
    assert borne_out(store, "source", SOURCE, waiting, init_video=SOURCE)
    assert borne_out(store, "source", SOURCE, waiting, job={"request": {"init_video": SOURCE}})
    assert not borne_out(store, "source", SOURCE, waiting, init_video=f"see {SOURCE}")
    assert not borne_out(store, "source", SOURCE, {})
    assert not borne_out(store, "source", f"s3://{BUCKET}/private/payroll.json", init_video=SOURCE)


@pytest.mark.parametrize("what", ["manifest", "sidecar"])
def test_a_manifest_is_named_after_the_task_or_is_a_sidecar(store: S3Client, what: What) -> None:
    assert borne_out(store, what, MANIFEST)
    assert borne_out(store, what, f"{RESULT}.json")
    for other in ("private/payroll.json", "private/list.json", "private/moved.mp4.json", "in/clip.mp4"):
        assert not borne_out(store, what, f"s3://{BUCKET}/{other}")
    assert not borne_out(store, what, MANIFEST.replace("manual__1", "manual__2"))
    assert not borne_out(store, what, MANIFEST.replace("_modelslab/batches/", ""))
