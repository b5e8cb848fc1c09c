from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_modelslab.api.errors import InvalidRequestError
from airflow_provider_modelslab.api.response import Finished
from airflow_provider_modelslab.storage.landing import LandedObject
from airflow_provider_modelslab.storage.result_manifest import (
    Job,
    finished_manifest,
    landed_manifest,
    seed_of,
    submitted_manifest,
)
from airflow_provider_modelslab.storage.uri import S3Uri

SUBMITTED_AT = 1_795_406_400.25  # 2026-11-23T04:00:00.250000+00:00
JOB = Job(
    job_id="7",
    conn_id="modelslab_default",
    submitted_at=SUBMITTED_AT,
    eta=12.5,
    request={"model_id": "dark-sushi-mix", "seed": 1, "init_video": "https://example.com/in.mp4?sig=secret"},
    meta={"seed": 2, "key": "secret"},
)
FINISHED = Finished("7", ("https://example.com/out.mp4?sig=1", "https://cdn.example.com/out.mp4"), {"seed": 3}, 8.5)
ALIASED = replace(JOB, meta={**JOB.meta, "model_id": "demo"})
LANDED = LandedObject(
    uri=S3Uri("clips", "out.mp4"),
    bytes=9,
    sha256="ab",
    content_type="video/mp4",
    etag="e",
    source_url="https://example.com/out.mp4",
    attempts=1,
    seconds=0.5,
)


def test_a_job_travels_as_plain_json() -> None:
    data = json.loads(json.dumps(JOB.to_dict()))
    assert Job.from_dict(data) == JOB
    assert Job.from_dict({**data, "added_by_a_newer_version": 1}) == JOB
    assert Job.from_dict({"job_id": "7", "conn_id": "c"}) == Job("7", "c")


@pytest.mark.parametrize("manifest", [submitted_manifest(JOB), finished_manifest(JOB, FINISHED)])
def test_a_manifest_leads_back_to_its_job(manifest: dict[str, Any]) -> None:
    job = Job.from_xcom(json.loads(json.dumps(manifest)), conn_id="another")
    assert (job.job_id, job.conn_id, job.submitted_at) == ("7", "modelslab_default", SUBMITTED_AT)
    assert job.request["model_id"] == "dark-sushi-mix"
    assert "secret" not in json.dumps(manifest)


@pytest.mark.parametrize("value", ["7", " 7 ", 7])
def test_an_id_alone_is_a_job(value: object) -> None:
    assert Job.from_xcom(value, conn_id="c") == Job("7", "c")


@pytest.mark.parametrize("value", [None, "", " ", True, 7.5, [], {}, {"job_id": None, "links": []}, "{'job_id': '7'}"])
def test_anything_else_is_not(value: object) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        Job.from_xcom(value, conn_id="c")
    assert set(caught.value.fields) == {"job"}


def test_links_without_an_id_can_still_be_landed() -> None:
    manifest = finished_manifest(Job("", "c"), FINISHED)
    assert Job.from_xcom(manifest, conn_id="d") == Job("", "c", meta={"seed": 3})


def test_what_the_manifests_say() -> None:
    common = {
        "schema_version": 1,
        "job_id": "7",
        "conn_id": "modelslab_default",
        "model_id": "dark-sushi-mix",
        "submitted_at": "2026-11-23T04:00:00.250000+00:00",
        "expires_at": "2026-11-24T04:00:00.250000+00:00",
    }
    submitted = submitted_manifest(JOB)
    assert {name: submitted[name] for name in common} == common
    assert (submitted["status"], submitted["eta_s"]) == ("submitted", 12.5)
    finished = finished_manifest(JOB, FINISHED)
    assert finished["links"] == list(FINISHED.links)
    assert (finished["status"], finished["seed"], finished["generation_time_s"]) == ("finished", 3, 8.5)
    assert landed_manifest(JOB, FINISHED, LANDED, S3Uri("clips", "out.mp4.json")) == {
        **common,
        "status": "landed",
        "uri": "s3://clips/out.mp4",
        "sidecar_uri": "s3://clips/out.mp4.json",
        "bytes": 9,
        "sha256": "ab",
        "etag": "e",
        "content_type": "video/mp4",
        "seed": 3,
        "generation_time_s": 8.5,
    }


def test_a_job_known_by_its_id_has_no_times() -> None:
    manifest = finished_manifest(Job("7", "c"), FINISHED)
    assert (manifest["submitted_at"], manifest["expires_at"], manifest["model_id"]) == (None, None, None)


def test_the_seed_in_force() -> None:
    without = Finished("7", (), {})
    assert seed_of(JOB, FINISHED) == 3  # as the endpoint echoed it with the result
    assert seed_of(JOB, without) == 2  # as it echoed it at the submission: fetch answers have no meta
    assert seed_of(Job("7", "c", request={"seed": 1}), without) == 1
    assert seed_of(Job("7", "c", request={"seed": None}), without) is None


@pytest.mark.parametrize("odd", [None, "", 7, {"name": "demo"}])
def test_the_model_is_the_one_that_the_endpoint_names(odd: object) -> None:
    manifests = (submitted_manifest(ALIASED), finished_manifest(ALIASED, FINISHED))
    assert {manifest["model_id"] for manifest in manifests} == {"demo"}
    assert submitted_manifest(replace(JOB, meta={"model_id": odd}))["model_id"] == "dark-sushi-mix"
