"""Results in one's own bucket: ``update_s3`` and ``reset_s3`` against a real S3 server over TLS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import requests

from airflow_provider_modelslab.endpoint.settings import Settings
from tests.support.endpoint import Caller, serving
from tests.support.endpoint_engine import ScriptedEngine
from tests.support.s3 import S3Server, update_s3_details

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

UPDATE, RESET = "/api/v1/enterprise/update_s3", "/api/v1/enterprise/reset_s3"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(state_dir=tmp_path / "state", hold_s=120, allow_private_addresses=True)


@pytest.fixture
def details(s3_server: S3Server, bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("AWS_CA_BUNDLE", str(s3_server.ca_path))
    return update_s3_details(s3_server, bucket, public_path="/generations/")


def test_results_go_to_the_bucket_until_reset(
    settings: Settings,
    s3_server: S3Server,
    s3: S3Client,
    bucket: str,
    details: dict[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG", "airflow_provider_modelslab")
    with serving(settings, ScriptedEngine()) as caller:
        answer = caller.post(UPDATE, **details)
        assert answer.json() == {"message": "S3 details updated for video", "status": "success"}
        job = caller.submit(output_type="gif")
        key = f"generations/{job['meta']['file_prefix']}.gif"
        assert job["output"] == job["proxy_links"] == [f"{s3_server.endpoint_url}/{bucket}/{key}"]
        assert caller.fetch(job["id"])["output"] == job["output"]
        anonymous = requests.get(job["output"][0], verify=str(s3_server.ca_path), timeout=60)
        assert (anonymous.status_code, anonymous.headers["content-type"]) == (200, "image/gif")
        assert anonymous.content.startswith(b"GIF89a")
        grants = s3.get_object_acl(Bucket=bucket, Key=key)["Grants"]
        assert any(
            grant["Permission"] == "READ" and grant["Grantee"].get("URI", "").endswith("AllUsers") for grant in grants
        )
        queued = caller.submit(instant_response=True)
        assert queued["future_links"] == [
            f"{s3_server.endpoint_url}/{bucket}/generations/{queued['meta']['file_prefix']}.mp4"
        ]
        assert caller.finished(queued["id"])["output"] == queued["future_links"]
        assert caller.submit(temp=True)["output"][0].startswith(f"{caller.url}/temp/")
        assert Caller(caller.url, "another key").submit()["output"][0].startswith(f"{caller.url}/generations/")
        assert caller.post(RESET, deploy_type="video").json()["status"] == "success"
        assert caller.submit()["output"][0].startswith(f"{caller.url}/generations/")
    assert details["aws_secret_access_key"] not in caplog.text + answer.text + json.dumps(job)
    assert details["aws_access_key_id"] not in caplog.text + answer.text + json.dumps(job)
    assert not list((settings.state_dir / "work").rglob("*.gif"))


def test_details_survive_a_restart(settings: Settings, details: dict[str, str]) -> None:
    with serving(settings, ScriptedEngine()) as caller:
        caller.post(UPDATE, **details)
    with serving(settings, ScriptedEngine()) as caller:
        assert caller.submit()["output"][0].startswith(details["public_url"])


def test_details_for_another_deploy_type_change_nothing_here(settings: Settings, details: dict[str, str]) -> None:
    del details["deploy_type"]
    with serving(settings, ScriptedEngine()) as caller:
        assert caller.post(UPDATE, **details).json()["message"] == "S3 details updated for text_to_image"
        assert caller.submit()["output"][0].startswith(f"{caller.url}/generations/")


def test_missing_details_are_named(settings: Settings) -> None:
    with serving(settings, ScriptedEngine()) as caller:
        answer = caller.post(UPDATE, deploy_type="video", region_name="r", public_url="https://cdn.example.com")
        assert list(answer.json()["message"]) == [
            "endpoint_url",
            "aws_access_key_id",
            "aws_secret_access_key",
            "image_directory",
        ]
        wrong = caller.post(RESET, deploy_type="films").json()
        assert list(wrong["message"]) == ["deploy_type"]


def test_a_bucket_that_refuses_fails_the_job_and_not_the_worker(settings: Settings, details: dict[str, str]) -> None:
    details["endpoint_url"] = details["endpoint_url"].rpartition("/")[0] + "/no-such-bucket-here"
    with serving(settings, ScriptedEngine()) as caller:
        caller.post(UPDATE, **details)
        failed = caller.submit()
        assert failed["status"] == "failed"
        assert "the upload to bucket 'no-such-bucket-here' was refused (NoSuchBucket)" in failed["message"]
        assert caller.submit(temp=True)["status"] == "success"
