"""The memory of what landed, in a real S3: right or silent, whatever happens to it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_modelslab.batch.planning.plan import BatchPlan, ClipPlan
from airflow_provider_modelslab.batch.results import index as index_module
from airflow_provider_modelslab.batch.results.index import LandedIndex
from airflow_provider_modelslab.storage.uri import S3Uri
from tests.integration.batch.conftest import Put, counted, planned
from tests.support.s3 import keys_of, listening, refusing

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.slow

INDEX = "_modelslab/ledger/index/"


@pytest.fixture
def plan(s3: S3Client, bucket: str, put: Put) -> BatchPlan:
    put(*(f"in/{name}.mp4" for name in "abcd"))
    return planned(s3, bucket)


def land(s3: S3Client, clip: ClipPlan, body: bytes = b"result") -> dict[str, Any]:
    where = clip.destination
    etag = s3.put_object(Bucket=where.bucket, Key=where.key, Body=body)["ETag"].strip('"')
    return {"uri": str(where), "bytes": len(body), "etag": etag, "sha256": "ab", "job_id": "7", "seed": 3}


def index_of(s3: S3Client, plan: BatchPlan, **options: Any) -> LandedIndex:
    return LandedIndex(s3, S3Uri(plan.output.bucket, "_modelslab/ledger"), plan.output, **options)


def segments(s3: S3Client, bucket: str) -> list[str]:
    return [key for key in keys_of(s3, bucket) if key.startswith(INDEX)]


def test_what_landed_is_found_and_nothing_else(s3: S3Client, plan: BatchPlan) -> None:
    a, b, c, _ = plan.clips
    index = index_of(s3, plan)
    for clip in (a, b):
        index.add(clip, land(s3, clip))
    land(s3, c)  # crashed before it was written down
    assert index_of(s3, plan).find(plan) == {}
    index.close()
    found = index_of(s3, plan).find(plan)
    assert sorted(found) == [0, 1]
    assert found[0].manifest() | {"etag": None} == {
        "uri": str(a.destination), "bytes": 6, "etag": None, "sha256": "ab", "job_id": "7", "seed": 3,
    }  # fmt: skip


@pytest.mark.parametrize(("at_once", "listings"), [(1, 4), (2, 2), (3, 2), (4, 1)])
def test_many_results_are_listed_in_parts(
    s3: S3Client, bucket: str, plan: BatchPlan, monkeypatch: pytest.MonkeyPatch, at_once: int, listings: int
) -> None:
    monkeypatch.setattr(index_module, "_LISTED_AT_ONCE", at_once)
    index = index_of(s3, plan)
    for clip in plan:
        index.add(clip, land(s3, clip))
        s3.put_object(Bucket=bucket, Key=f"{clip.destination.key}.json", Body=b"{}")
    index.close()
    gone = plan.clips[2].destination
    s3.delete_object(Bucket=gone.bucket, Key=gone.key)
    asked: list[str | None] = []
    with listening(
        s3, "provide-client-params.s3.ListObjectsV2", lambda params, **_: asked.append(params.get("StartAfter"))
    ):
        assert sorted(index_of(s3, plan).find(plan)) == [0, 1, 3]
    assert len(set(asked)) == listings  # with None of the first part, and of the segments


def test_a_part_that_cannot_be_listed_is_left_out(
    s3: S3Client, plan: BatchPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_module, "_LISTED_AT_ONCE", 2)
    index = index_of(s3, plan)
    for clip in plan:
        index.add(clip, land(s3, clip))
    index.close()
    again = index_of(s3, plan)
    known = again.known(plan)
    with refusing(s3, "ListObjectsV2", 403, "AccessDenied", times=1):
        assert len(again.find(plan, known)) == 2


def test_a_result_that_is_gone_or_another_is_not_found(s3: S3Client, plan: BatchPlan) -> None:
    a, b, c, d = plan.clips
    index = index_of(s3, plan)
    for clip in plan:
        index.add(clip, land(s3, clip))
    index.close()
    s3.delete_object(Bucket=a.destination.bucket, Key=a.destination.key)
    land(s3, b, b"another size")
    land(s3, c, b"RESULT")
    assert list(index_of(s3, plan).find(plan)) == [d.index]


def test_without_an_etag_the_size_is_compared(s3: S3Client, plan: BatchPlan) -> None:
    a, b, *_ = plan.clips
    index = index_of(s3, plan)
    for clip in (a, b):
        index.add(clip, land(s3, clip) | {"etag": None})
    index.close()
    land(s3, b, b"another size")
    assert list(index_of(s3, plan).find(plan)) == [0]


def test_another_request_or_another_clip_is_not_found(s3: S3Client, bucket: str, plan: BatchPlan, put: Put) -> None:
    index = index_of(s3, plan)
    for clip in plan:
        index.add(clip, land(s3, clip))
    index.close()
    put("in/a.mp4", body=b"a new clip under the old name")
    changed = planned(s3, bucket)
    assert sorted(index_of(s3, changed).find(changed)) == [1, 2, 3]
    other = planned(s3, bucket, conn_id="other")
    assert index_of(s3, other).find(other) == {}


def test_the_newest_counts(s3: S3Client, bucket: str, plan: BatchPlan) -> None:
    a = plan.clips[0]
    for number, body in enumerate((b"one", b"three", b"seven77")):
        index = index_of(s3, plan, clock=lambda number=number: 1000.0 + number)
        index.add(a, land(s3, a, body))
        index.close()
    found = index_of(s3, plan).find(plan)
    assert (found[0].bytes, len(segments(s3, bucket))) == (7, 3)


def test_a_segment_is_written_every_so_many_results_and_every_so_often(
    s3: S3Client, bucket: str, plan: BatchPlan
) -> None:
    now = [1000.0]
    index = index_of(s3, plan, every=2, seconds=60.0, clock=lambda: now[0])
    a, b, c, d = plan.clips
    counts = []
    for clip, pause in ((a, 1), (b, 1), (c, 61), (d, 1)):
        now[0] += pause
        index.add(clip, land(s3, clip))
        written(index)
        counts.append(len(segments(s3, bucket)))
    assert counts == [0, 1, 2, 2]
    index.close()
    assert len(segments(s3, bucket)) == 3


def written(index: LandedIndex) -> None:
    """Wait until the segment that is being written is there."""
    if index._writing is not None:
        index._writing.result(60)


def test_results_are_noted_while_the_store_stalls(s3: S3Client, bucket: str, plan: BatchPlan) -> None:
    a, b, c, d = plan.clips
    manifests = [land(s3, clip) for clip in plan]
    begun, goes_on = threading.Event(), threading.Event()

    def stall(**_: Any) -> None:
        begun.set()
        assert goes_on.wait(60)

    index = index_of(s3, plan, every=1)
    with listening(s3, "before-call.s3.PutObject", stall):
        for clip, manifest in zip((a, b, c), manifests, strict=False):
            index.add(clip, manifest)
            assert begun.wait(60)
        assert segments(s3, bucket) == []
        goes_on.set()
        written(index)
        assert sorted(index_of(s3, plan).find(plan)) == [a.index]
        index.add(d, manifests[3])  # those that came meanwhile go with it
        index.flush()
    assert sorted(index_of(s3, plan).find(plan)) == [0, 1, 2, 3]
    assert len(segments(s3, bucket)) == 2


def test_the_end_waits_for_the_segment_that_is_being_written(s3: S3Client, bucket: str, plan: BatchPlan) -> None:
    a, b, *_ = plan.clips
    manifests = [land(s3, clip) for clip in (a, b)]
    goes_on = threading.Event()
    index = index_of(s3, plan, every=1)

    def stall(**_: Any) -> None:
        assert goes_on.wait(60)

    with (
        listening(s3, "before-call.s3.PutObject", stall),
        ThreadPoolExecutor(1) as pool,
    ):
        index.add(a, manifests[0])
        index.add(b, manifests[1])
        closing = pool.submit(index.close)
        with pytest.raises(TimeoutError):
            closing.result(0.2)
        goes_on.set()
        closing.result(60)
    assert sorted(index_of(s3, plan).find(plan)) == [0, 1]


@pytest.mark.parametrize("at", ["add", "flush", "close"])
def test_a_defect_in_a_write_is_raised(s3: S3Client, plan: BatchPlan, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    a, b, *_ = plan.clips
    manifests = [land(s3, clip) for clip in (a, b)]
    index = index_of(s3, plan, every=1)

    def broken(*_: object) -> None:
        raise KeyError("a defect")

    monkeypatch.setattr("airflow_provider_modelslab.batch.results.index.pack", broken)
    index.add(a, manifests[0])
    with pytest.raises(KeyError):
        written(index)
    calls = {"add": lambda: index.add(b, manifests[1]), "flush": index.flush, "close": index.close}
    with pytest.raises(KeyError):
        calls[at]()


def test_many_segments_become_one(s3: S3Client, bucket: str, plan: BatchPlan) -> None:
    manifests = [land(s3, clip) for clip in plan]
    for run in range(8):
        index = index_of(s3, plan, clock=lambda run=run: 1000.0 + run)
        index.add(plan.clips[run % 4], manifests[run % 4])
        index.close()
    (whole,) = segments(s3, bucket)
    assert whole.endswith("-whole.jsonl.gz")
    with counted(s3) as called:
        assert sorted(index_of(s3, plan).find(plan)) == [0, 1, 2, 3]
    assert called == ["ListObjectsV2", "GetObject", "ListObjectsV2"]


def test_where_nothing_may_be_deleted_it_still_holds_and_is_not_joined_each_time(
    s3: S3Client, bucket: str, plan: BatchPlan
) -> None:
    manifests = [land(s3, clip) for clip in plan]
    with refusing(s3, "DeleteObject", 403, "AccessDenied"):
        for run in range(10):
            index = index_of(s3, plan, clock=lambda run=run: 1000.0 + run)
            index.add(plan.clips[run % 4], manifests[run % 4])
            index.close()
    assert len(segments(s3, bucket)) == 11
    assert sorted(index_of(s3, plan).find(plan)) == [0, 1, 2, 3]


def test_a_segment_that_cannot_be_read_is_passed_over(
    s3: S3Client, bucket: str, plan: BatchPlan, caplog: pytest.LogCaptureFixture
) -> None:
    index = index_of(s3, plan)
    index.add(plan.clips[0], land(s3, plan.clips[0]))
    index.close()
    place = segments(s3, bucket)[0].rpartition("/")[0]
    s3.put_object(Bucket=bucket, Key=f"{place}/0-broken.jsonl.gz", Body=b"no gzip")
    assert list(index_of(s3, plan).find(plan)) == [0]
    assert "0-broken.jsonl.gz is ignored: it is not an index" in caplog.text


@pytest.mark.parametrize("operation", ["ListObjectsV2", "GetObject", "PutObject"])
def test_a_store_that_refuses_costs_the_saving_and_nothing_else(
    s3: S3Client, plan: BatchPlan, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    index = index_of(s3, plan)
    manifest = land(s3, plan.clips[0])
    index.add(plan.clips[0], manifest)
    if operation != "PutObject":
        index.flush()
    with refusing(s3, operation, 403, "AccessDenied"):
        assert index_of(s3, plan).find(plan) == {}
        index.close()
    assert "AccessDenied" in caplog.text


def test_a_prefix_that_holds_far_more_is_not_listed_to_its_end(
    s3: S3Client, bucket: str, plan: BatchPlan, put: Put, small_pages: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_modelslab.batch.results.index.listing_budget", lambda requests: 2 * requests)
    a, *_, d = plan.clips
    index = index_of(s3, plan)
    for clip in (a, d):
        index.add(clip, land(s3, clip))
    index.close()
    put(*(f"out/b{number}" for number in range(9)))
    with counted(s3) as called:
        assert list(index_of(s3, plan).find(plan)) == [0]  # the other one is left to its ledger
    assert called.count("ListObjectsV2") == 3


def test_what_a_rerun_over_many_landed_clips_asks_for(s3: S3Client, bucket: str, put: Put) -> None:
    put(*(f"in/{number:03d}.mp4" for number in range(30)), body=b"clip")
    plan = planned(s3, bucket)
    index = index_of(s3, plan)
    for clip in plan:
        index.add(clip, land(s3, clip))
    index.close()
    with counted(s3) as called:
        assert len(index_of(s3, plan).find(planned(s3, bucket))) == 30
    assert sorted(called) == ["GetObject", "ListObjectsV2", "ListObjectsV2", "ListObjectsV2"]
