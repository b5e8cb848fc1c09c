"""Push instead of poll: a real Airflow takes the webhooks of a real endpoint, and those of people who mean no good."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from airflow_provider_modelslab.storage.uri import S3Uri
from tests.support.gated_endpoint import GatedEndpoint
from tools.stack.process import wait_until
from tools.stack.whole import WholeStack

pytestmark = [pytest.mark.system, pytest.mark.slow]

CONNECTION = "modelslab_push"
KEY = "the-api-key-of-the-webhook-tests"
TOKEN = "0123456789abcdef-the-token-of-the-webhook-tests"
OLD_TOKEN = "fedcba9876543210-the-token-that-was-used-before"
ASSET = f"x-modelslab://{CONNECTION}/finished"
EXAMPLE = Path(__file__).parents[3] / "dags_examples" / "modelslab_webhook.py"
RECEIVED = (200, {"status": "received"})


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatedEndpoint]:
    served = GatedEndpoint(tmp_path_factory.mktemp("gated"))
    try:
        yield served.start()
    finally:
        served.stop()


@pytest.fixture(scope="module")
def pushed(site: WholeStack, endpoint: GatedEndpoint) -> WholeStack:
    """The site with a connection that has a webhook, and the example Dags on that connection."""
    example = EXAMPLE.read_text()
    assert example.count('CONNECTION = "modelslab_webhook"') == 1
    shutil.copytree(EXAMPLE.parent / "media", site.folder / "dags" / "media", dirs_exist_ok=True)
    (site.folder / "dags" / EXAMPLE.name).write_text(example.replace('"modelslab_webhook"', f'"{CONNECTION}"'))
    extra = {
        "bucket": site.bucket,
        "prefix": "pushed",
        "region": site.s3.region,
        "endpoint_url": site.s3.endpoint_url,
        "webhook_url": site.airflow.url,
        "webhook_token": f"{TOKEN}, {OLD_TOKEN}",
    }
    site.airflow.set_connection(CONNECTION, conn_type="modelslab", password=KEY, host=endpoint.url, extra=extra)
    for dag_id in ("webhook_wait", "modelslab_webhook_submit", "modelslab_webhook_land"):
        site.airflow.wait_for_dag(dag_id)
    return site


Call = Callable[..., tuple[int, Any]]


@pytest.fixture
def call(pushed: WholeStack) -> Call:
    """Call the webhook as anybody on the network can: without any login."""

    def post(body: Any = None, *, token: str = TOKEN, method: str = "POST", raw: Any = None) -> tuple[int, Any]:
        with requests.Session() as session:
            session.trust_env = False
            answer = session.request(
                method,
                f"{pushed.airflow.url}/modelslab/webhook/{token}",
                data=json.dumps(body) if raw is None else raw,
                headers={"Content-Type": "application/json"},
                timeout=60,
            )
        return answer.status_code, answer.json() if answer.content else None

    return post


def events(site: WholeStack) -> list[dict[str, Any]]:
    """The extras of the asset's events, the newest first."""
    assets = site.airflow.call("GET", f"assets?uri_pattern={quote(ASSET)}")["assets"]
    found = site.airflow.asset_events(f"asset_id={assets[0]['id']}&order_by=-timestamp&limit=100")
    return [event["extra"] for event in reversed(found)]


def events_of(site: WholeStack, job_id: str) -> list[dict[str, Any]]:
    return [extra for extra in events(site) if extra.get("job_id") == job_id]


def done(endpoint: GatedEndpoint, **attributes: Any) -> str:
    """A job that is done, and of which nobody has told Airflow."""
    endpoint.open()
    job_id = endpoint.submit(KEY, **attributes)
    wait_until(lambda: endpoint.fetch(KEY, job_id)["status"] == "success", [], what="the job")
    return job_id


