"""The example Dags in a company's bucket under a real Airflow: SSE-KMS, one prefix, sessions that end in the queue."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.dag_runs import content, require_success, start
from tests.support.endpoint import Caller
from tests.support.gated_endpoint import GatedEndpoint
from tests.support.s3 import keys_of, lines_of
from tests.support.samples import small_mp4
from tests.support.strict_s3 import KMS, Policy, StrictS3, unencrypted
from tests.system.conftest import connect
from tools.stack.whole import LOCAL_KEY, WholeStack

pytestmark = [pytest.mark.system, pytest.mark.slow]

BUCKET = "company"
SESSION_S = 8.0  # the busiest machine sends a request in this time after it was signed
MAIN, BATCH = "modelslab_video2video", "modelslab_batch"
CLIPS = ("a", "b", "c")
SMALL = {"num_frames": 4, "num_inference_steps": 1, "prompt": "a fox"}


@pytest.fixture(scope="module")
def endpoint(stack: WholeStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedEndpoint]:
    trusting = {"REQUESTS_CA_BUNDLE": stack.airflow.env["REQUESTS_CA_BUNDLE"]}
    served = GatedEndpoint(tmp_path_factory.mktemp("gated-strict"), is_reading=True, env=trusting)
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture(scope="module")
def strict(stack: WholeStack, endpoint: GatedEndpoint) -> Iterator[StrictS3]:
    """The bucket, with the connections of the examples leading to it."""
    s3 = stack.s3.client()
    s3.create_bucket(Bucket=BUCKET)
    for name in ("main", *(f"batch/{clip}" for clip in CLIPS)):
        s3.put_object(Bucket=BUCKET, Key=f"team/in/{name}.mp4", Body=small_mp4())
    with StrictS3(stack.s3, Policy(BUCKET, "team/"), session_s=SESSION_S) as strict:
        keys = {"login": strict.access_key, "password": strict.secret_key}
        stack.airflow.set_connection("aws_default", conn_type="aws", **keys, extra=strict.role)
        extra = {
            "bucket": BUCKET,
            "prefix": "team/styled",
            "region": strict.region,
            "endpoint_url": strict.endpoint_url,
            "extra_args": KMS,
        }
        stack.airflow.set_connection(
            "modelslab_default", conn_type="modelslab", password=LOCAL_KEY, host=endpoint.url, extra=extra
        )
        yield strict
    connect(stack)


@pytest.fixture(scope="module")
def runs(stack: WholeStack, strict: StrictS3, endpoint: GatedEndpoint) -> dict[str, str]:
    """Runs that have ended well; the sessions of their first submits ended while all jobs waited in the queue."""
    endpoint.shut()
    given: dict[str, dict[str, Any]] = {
        MAIN: {"clip": f"s3://{BUCKET}/team/in/main.mp4", "width": 64, "height": 64},
        BATCH: {"source": f"s3://{BUCKET}/team/in/batch/", "destination": "batch/", "width": 64, "height": 64},
    }
    started = {dag_id: start(stack, dag_id, {**SMALL, **conf}) for dag_id, conf in given.items()}
    for dag_id, run_id in started.items():
        stack.airflow.wait_for_task(dag_id, run_id, "restyle", "deferred")
    assert {job["status"] for job in bills(endpoint)} <= {"queued", "processing"}
    strict.wait_for_the_end()
    strict.session_s = 3600.0  # the next submits are read in time, however busy the machine is
    endpoint.open()
    for dag_id, run_id in started.items():
        require_success(stack, dag_id, run_id)
    return started


def bills(endpoint: GatedEndpoint) -> list[dict[str, Any]]:
    jobs: list[dict[str, Any]] = Caller(endpoint.url, LOCAL_KEY).bills()["jobs"]
    return jobs


def test_the_main_dag(stack: WholeStack, runs: dict[str, str]) -> None:
    manifest = stack.airflow.xcom(MAIN, runs[MAIN], "restyle")
    assert manifest["uri"].startswith(f"s3://{BUCKET}/team/styled/restyled/")
    video = content(stack, manifest["uri"])
    assert hashlib.sha256(video).hexdigest() == manifest["sha256"]
    assert stack.airflow.xcom(MAIN, runs[MAIN], "use")["bytes"] == len(video)


def test_the_batch_dag(stack: WholeStack, runs: dict[str, str]) -> None:
    summary = stack.airflow.xcom(BATCH, runs[BATCH], "restyle")
    assert (summary["found"], summary["failed"], summary["pending"]) == (len(CLIPS), 0, 0)
    uris = [f"s3://{BUCKET}/team/styled/batch/{clip}.mp4" for clip in CLIPS]
    assert stack.airflow.xcom(BATCH, runs[BATCH], "use") == uris
    for clip in lines_of(stack.s3.client(), summary["manifest"]):
        assert hashlib.sha256(content(stack, clip["uri"])).hexdigest() == clip["sha256"]


def test_all_that_was_written_has_the_headers(stack: WholeStack, strict: StrictS3, runs: dict[str, str]) -> None:
    assert set(runs) == {MAIN, BATCH}
    s3 = stack.s3.client()
    assert unencrypted(s3, BUCKET, but="team/in/") == []
    kinds = {key.rpartition(".")[2] for key in keys_of(s3, BUCKET)}
    assert kinds >= {"mp4", "json", "jsonl"}, "results, sidecars, ledgers and reports"
    assert "HeadBucket" not in {call.operation for call in strict.seen}


def test_each_job_was_submitted_again_with_a_link_of_a_renewed_session(strict: StrictS3, runs: dict[str, str]) -> None:
    assert set(runs) == {MAIN, BATCH}
    refused = strict.refused()
    assert {(call.operation, call.refused) for call in refused} == {("GetObject", "ExpiredToken")}
    links = [call for call in strict.seen if "authorization" not in call.headers]
    assert all(call in links for call in refused), "the endpoint's reads alone"
    ended = {call.key: call.access_key for call in refused}
    renewed = {call.key: call.access_key for call in links if not call.refused}
    assert set(ended) == set(renewed) == {"team/in/main.mp4", *(f"team/in/batch/{clip}.mp4" for clip in CLIPS)}
    assert all(renewed[key] != ended[key] for key in ended)


def test_nothing_was_paid_twice(endpoint: GatedEndpoint, runs: dict[str, str]) -> None:
    """A job that failed over its link is the reason for the next one; a good job is the last of its result."""
    assert set(runs) == {MAIN, BATCH}
    jobs: dict[str, list[str]] = defaultdict(list)
    for job in bills(endpoint):
        jobs[job["track_id"].rpartition("/submission")[0]].append(job["status"])
    assert len(jobs) == 1 + len(CLIPS)
    for statuses in jobs.values():
        assert Counter(statuses)["success"] == 1
        assert statuses[:-1] == ["failed"] * (len(statuses) - 1)
        assert statuses[-1] == "success"
        assert len(statuses) >= 2
