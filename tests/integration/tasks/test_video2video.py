"""The main operator from its start to an object in S3, against a real endpoint and a real S3 server over TLS."""

from __future__ import annotations

import hashlib
import json
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_modelslab.storage.result_manifest import LINK_LIFETIME
from tests.integration.tasks.conftest import FRAMES, Restyle, Store, WatchedEngine
from tests.support.connections import set_modelslab
from tests.support.endpoint import Caller
from tests.support.s3 import S3Server, keys_of
from tests.support.samples import small_gif, small_mp4
from tests.support.tasks import (
    RUN_ID,
    TaskInstance,
    context_of,
    deferral_of,
    event_of,
    execute,
    in_the_triggerer,
    resume,
    run,
    through_serde,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = pytest.mark.usefixtures("connections")
DEFAULT_NAME = "restyling/restyle/manual__2026-11-23T04_00_00_00_00"


def check_landed(manifest: dict[str, Any], store: Store) -> dict[str, Any]:
    """The object is what the manifest and the sidecar say; returns the sidecar."""
    content = store.read(manifest["uri"])
    sidecar: dict[str, Any] = json.loads(store.read(manifest["sidecar_uri"]))
    assert manifest["status"] == "landed"
    assert manifest["sidecar_uri"] == f"{manifest['uri']}.json"
    assert len(content) == manifest["bytes"] == sidecar["bytes"]
    assert hashlib.sha256(content).hexdigest() == manifest["sha256"] == sidecar["sha256"]
    assert store.content_type(manifest["uri"]) == manifest["content_type"] == sidecar["content_type"]
    assert (manifest["job_id"], manifest["seed"]) == (sidecar["job_id"], sidecar["seed"])
    assert through_serde(manifest) == manifest  # as XCom hands it on
    return sidecar


@pytest.mark.slow
def test_it_waits_in_the_triggerer(
    restyle: Restyle, store: Store, engine: WatchedEngine, gate: threading.Event, bucket: str
) -> None:
    deferred = deferral_of(restyle(deferrable=True))
    assert (len(engine.submitted), engine.finished) == (1, [])
    assert deferred.method_name == "execute_complete"
    assert isinstance(deferred.timeout, timedelta)
    trigger = in_the_triggerer(deferred)
    gate.set()
    manifest = resume(restyle(deferrable=True), deferred, event_of(trigger))
    sidecar = check_landed(manifest, store)
    assert manifest["uri"] == f"s3://{bucket}/styled/{DEFAULT_NAME}.mp4"
    assert store.frames(manifest["uri"]) == FRAMES
    assert (sidecar["seed"], sidecar["request"]["prompt"]) == (11, "a fox")
    assert sidecar["meta"]["num_frames"] == FRAMES
    assert (len(engine.submitted), len(engine.finished)) == (1, 1)


def test_it_waits_on_the_worker(restyle: Restyle, store: Store, engine: WatchedEngine, bucket: str) -> None:
    manifest = execute(restyle(deferrable=False))
    check_landed(manifest, store)
    assert manifest["uri"] == f"s3://{bucket}/styled/{DEFAULT_NAME}.mp4"
    assert store.frames(manifest["uri"]) == FRAMES
    assert manifest["model_id"] == "dark-sushi-mix"
    assert manifest["conn_id"] == "modelslab_default"
    submitted, expires = (datetime.fromisoformat(manifest[name]) for name in ("submitted_at", "expires_at"))
    assert expires - submitted == LINK_LIFETIME
    assert len(engine.submitted) == 1


def test_both_ways_give_the_same_manifest(restyle: Restyle) -> None:
    first = run(lambda: restyle(deferrable=True, destination="one.mp4"), context_of(TaskInstance(run_id="one")))
    second = run(lambda: restyle(deferrable=False, destination="two.mp4"), context_of(TaskInstance(run_id="two")))
    assert set(first) == set(second)
    assert (first["sha256"], first["bytes"]) == (second["sha256"], second["bytes"])  # the same seed


def test_the_endpoint_gets_what_was_asked_for(restyle: Restyle, engine: WatchedEngine, clip: str) -> None:
    context = context_of(prompt="a {red} fox", strength="0.4")
    execute(restyle(prompt="{{ params.prompt }}", strength="{{ params.strength }}", fps=8), context)
    [request] = engine.submitted
    assert (request.prompt, request.strength, request.fps) == ("a {red} fox", 0.4, 8)
    assert (request.init_video, request.num_frames, request.seed) == (clip, FRAMES, 11)
    assert request.instant_response is True
    # The job can be found again by the task's name.
    assert request.track_id is not None
    assert "restyling.restyle" in request.track_id
    assert RUN_ID in request.track_id


@pytest.mark.slow
@pytest.mark.parametrize("output_type", ["GIF", "{{ params.kind }}"])
def test_a_gif(restyle: Restyle, store: Store, output_type: str) -> None:
    context = context_of(kind=" Gif ")
    manifest = run(lambda: restyle(output_type=output_type, deferrable=True), context)
    check_landed(manifest, store)
    assert manifest["uri"].endswith(".gif")
    assert manifest["content_type"] == "image/gif"
    assert store.frames(manifest["uri"]) == FRAMES


def test_the_endpoints_own_type(restyle: Restyle, store: Store) -> None:
    manifest = execute(restyle(output_type=None))
    check_landed(manifest, store)
    assert manifest["uri"].endswith(".mp4")


@pytest.mark.parametrize("output_type", ["mp4", "gif"])
def test_a_result_as_base64_text(restyle: Restyle, store: Store, output_type: str) -> None:
    manifest = execute(restyle(base64=True, output_type=output_type))
    check_landed(manifest, store)
    assert manifest["uri"].endswith(f".{output_type}")
    assert store.frames(manifest["uri"]) == FRAMES


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_answer_with_the_result_needs_no_wait(
    restyle: Restyle, store: Store, engine: WatchedEngine, deferrable: bool
) -> None:
    manifest = execute(restyle(instant_response=False, deferrable=deferrable))  # a deferral would raise
    check_landed(manifest, store)
    assert engine.submitted[0].instant_response is False
    assert manifest["generation_time_s"] is not None


# -- the clip -------------------------------------------------------------------------------------------------------


def test_an_object_in_s3_is_presigned(
    restyle: Restyle, s3: S3Client, s3_server: S3Server, engine: WatchedEngine, bucket: str
) -> None:
    s3.put_object(Bucket=bucket, Key="in/clip one.gif", Body=small_gif())
    manifest = execute(restyle(init_video=f"s3://{bucket}/in/clip one.gif", timeout=600))
    link = engine.submitted[0].init_video
    assert link.startswith(f"{s3_server.endpoint_url}/{bucket}/in/clip%20one.gif?")
    assert f"X-Amz-Expires={600 + 3600}" in link  # the wait in the queue included
    assert requests.get(link, verify=str(s3_server.ca_path), timeout=60).content == small_gif()
    sidecar = json.loads(Store(s3).read(manifest["sidecar_uri"]))
    assert "X-Amz" not in json.dumps(sidecar)


def test_a_local_file_is_uploaded_once(
    restyle: Restyle, s3: S3Client, s3_server: S3Server, engine: WatchedEngine, bucket: str, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(small_mp4())
    key = f"styled/inputs/{hashlib.sha256(small_mp4()).hexdigest()}.mp4"
    execute(restyle(init_video=str(path)), context_of(TaskInstance(run_id="one")))
    assert [found for found in keys_of(s3, bucket) if "inputs/" in found] == [key]
    mark = {"TagSet": [{"Key": "put", "Value": "once"}]}
    s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": [{"Key": "put", "Value": "once"}]})
    execute(restyle(init_video=path.as_uri()), context_of(TaskInstance(run_id="two")))
    assert s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"] == mark["TagSet"]
    first, second = (request.init_video for request in engine.submitted)
    assert first.partition("?")[0] == second.partition("?")[0] == f"{s3_server.endpoint_url}/{bucket}/{key}"
    assert requests.get(second, verify=str(s3_server.ca_path), timeout=60).content == small_mp4()


def test_a_link_that_only_the_endpoint_can_read(restyle: Restyle, engine: WatchedEngine) -> None:
    execute(restyle(init_video="http://gpu-box.invalid/in.mp4", check_input=False))
    assert engine.submitted[0].init_video == "http://gpu-box.invalid/in.mp4"


# -- where it lands -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "place"),
    [
        ("day/{{ params.name }}.mp4", "s3://BUCKET/styled/day/fox.mp4"),
        ("s3://BUCKET/else where/ä.mp4", "s3://BUCKET/else where/ä.mp4"),
        ("s3://BUCKET", f"s3://BUCKET/{DEFAULT_NAME}.mp4"),
    ],
)
def test_forms_of_the_destination(restyle: Restyle, store: Store, bucket: str, destination: str, place: str) -> None:
    destination, place = (text.replace("BUCKET", bucket) for text in (destination, place))
    manifest = execute(restyle(destination=destination), context_of(name="fox"))
    check_landed(manifest, store)
    assert manifest["uri"] == place


def test_mapped_tasks_land_side_by_side(restyle: Restyle, store: Store) -> None:
    uris = {execute(restyle(), context_of(TaskInstance(map_index=index)))["uri"] for index in (0, 1)}
    assert {uri.rpartition("/")[2] for uri in uris} == {"0.mp4", "1.mp4"}


def test_another_bucket_and_no_bucket_in_the_connection(
    restyle: Restyle, store: Store, endpoint: Caller, s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_modelslab(monkeypatch, endpoint.url, region=s3_server.region, endpoint_url=s3_server.endpoint_url)
    manifest = execute(restyle(destination=f"s3://{bucket}/x.mp4"))
    check_landed(manifest, store)
    manifest = execute(restyle(), context_of(TaskInstance(run_id="no-destination")))
    assert (manifest["status"], "uri" in manifest) == ("finished", False)


def test_a_result_that_is_not_to_be_landed(restyle: Restyle, endpoint: Caller, s3: S3Client, bucket: str) -> None:
    manifest = run(lambda: restyle(land_result=False, deferrable=True))
    assert manifest["status"] == "finished"
    assert manifest["links"][0].startswith(endpoint.url)
    assert requests.get(manifest["links"][0], timeout=60).content[4:8] == b"ftyp"
    assert [key for key in keys_of(s3, bucket) if key.endswith((".mp4", ".mp4.json"))] == []