def test_a_waiting_task_is_woken(pushed: WholeStack, endpoint: GatedEndpoint) -> None:
    endpoint.shut()
    run_id = pushed.airflow.trigger("webhook_wait")
    pushed.airflow.wait_for_task("webhook_wait", run_id, "restyle", "deferred")
    trigger = pushed.airflow.task("webhook_wait", run_id, "restyle")["trigger"]
    assert "poll_policy" not in json.dumps(trigger)  # Airflow shows no arguments of triggers, so neither does this

    endpoint.open()
    # The trigger would look after eight minutes at the earliest.
    state = pushed.airflow.finish("webhook_wait", run_id, timeout=400)

    assert state == "success", pushed.airflow.task_log("webhook_wait", run_id, "restyle")[-3000:]
    manifest = pushed.airflow.xcom("webhook_wait", run_id, "restyle")
    job_id = manifest["job_id"]
    api_log = pushed.airflow.parts["api-server"].log.read_text()
    assert f"Job {job_id}: woken by webhook: restyle of webhook_wait in {run_id}" in api_log
    place = S3Uri.parse(manifest["uri"])
    assert pushed.s3.client().head_object(Bucket=place.bucket, Key=place.key)["ContentLength"] == manifest["bytes"]
    # The triggerer stops the trigger as it does for a task that a person has marked, and it knows better.
    told = "the job is done. Either a webhook woke the task"
    wait_until(lambda: told in pushed.airflow.task_log("webhook_wait", run_id, "restyle"), [], what="the trigger's end")
    log = pushed.airflow.task_log("webhook_wait", run_id, "restyle")
    assert "The wait for job" in log
    assert "is billed" not in log
    # Once: not by the endpoint's call, and by the trigger too.
    assert log.count("Landed s3://") == 1
    assert [extra["claimed_track_id"] for extra in events_of(pushed, job_id)] == [
        f"webhook_wait.restyle/{run_id}/submission1"
    ]
    # What is kept of the request names the receiver's host at most.
    sidecar = json.loads(pushed.s3.client().get_object(Bucket=place.bucket, Key=f"{place.key}.json")["Body"].read())
    assert sidecar["request"]["webhook"] is None
    assert TOKEN not in json.dumps([sidecar, manifest])


def test_a_dag_is_scheduled_on_a_video_that_is_ready(pushed: WholeStack, endpoint: GatedEndpoint) -> None:
    endpoint.open()
    run_id = pushed.airflow.trigger("modelslab_webhook_submit", {"model_id": "tiny"})
    assert pushed.airflow.finish("modelslab_webhook_submit", run_id) == "success"
    manifest = pushed.airflow.xcom("modelslab_webhook_submit", run_id, "submit")
    assert TOKEN not in json.dumps(manifest)
    job_id = manifest["job_id"]

    def landed() -> list[dict[str, Any]]:
        runs = pushed.airflow.call("GET", "dags/modelslab_webhook_land/dagRuns?order_by=-id")["dag_runs"]
        found = []
        for run in runs:
            jobs = pushed.airflow.xcom("modelslab_webhook_land", run["dag_run_id"], "ready") or []
            for index, job in enumerate(jobs):
                if job["job_id"] == job_id:
                    found.append(
                        pushed.airflow.xcom("modelslab_webhook_land", run["dag_run_id"], "land", map_index=index)
                    )
        return [one for one in found if one]

    wait_until(lambda: bool(landed()), [], what="the run that lands the video", interval=0.5)
    (result,) = landed()
    assert result["uri"].startswith(f"s3://{pushed.bucket}/pushed/ready/")
    place = S3Uri.parse(result["uri"])
    assert pushed.s3.client().head_object(Bucket=place.bucket, Key=place.key)["ContentLength"] == result["bytes"]
    assert len(events_of(pushed, job_id)) == 1
    pushed.airflow.call("PATCH", "dags/modelslab_webhook_land", {"is_paused": True})  # the others need no runs


def test_the_same_call_many_times(pushed: WholeStack, endpoint: GatedEndpoint, call: Call) -> None:
    job_id = done(endpoint)
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: call({"status": "success", "id": int(job_id)}), range(20)))
    assert answers == [RECEIVED] * 20
    assert call({"status": "success", "id": job_id, "track_id": "another"}) == RECEIVED
    assert events_of(pushed, job_id) == [
        {
            "job_id": job_id,
            "conn_id": CONNECTION,
            "status": "finished",
            "links": 1,
            "claimed_track_id": None,
            "from_webhook": True,
        }
    ]


def test_a_job_that_was_told_before_a_restart(pushed: WholeStack, endpoint: GatedEndpoint, call: Call) -> None:
    job_id = done(endpoint)
    assert call({"id": job_id}) == RECEIVED
    pushed.airflow.kill("api-server")
    pushed.airflow.add("api-server")
    wait_until(lambda: pushed.airflow.health().get("scheduler") == "healthy", [], what="the new API server")
    assert call({"id": job_id}) == RECEIVED
    assert len(events_of(pushed, job_id)) == 1


def test_what_is_claimed_and_not_so(pushed: WholeStack, endpoint: GatedEndpoint, call: Call) -> None:
    endpoint.shut()
    running = endpoint.submit(KEY)
    others = endpoint.submit("another-key")
    before = events(pushed)
    for job_id in (running, others, "999999999", "no-such-job"):
        claim = {
            "status": "success",
            "id": job_id,
            "output": ["https://evil.example/x.mp4"],
            "track_id": "a.b/c/submission1",
        }
        assert call(claim) == RECEIVED
        assert call({"status": "failed", "id": job_id, "message": "nonsense"}) == RECEIVED
    assert events(pushed) == before

    endpoint.open()
    wait_until(lambda: endpoint.fetch("another-key", others)["status"] == "success", [], what="the job")
    assert call({"status": "success", "id": others}) == RECEIVED  # it is done, and not this key's
    assert call({"status": "failed", "id": running}) == RECEIVED  # it is done, whatever the call says
    assert [extra["job_id"] for extra in events(pushed)[: -len(before) or None]] == [running]


@pytest.mark.parametrize("token", ["x" * 47, TOKEN[:-1], TOKEN.upper(), f"{TOKEN}/", f"x/{TOKEN}", "%00", "%ff", ""])
def test_a_wrong_token(call: Call, endpoint: GatedEndpoint, pushed: WholeStack, token: str) -> None:
    before = events(pushed)
    status, said = call({"status": "success", "id": done(endpoint)}, token=token)
    assert status in ({404, 405} if token == "" else {404})
    assert said == {"detail": "Not Found" if status == 404 else "Method Not Allowed"}
    assert events(pushed) == before


def test_a_token_that_is_being_exchanged(call: Call, endpoint: GatedEndpoint, pushed: WholeStack) -> None:
    job_id = done(endpoint)
    assert call({"id": job_id}, token=OLD_TOKEN) == RECEIVED
    assert len(events_of(pushed, job_id)) == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods(call: Call, method: str) -> None:
    for token in (TOKEN, "x" * 47):
        assert call(method=method, raw=b"", token=token) == (405, {"detail": "Method Not Allowed"})


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"not json",
        b"[]",
        b'[{"id": 1}]',
        b"null",
        b'"1"',
        b"{}",
        b'{"id": null}',
        b'{"id": true}',
        b'{"id": 1.5}',
        b'{"id": []}',
        b'{"id": {"id": 1}}',
        b'{"id": "../../admin"}',
        b'{"id": "1 OR 1=1"}',
        b'{"id": "\\u0000"}',
        b'{"id": "\\ud800"}',
        b'{"id": ' + b"9" * 5000 + b"}",
        b'{"id": 1',
        b'\xff\xfe{"id": 1}',
        b'{"id": "\xff"}',
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b"[" * 60_000,
    ],
    ids=range(22),
)
def test_malformed(call: Call, raw: bytes) -> None:
    assert call(raw=raw) == (400, {"detail": "Bad Request"})


def test_huge(call: Call, pushed: WholeStack) -> None:
    big = json.dumps({"id": 1, "filler": "x" * 10_000_000}).encode()

    def chunks() -> Iterator[bytes]:
        for start in range(0, len(big), 65536):
            yield big[start : start + 65536]

    for raw in (big, chunks()):
        answer = None
        with suppress(requests.ConnectionError):  # the server hangs up, which a caller may see before the answer
            answer = call(raw=raw)
        assert answer in (None, (413, {"detail": "Payload Too Large"}))
    assert call({"id": "1", "filler": "x" * 65_536}) == (413, {"detail": "Payload Too Large"})
    assert call({"id": "1", "filler": "x" * 60_000}) == RECEIVED
    assert pushed.airflow.health()["scheduler"] == "healthy"


def test_secrets_are_in_no_log(call: Call, pushed: WholeStack, endpoint: GatedEndpoint) -> None:
    """The last one: everything above has been logged by now."""
    assert call({"id": "1"}, token=TOKEN) == RECEIVED
    access = pushed.airflow.parts["api-server"].log.read_text()
    assert "/modelslab/webhook/***" in access
    files = [file for folder in (pushed.folder, endpoint.folder) for file in folder.rglob("*.log*") if file.is_file()]
    assert len(files) > 8
    for secret in (KEY, TOKEN, OLD_TOKEN):
        assert [str(file) for file in files if secret.encode() in file.read_bytes()] == []
